"""Boards as Markdown, CSV, JSON, or as a table on the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from tabulate import tabulate

from avbench.report.board import Board

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("md", "json", "csv")
_SPELLED = {"a": "audio", "v": "visual", "av": "AV"}
_COUNT = "seeds × networks"
_WIDE, _WIDE_ONLY = 100, ("ratio %", "bytes")
_BARE = re.compile(r"[\w .,:%()/+Δ±×–-]*")
_ALIGN = {"method": "left", "distilled": "left", "distilled with": "left", "labels": "left"}
_WHERE_THEY_DIFFER = {"modality": "distilled", "distilled_with": "distilled with", "labels": "labels"}


def _spread(mean: Any, std: Any, share: bool) -> str:
    scale = 100 if share else 1
    return "–" if pd.isna(mean) else f"{scale * mean:.1f} ± {scale * std:.1f}"


def _header(board: Board, part: str) -> str:
    """``AV %`` for accuracy; any other metric is named."""
    named = part in board.secondary or board.about["metric"] in ("accuracy", "")
    text = _SPELLED.get(part, part) if named else f"{board.about['metric']} {_SPELLED.get(part, part)}"
    return text + ("" if part in board.plain else " %")


def _size(count: Any) -> str:
    if pd.isna(count):
        return "–"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{int(count)} B"


def cells(board: Board) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text. A row with missing seeds is marked and has no rank."""
    scored = [_header(board, part) for part in board.parts]
    headers = ["rank", "method", "ipc", *scored, "Δ baseline", _COUNT, "ratio %", "bytes"]
    # Shown only where rows differ in them.
    extras = {column: title for column, title in _WHERE_THEY_DIFFER.items() if board.rows[column].nunique() > 1}
    headers[3:3] = extras.values()
    lines = []
    for row in board.rows.to_dict("records"):
        line = [
            "–" if pd.isna(row["rank"]) else str(row["rank"]),
            named(row),
            str(row["ipc"]) if row["ipc"] else "all",
            *(_spread(row[f"{name}_mean"], row[f"{name}_std"], name not in board.plain) for name in board.parts),
            "–" if pd.isna(row["delta"]) else f"{100 * row['delta']:+.1f}",
            _count(row),
            "–" if pd.isna(row["ratio"]) else f"{100 * row['ratio']:.2f}",
            _size(row["bytes"]),
        ]
        line[3:3] = [row[column] for column in extras]
        lines.append(line)
    return headers, lines


def named(row: Mapping[Any, Any]) -> str:
    """The method, the row that it equals by construction, and what was chosen for it."""
    # What is missing is None or NaN, by the version of pandas.
    equal = f" ≡ {row['same_as']}" if isinstance(row["same_as"], str) else ""
    chosen = f" ({row['chosen']})" if isinstance(row["chosen"], str) else ""
    return f"{row['method']}{equal}{chosen}"


def _count(row: Mapping[Any, Any]) -> str:
    if row["complete"]:
        return f"{row['seeds']} × {row['networks']}"
    networks = f"{row['networks']} of {row['networks_planned']} networks"
    return f"incomplete: {row['seeds']} of {row['seeds_planned']} seeds × {networks}"


def to_markdown(boards: Sequence[Board]) -> str:
    """A heading and a table for each board."""
    parts = []
    for board in boards:
        headers, lines = cells(board)
        safe = [[escaped(text) for text in line] for line in lines]
        for line, best in zip(safe, board.rows["best"], strict=True):
            if best:
                line[headers.index("method")] = f"**{line[headers.index('method')]}**"
        align = [_ALIGN.get(name, "right") for name in headers]
        table = tabulate(safe, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
        heading = " · ".join(escaped(part) for part in board.title.split(" · "))
        parts.append(f"### {heading}\n\n{table}\n")
    return "\n".join(parts)


def escaped(text: str) -> str:
    """``text`` so that Markdown shows it as it is: bare where nothing in it means anything, else as code."""
    if _BARE.fullmatch(text):
        return text
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", text)), default=0))
    # A bar ends a table's cell even inside code; a line break would end the table.
    inside = " ".join(text.split()).replace("|", "\\|")
    padding = " " if inside.startswith("`") or inside.endswith("`") else ""
    return f"{fence}{padding}{inside}{padding}{fence}"


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
        {
            "board": dict(board.about),
            "rows": json.loads(board.rows.to_json(orient="records", double_precision=15)),
        }
        for board in boards
    ]
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def render(boards: Sequence[Board], format: str) -> str:
    """Boards in one of :data:`FORMATS`."""
    return {"md": to_markdown, "csv": to_csv, "json": to_json}[format](boards)


def render_curves(frame: pd.DataFrame, format: str) -> str:
    """Learning curves in one of :data:`FORMATS`; Markdown has a column for each step."""
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "json":
        return json.dumps(json.loads(frame.to_json(orient="records", double_precision=15)), indent=2) + "\n"
    parts = []
    for about, board in frame.groupby(["dataset", "protocol", "architecture", "fusion"], sort=False):
        steps = sorted(board["step"].unique())
        lines = []
        for names, row in board.groupby(["method", "ipc", "part"], sort=False):
            method, ipc, part = map(str, names)
            spreads = [_spread(mean, std, True) for mean, std in zip(row["mean"], row["std"], strict=True)]
            at = dict(zip(row["step"], spreads, strict=True))
            lines.append([escaped(method), ipc, _SPELLED.get(part, part), *(at.get(step, "–") for step in steps)])
        headers = ["method", "ipc", "scored %", *(f"step {step}" for step in steps)]
        align = [_ALIGN.get(name, "right") for name in headers]
        table = tabulate(lines, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
        parts.append(f"### {' · '.join(escaped(str(each)) for each in about)}\n\n{table}\n")
    return "\n".join(parts)


def to_table(board: Board, width: int = 120) -> Table:
    """A board for a terminal of ``width`` columns; a narrow one shows no ratio and bytes, which the files hold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    headers, lines = cells(board)
    shown = [i for i, name in enumerate(headers) if width >= _WIDE or name not in _WIDE_ONLY]
    table = Table(title=Text(board.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (headers[i] for i in shown):
        if name in _ALIGN:
            longest = max(len(line[headers.index(name)]) for line in lines)
            table.add_column(name, justify="left", overflow="fold", min_width=min(longest, width // 6))
        else:
            table.add_column(name, justify="right", overflow="fold", no_wrap=name != _COUNT)
    previous = None
    for line, ipc in zip(lines, board.rows["ipc"], strict=True):
        if previous is not None and ipc != previous:
            table.add_section()
        # Text, not markup: a label such as dm[lr=4.2] is no style.
        table.add_row(*(Text(line[i]) for i in shown))
        previous = ipc
    return table
