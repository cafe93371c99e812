"""``avbench new``: the package of a method or dataset of one's own."""

from __future__ import annotations

from pathlib import Path

import typer


def new(
    kind: str = typer.Argument(help="method or dataset."),
    name: str = typer.Argument(help="What the plugin will be called, such as k-means."),
    output: Path = typer.Option(Path(), "-o", "--output", help="Folder in which the package's own folder is made."),
) -> None:
    """Write a plugin package that installs, passes its own tests and is listed: a place to start from."""
    from avbench.scaffold.package import NewPlugin, write_package

    plugin = NewPlugin(kind, name)
    folder = write_package(plugin, output)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            typer.echo(str(path))
    typer.echo(
        f"Now: pip install -e '{folder}[test]', avbench list {kind}s, pytest {folder}; then write {plugin.module}.py.",
        err=True,
    )
