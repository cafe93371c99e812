"""``avbench leaderboard``: tables from records alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from os.path import relpath
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.places import check_run_directory, write_output

if TYPE_CHECKING:
    from avbench.report.board import Board
    from avbench.report.records import Archive
    from avbench.report.selection import Section, Selection

_FORMATS = ("md", "html", "latex", "csv", "json")
_OF_TABLES = ("md", "csv", "json")
_CHOOSE, _OTHER = "What is shown", "Other tables"


def leaderboard(
    directories: list[Path] = typer.Argument(help="Run directories."),
    format: str = typer.Option("md", help="md, html, latex, csv or json."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write here instead of to stdout."),
    standalone: bool = typer.Option(False, help="With --format latex: a document that compiles by itself."),
    method: str = typer.Option("", help="Only these methods, as run spells them.", rich_help_panel=_CHOOSE),
    dataset: str = typer.Option("", help="Only these stores.", rich_help_panel=_CHOOSE),
    ipc: str = typer.Option("", help="Only these IPCs: 1,10,all (the whole data).", rich_help_panel=_CHOOSE),
    protocol: str = typer.Option("", help="Only these protocols.", rich_help_panel=_CHOOSE),
    arch: str = typer.Option("", help="Only boards of these evaluation networks.", rich_help_panel=_CHOOSE),
    fusion: str = typer.Option("", help="Only boards of these fusions.", rich_help_panel=_CHOOSE),
    modality: str = typer.Option("", help="Only sets distilled for these: a,v,av.", rich_help_panel=_CHOOSE),
    group_by: str = typer.Option(
        "board",
        help="A section for each: board, dataset, protocol, arch, fusion, method, ipc, modality.",
        rich_help_panel=_CHOOSE,
    ),
    curves: bool = typer.Option(
        False, help="Accuracy by distillation step, from runs with --snapshots.", rich_help_panel=_OTHER
    ),
    fairness: bool = typer.Option(
        False, help="Gains against real samples of equal storage and the whole data.", rich_help_panel=_OTHER
    ),
    against: str = typer.Option(
        "", help="Compare every row with this method, in pairs over shared seeds.", rich_help_panel=_OTHER
    ),
) -> None:
    """Render the leaderboard of one or several run directories. Ranks are those among all rows, also of a part."""
    from avbench.errors import RequestError
    from avbench.report.selection import Selection

    if sum((curves, fairness, bool(against))) > 1:
        raise RequestError("--curves, --fairness and --against are tables of their own: ask for one at a time.")
    other = "--curves" if curves else "--fairness" if fairness else "--against" if against else ""
    _check(format, group_by, standalone, other)
    typed = {"method": method, "ipc": ipc, "modality": modality, "dataset": dataset, "protocol": protocol}
    typed |= {"architecture": arch, "fusion": fusion}
    wanted = Selection(tuple((column, text) for column, text in typed.items() if text))
    if output is not None and output.is_dir():
        file = output / f"board.{'tex' if format == 'latex' else format}"
        raise RequestError(f"--output {output} is a folder: give a file's name, such as {file}.")
    found = _open(directories)
    places = ", ".join(str(directory) for directory in directories)
    if other:
        text = _other_table(found, wanted, format, against or other, places)
    else:
        text = _boards(_built(found, places), wanted, format, group_by, standalone, output)
    write_output(text, output)


def _check(format: str, group_by: str, standalone: bool, other: str) -> None:
    from avbench.errors import RequestError, nearest
    from avbench.report.selection import GROUPS

    if format not in _FORMATS:
        raise RequestError(f"--format {format!r}: {nearest(format, _FORMATS)}")
    if other and format not in _OF_TABLES:
        raise RequestError(f"--format {format} is for boards; {other} gives {', '.join(_OF_TABLES)}.")
    if standalone and format != "latex":
        raise RequestError(f"--standalone makes a LaTeX document: it goes with --format latex, not {format}.")
    if group_by not in GROUPS:
        raise RequestError(f"--group-by {group_by!r}: {nearest(group_by, GROUPS)}")
    if group_by != "board" and (other or format not in ("md", "latex")):
        raise RequestError(
            f"--group-by {group_by} arranges the boards of md and latex; "
            f"{other or f'{format} holds the columns to group by'}: leave it out."
        )


def _open(directories: Sequence[Path]) -> list[Archive]:
    """The run directories; what in them can't be read is said on stderr."""
    from avbench.report.records import Archive, left_out

    for directory in directories:
        check_run_directory(directory)
    archives = [Archive(directory) for directory in directories]
    _tell(left_out(archives))
    return archives


def _tell(notes: Iterable[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _built(found: Sequence[Archive], places: str) -> list[Board]:
    from avbench.errors import RequestError
    from avbench.report.board import build_boards

    boards = build_boards(found)
    if not boards:
        raise RequestError(f"no finished evaluation under {places}: run avbench run --out there first.")
    return boards


def _boards(
    boards: Sequence[Board], wanted: Selection, format: str, group_by: str, standalone: bool, output: Path | None
) -> str:
    from avbench.report.mixing import mixed
    from avbench.report.render import render, render_sections
    from avbench.report.selection import sections

    shown = wanted.boards(boards)
    notes = mixed(shown) if len(shown) > 1 else []
    _tell(notes)
    if wanted and sum(len(board.rows) for board in shown) < sum(len(board.rows) for board in boards):
        notes = [*notes, "A part of the rows is shown: ranks, marks and differences are those among all."]
    if format == "html":
        from avbench.report.page import render_page

        return render_page(shown, notes=notes, link=_links(output))
    parts: list[Section] = sections(shown, group_by)
    if format == "latex":
        from avbench.report.latex import to_latex

        return to_latex(parts, notes, standalone)
    if format == "md" and (notes or group_by != "board"):
        return render_sections(parts, notes)
    return render(shown, format)


def _links(output: Path | None) -> Callable[[Path], str]:
    """How a page names a record: from its own folder where it is a file, else by the whole address."""
    from urllib.parse import quote

    if output is None:
        return lambda path: path.resolve().as_uri()
    folder = output.resolve().parent
    return lambda path: quote(Path(relpath(path.resolve(), folder)).as_posix())


def _other_table(found: Sequence[Archive], wanted: Selection, format: str, which: str, places: str) -> str:
    """A table other than the boards: ``--curves``, ``--fairness``, or pairs against the method ``which``."""
    from avbench.errors import RequestError
    from avbench.report.curves import learning_curves
    from avbench.report.fairness import fairness, render_fairness
    from avbench.report.pairs import compare, render_pairs
    from avbench.report.render import render_curves

    if which == "--curves":
        frame = learning_curves(found)
        if frame.empty:
            raise RequestError(f"no judged snapshot under {places}: run avbench run --snapshots 0,50,… --out there.")
        return render_curves(wanted.lines(frame), format)
    boards = _built(found, places)
    if which == "--fairness":
        # Measured on all rows: a row that is not shown may be what another is compared with.
        frame = fairness(boards)
        if frame.empty:
            raise RequestError(f"no board of accuracies with a method under {places}: there is nothing to compare.")
        return render_fairness(wanted.lines(frame), format)
    return render_pairs(compare(boards, which, wanted), format)
