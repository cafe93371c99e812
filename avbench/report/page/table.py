"""A board as a table whose cells say what they sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from avbench.report.board import Board
from avbench.report.html import esc
from avbench.report.page.choices import row_facts
from avbench.report.page.marks import Marks, series_of
from avbench.report.render import VERIFIED, cells, has_reported, header, ranks_by_share, sources

Row = Mapping[str, Any]
Link = Callable[[Path], str]

_WHERE_THEY_DIFFER = {"modality": "distilled", "distilled_with": "distilled with", "labels": "labels"}


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        html: the content of a row's cell.
        value: what the row sorts by, a number or a text; ``None`` where it has none, which sorts last.
        kind: ``number`` or ``text``: how it is aligned and compared. ``plain``: it does not sort.
    """

    title: str
    html: Callable[[Row], str]
    value: Callable[[Row], Any]
    kind: str = "number"

    def head(self) -> str:
        # A head may break over lines, but not before its unit nor after its Δ.
        title = self.title.replace("Δ ", "Δ\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")
        return f'<th scope="col" class="{self.kind}">{esc(title)}</th>'

    def cell(self, row: Row) -> str:
        value = self.value(row) if self.kind != "plain" else None
        sorts = "" if _missing(value) else f' data-value="{esc(value)}"'
        if self.title == "method":
            return f'<th scope="row"{sorts}>{self.html(row)}</th>'
        return f'<td class="{self.kind}"{sorts}>{self.html(row)}</td>'


def board_table(board: Board, marks: Marks, link: Link | None) -> str:
    """The table in a box of its own, which scrolls where the window is narrow."""
    columns = _columns(board, marks, link)
    lines = [_line(row, columns) for row in _rows(board)]
    reported = "".join(f'<p class="source">{esc(source)}</p>' for source in sources(board))
    return f"""<div class="box" tabindex="0" role="region" aria-label="Table: {esc(board.title)}">
<table class="rows">
<thead><tr>{"".join(column.head() for column in columns)}</tr></thead>
<tbody>
{chr(10).join(lines)}
</tbody>
</table>
</div>{reported}"""


def _rows(board: Board) -> Sequence[Row]:
    """The rows of a board with their number, series, what Markdown shows of them, and whether their IPC ends here."""
    series = series_of(board)
    numbers = {each: number for number, each in enumerate(dict.fromkeys(series))}
    titles, lines = cells(board)
    rows: list[dict[str, Any]] = [
        {
            **{str(name): value for name, value in row.items()},
            "number": number,
            "series": series[number],
            "series_number": numbers[series[number]],
            "shown": dict(zip(titles, lines[number], strict=True)),
            "ends": False,
        }
        for number, row in enumerate(board.rows.to_dict("records"))
    ]
    for row, following in pairwise(rows):
        row["ends"] = any(row[name] != following[name] for name in ("modality", "ipc"))
    return rows


def _line(row: Row, columns: Sequence[Column]) -> str:
    facts = f'data-row="{row["number"]}" data-series="{row["series_number"]}" {row_facts(row["ipc"], row["modality"])}'
    ends = ' class="ends"' if row["ends"] else ""
    return f"<tr {facts}{ends}>{''.join(column.cell(row) for column in columns)}</tr>"


def _columns(board: Board, marks: Marks, link: Link | None) -> list[Column]:
    """All columns; those in which no row says anything of its own are left out."""
    frame = board.rows
    columns = [
        Column("rank", lambda row: _number(row["rank"], "d"), lambda row: row["rank"]),
        Column("method", lambda row: _method(row, marks), lambda row: row["method"], "text"),
    ]
    for name, title in _WHERE_THEY_DIFFER.items():
        if frame[name].nunique() > 1:
            columns.append(Column(title, _text(name), _value(name), "text"))
    # The whole data has more than any IPC.
    columns.append(
        Column("ipc", lambda row: str(row["ipc"] or "all"), lambda row: row["ipc"] if row["ipc"] else 1 << 30)
    )
    columns += [_scored(board, part) for part in board.parts]
    columns.append(_difference("Δ baseline", "delta", board))
    columns += _reported(board)
    columns += [
        Column("seeds × networks", _count, lambda row: row["n"]),
        Column("ratio %", lambda row: _number(row["ratio"], ".2f", 100), _value("ratio")),
        Column("bytes", _shown("bytes"), _value("bytes")),
    ]
    if frame["duration_s"].notna().any():
        columns.append(Column("time", _shown("time"), _value("duration_s")))
    if VERIFIED in frame:
        columns.append(Column(VERIFIED, _text(VERIFIED), _value(VERIFIED), "text"))
    if link is not None and any(board.records):
        columns.append(Column("records", _records(board.records, link), lambda _: None, "plain"))
    return columns


