"""``avbench leaderboard``: tables from records alone."""

from __future__ import annotations

from pathlib import Path

import typer


def leaderboard(
    directories: list[Path] = typer.Argument(help="Run directories."),
    format: str = typer.Option("md", help="md, json or csv."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write here instead of to stdout."),
) -> None:
    """Render the leaderboard of one or several run directories."""
    from avbench.errors import RequestError, nearest
    from avbench.report.board import build_boards
    from avbench.report.render import FORMATS, render
    from avbench.results import RunDirectory, write_atomically

    if format not in FORMATS:
        raise RequestError(f"--format {format!r}: {nearest(format, FORMATS)}")
    for directory in directories:
        if not directory.is_dir():
            raise RequestError(f"{directory} is not a run directory: give the folder of avbench run --out.")
    boards = build_boards([RunDirectory(directory) for directory in directories])
    if not boards:
        places = ", ".join(str(directory) for directory in directories)
        raise RequestError(f"no finished evaluation under {places}: run avbench run --out there first.")
    text = render(boards, format)
    if output is None:
        typer.echo(text, nl=False)
        return
    if output.is_dir():
        raise RequestError(f"--output {output} is a folder: give a file's name, such as {output / f'board.{format}'}.")
    try:
        write_atomically(output, text)
    except OSError as error:
        raise RequestError(f"--output {output}: can't be written ({error.strerror}); choose another file.") from None
