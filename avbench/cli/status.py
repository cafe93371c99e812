"""``avbench status``: how far the runs of a directory are, from its files alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.places import check_run_directory

if TYPE_CHECKING:
    from avbench.status import Observer, Status

#: What a run directory holds something of, once anything was run there.
_PARTS = ("jobs", "distil", "evaluate", "prerequisite", "claims", "tuning")


def status(
    directory: Path = typer.Argument(help="A run directory; it is only read."),
    watch: bool = typer.Option(False, help="Look again and again until no run is going, or Ctrl-C."),
    every_s: float = typer.Option(2.0, min=0.1, help="Seconds between two looks of --watch."),
    as_json: bool = typer.Option(False, "--json", help="Print the status as JSON."),
) -> None:
    """Show what is done, running, waiting and failed, how fast it goes, and the time left; also from another host."""
    from avbench.cli.status_text import to_json, to_text
    from avbench.errors import RequestError
    from avbench.status import Observer

    if watch and as_json:
        raise RequestError("--json gives one status, --watch shows many: leave one of them out.")
    _check(directory)
    observer = Observer(directory)
    found = _watch(observer, directory, every_s) if watch else observer.look()
    typer.echo(to_json(found, directory) if as_json else to_text(found, directory))


def _check(directory: Path) -> None:
    """Refuse what is no run directory; an empty one may become one."""
    from avbench.errors import RequestError

    check_run_directory(directory)
    try:
        names = [each.name for each in directory.iterdir() if not each.name.startswith(".")]
    except OSError as error:
        raise RequestError(f"{directory} can't be read ({error.strerror}): ask its owner.") from None
    if names and not set(names) & set(_PARTS):
        raise RequestError(
            f"{directory} holds no results of avbench ({', '.join(sorted(names)[:3])}, …): "
            "give the folder of avbench run --out."
        )


def _watch(observer: Observer, directory: Path, every_s: float) -> Status:
    """Show the status until no run is going; the last one is returned to be shown in full."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from avbench.cli.status_text import to_text

    found = observer.look()
    with Live(
        Text(to_text(found, directory)), console=Console(stderr=True), auto_refresh=False, transient=True
    ) as live:
        while found.going:
            time.sleep(every_s)
            found = observer.look()
            live.update(Text(to_text(found, directory)), refresh=True)
    return found