def _scored(board: Board, part: str) -> Column:
    """Mean and deviation of a part."""
    factor = 1 if part in board.plain else 100

    def html(row: Row) -> str:
        return _spread(row[f"{part}_mean"], row[f"{part}_std"], factor)

    return Column(header(board, part), html, _value(f"{part}_mean"))


def _reported(board: Board) -> list[Column]:
    """What a paper reports, and the difference, where it reports anything."""
    if not has_reported(board):
        return []
    factor = 100 if ranks_by_share(board) else 1
    title = "reported %" if ranks_by_share(board) else "reported"

    def html(row: Row) -> str:
        return _spread(row["reported"], row["reported_std"], factor)

    return [Column(title, html, _value("reported")), _difference("Δ reported", "delta_reported", board)]


def _difference(title: str, name: str, board: Board) -> Column:
    factor = 100 if ranks_by_share(board) else 1
    return Column(title, lambda row: _number(row[name], "+.1f", factor), _value(name))


def _spread(mean: Any, std: Any, factor: int) -> str:
    if _missing(mean):
        return _DASH
    return f"{factor * mean:.1f}" + ("" if _missing(std) else f" <i>± {factor * std:.1f}</i>")


def _method(row: Row, marks: Marks) -> str:
    name = esc(row["method"])
    if row["best"]:
        name = f"<b>{name}</b>"
    elif row["second"]:
        name = f"<u>{name}</u>"
    more = [name]
    if isinstance(row["same_as"], str):
        more.append(f"≡ {esc(row['same_as'])}")
    if isinstance(row["chosen"], str):
        more.append(f"<small>{esc(row['chosen'])}</small>")
    if not row["complete"]:
        more.append('<span class="tag">incomplete</span>')
    return f'{marks[row["series"]].swatch()}<span class="name">{" ".join(more)}</span>'


def _count(row: Row) -> str:
    if row["complete"]:
        return f"{row['seeds']} × {row['networks']}"
    return f"{row['seeds']} of {row['seeds_planned']} × {row['networks']} of {row['networks_planned']}"


def _records(records: Sequence[Sequence[Path]], link: Link) -> Callable[[Row], str]:
    def html(row: Row) -> str:
        paths = records[row["number"]]
        links = "".join(f'<li><a href="{esc(link(path))}">{esc(_named(path))}</a></li>' for path in paths)
        about = f'<span class="heard"> records of {esc(row["method"])}</span>'
        return f"<details><summary>{len(paths)}{about}</summary><ul>{links}</ul></details>" if paths else _DASH

    return html


def _named(path: Path) -> str:
    """``distil 1a2b3c4d`` for ``distil/1a2b3c4d…/record.json``."""
    return f"{path.parent.parent.name} {path.parent.name[:8]}"


_DASH = '<span class="none">–</span>'


def _number(value: Any, form: str, factor: int = 1) -> str:
    return _DASH if _missing(value) else format(factor * value, form).replace("-", "−")


def _shown(title: str) -> Callable[[Row], str]:
    return lambda row: esc(row["shown"][title])


def _text(name: str) -> Callable[[Row], str]:
    return lambda row: esc(row[name])


def _value(name: str) -> Callable[[Row], Any]:
    return lambda row: row[name]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and isnan(value))
