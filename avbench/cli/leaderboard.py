"""``avbench leaderboard``: tables from records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from avbench.report.board import Board


def leaderboard(
    directories: list[Path] = typer.Argument(help="Run directories."),
    format: str = typer.Option("md", help="md, json or csv."),
    curves: bool = typer.Option(False, help="Accuracy by distillation step, from runs with --snapshots."),
    fairness: bool = typer.Option(False, help="Gains against real samples of equal storage and the whole data."),
    against: str = typer.Option("", help="Compare every row with this method, in pairs over shared seeds."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write here instead of to stdout."),
) -> None:
    """Render the leaderboard of one or several run directories."""
    from avbench.errors import RequestError, nearest
    from avbench.report.board import build_boards
    from avbench.report.curves import learning_curves
    from avbench.report.pairs import compare, render_pairs
    from avbench.report.render import FORMATS, render, render_curves
    from avbench.results import RunDirectory

    if format not in FORMATS:
        raise RequestError(f"--format {format!r}: {nearest(format, FORMATS)}")
    for directory in directories:
        if not directory.is_dir():
            raise RequestError(f"{directory} is not a run directory: give the folder of avbench run --out.")
    found = [RunDirectory(directory) for directory in directories]
    places = ", ".join(str(directory) for directory in directories)
    if sum((curves, fairness, bool(against))) > 1:
        raise RequestError("--curves, --fairness and --against are tables of their own: ask for one at a time.")
    if curves:
        frame = learning_curves(found)
        if frame.empty:
            raise RequestError(f"no judged snapshot under {places}: run avbench run --snapshots 0,50,… --out there.")
        text = render_curves(frame, format)
    else:
        boards = build_boards(found)
        if not boards:
            raise RequestError(f"no finished evaluation under {places}: run avbench run --out there first.")
        if against:
            text = render_pairs(compare(boards, against), format)
        else:
            text = _fairness(boards, format, places) if fairness else render(boards, format)
    _write(text, output, format)


def _fairness(boards: Sequence[Board], format: str, places: str) -> str:
    from avbench.errors import RequestError
    from avbench.report.fairness import fairness, render_fairness

    frame = fairness(boards)
    if frame.empty:
        raise RequestError(f"no board of accuracies with a method under {places}: there is nothing to compare.")
    return render_fairness(frame, format)


def _write(text: str, output: Path | None, format: str) -> None:
    from avbench.errors import RequestError
    from avbench.results import write_atomically

    if output is None:
        typer.echo(text, nl=False)
        return
    if output.is_dir():
        raise RequestError(f"--output {output} is a folder: give a file's name, such as {output / f'board.{format}'}.")
    try:
        write_atomically(output, text)
    except OSError as error:
        raise RequestError(f"--output {output}: can't be written ({error.strerror}); choose another file.") from None
