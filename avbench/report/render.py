"""Boards as Markdown, CSV, JSON, or as a table on the terminal."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from avbench.report.board import Board

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("md", "json", "csv")
_ALIGN = {"method": "left", "distilled": "left", "distilled with": "left"}


def _percent(mean: Any, std: Any) -> str:
    return "–" if pd.isna(mean) else f"{100 * mean:.1f} ± {100 * std:.1f}"


def _size(count: Any) -> str:
    if pd.isna(count):
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{int(count)} B"


def cells(board: Board) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text. A row with missing seeds is marked and has no rank."""
    headers = ["rank", "method", "ipc", "audio %", "visual %", "audio-visual %", "Δ baseline"]
    headers += ["seeds × networks", "ratio %", "bytes"]
    # Shown only where rows differ in them.
    extras = {
        column: title
        for column, title in {"modality": "distilled", "distilled_with": "distilled with"}.items()
        if board.rows[column].nunique() > 1
    }
    headers[3:3] = extras.values()
    lines = []
    for row in board.rows.to_dict("records"):
        line = [
            "–" if pd.isna(row["rank"]) else str(row["rank"]),
            row["method"],
            str(row["ipc"]) if row["ipc"] else "all",
            *(_percent(row[f"{name}_mean"], row[f"{name}_std"]) for name in ("a", "v", "av")),
            "–" if pd.isna(row["delta"]) else f"{100 * row['delta']:+.1f}",
            _count(row),
            "–" if pd.isna(row["ratio"]) else f"{100 * row['ratio']:.2f}",
            _size(row["bytes"]),
        ]
        line[3:3] = [row[column] for column in extras]
        lines.append(line)
    return headers, lines


def _count(row: dict[str, Any]) -> str:
    if row["complete"]:
        return f"{row['seeds']} × {row['networks']}"
    return f"incomplete: {row['seeds']} of {row['seeds_planned']} seeds × {row['networks']}"


def to_markdown(boards: Sequence[Board]) -> str:
    """A heading and a table for each board."""
    parts = []
    for board in boards:
        headers, lines = cells(board)
        # In Markdown a bar would end the cell, and brackets and angle brackets would mean something.
        safe = [[_escape(text) for text in line] for line in lines]
        align = [_ALIGN.get(name, "right") for name in headers]
        table = tabulate(safe, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
        parts.append(f"### {_escape(board.title)}\n\n{table}\n")
    return "\n".join(parts)


def _escape(text: str) -> str:
    for character in "\\|[]<>`*_":
        text = text.replace(character, "\\" + character if character != "<" else "&lt;")
    return text.replace("\\>", "&gt;")


def to_csv(boards: Sequence[Board]) -> str:
    """One line a row, what its board has in common in the first columns."""
    frames = [board.rows.assign(**board.about) for board in boards]
    if not frames:
        return ""
    frame = pd.concat(frames)
    common = list(boards[0].about)
    own = [name for name in frame.columns if name not in common]
    return frame[common + own].to_csv(index=False)


def to_json(boards: Sequence[Board]) -> str:
    """``[{"board": {…}, "rows": [{…}, …]}, …]``; what is missing is null."""
    plain = [
        {"board": dict(board.about), "rows": json.loads(board.rows.to_json(orient="records", double_precision=15))}
        for board in boards
    ]
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def render(boards: Sequence[Board], format: str) -> str:
    """Boards in one of :data:`FORMATS`."""
    return {"md": to_markdown, "csv": to_csv, "json": to_json}[format](boards)


def to_table(board: Board) -> Table:
    """A board for the terminal."""
    from rich.table import Table
    from rich.text import Text

    headers, lines = cells(board)
    table = Table(title=Text(board.title), title_justify="left")
    for name in headers:
        table.add_column(name, justify="left" if name in _ALIGN else "right", overflow="fold")
    previous = None
    for line, ipc in zip(lines, board.rows["ipc"], strict=True):
        if previous is not None and ipc != previous:
            table.add_section()
        # Text, not markup: a label such as dm[lr=4.2] is no style.
        table.add_row(*(Text(text) for text in line))
        previous = ipc
    return table
