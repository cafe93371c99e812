"""Boards as Markdown, CSV, JSON, or as a table on the terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from avbench.report.board import Board
from avbench.report.curves import SPELLINGS
from avbench.report.selection import Section

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("md", "json", "csv")
_SPELLED = {"a": "audio", "v": "visual", "av": "AV"}
_COUNT = "seeds × networks"
#: A column that the public board adds to its rows: how far each was checked by others than who made it.
VERIFIED = "verified"
_WIDE, _WIDE_ONLY = 100, ("ratio %", "bytes", "time")
_BARE = re.compile(r"[\w .,:%()/+Δ±×≈–-]*")
ALIGN = {"method": "left", "distilled": "left", "distilled with": "left", "labels": "left", VERIFIED: "left"}
_WHERE_THEY_DIFFER = {"modality": "distilled", "distilled_with": "distilled with", "labels": "labels"}


def _spread(mean: Any, std: Any, share: bool) -> str:
    scale = 100 if share else 1
    return "–" if pd.isna(mean) else f"{scale * mean:.1f} ± {scale * std:.1f}"


def header(board: Board, part: str) -> str:
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


def _time(row: Mapping[Any, Any]) -> str:
    """Seconds a seed. About so much where cells shared a job: what they shared is in the time of one of them."""
    if pd.isna(row["duration_s"]):
        return "–"
    return ("≈ " if row["cells_in_job"] > 1 else "") + _span(row["duration_s"])


def _span(seconds: float) -> str:
    for unit, scale in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds:.1f} s"


def _difference(value: Any, share: bool) -> str:
    return "–" if pd.isna(value) else f"{(100 if share else 1) * value:+.1f}"


def has_reported(board: Board) -> bool:
    """Whether a paper reports a number for any row."""
    return bool(board.rows["reported"].notna().any())


def ranks_by_share(board: Board) -> bool:
    """Whether the score that ranks is a share of one, and no number such as a median rank."""
    main = [part for part in board.parts if part not in board.secondary]
    return not board.plain.intersection(main)


def cells(board: Board) -> tuple[list[str], list[list[str]]]:
    """Headers and rows as text. A row with missing seeds is marked and has no rank."""
    scored = [header(board, part) for part in board.parts]
    beside = ["Δ reported"] if has_reported(board) else []
    # The public board says how far each row was verified; a board of one's own run has no such column.
    checked = [VERIFIED] if VERIFIED in board.rows else []
    headers = ["rank", "method", "ipc", *scored, "Δ baseline", *beside, _COUNT, "ratio %", "bytes", "time", *checked]
    share = ranks_by_share(board)
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
            _difference(row["delta"], share),
            *(_difference(row["delta_reported"], share) for _ in beside),
            _count(row),
            "–" if pd.isna(row["ratio"]) else f"{100 * row['ratio']:.2f}",
            _size(row["bytes"]),
            _time(row),
            *(row[name] for name in checked),
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
    """A heading and a table for each board. Bold leads beyond the noise, italics lead what is left beyond it."""
    parts = []
    for board in boards:
        headers, lines = cells(board)
        safe = [[escaped(text) for text in line] for line in lines]
        at = headers.index("method")
        for line, best, second in zip(safe, board.rows["best"], board.rows["second"], strict=True):
            mark = "**" if best else "*" if second else ""
            line[at] = f"{mark}{line[at]}{mark}"
        align = [ALIGN.get(name, "right") for name in headers]
        table = tabulate(safe, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
        heading = " · ".join(escaped(part) for part in board.title.split(" · "))
        below = "".join(f"\n{note}\n" for note in sources(board))
        parts.append(f"### {heading}\n\n{table}\n{below}")
    return "\n".join(parts)


def render_sections(parts: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """Markdown with a heading for each section, and what is to be known of all boards in front."""
    blocks = ["".join(f"> {' '.join(escaped(word) for word in note.split())}\n" for note in notes)] if notes else []
    for part in parts:
        heading = f"## {' '.join(escaped(word) for word in part.heading.split())}\n\n" if part.heading else ""
        blocks.append(heading + to_markdown(part.boards))
    return "\n".join(blocks)


def sources(board: Board) -> list[str]:
    """Where the reported numbers of a board stand, one sentence a place."""
    return [f"Δ reported: difference to {source}." for source in board.rows["reported_in"].dropna().unique()]


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
    """One line a row, what its board has in common in the first columns; numbers in as many digits as they need."""
    frames = [board.rows.assign(**board.about) for board in boards]
    if not frames:
        return ""
    frame = pd.concat(frames)
    common = list(boards[0].about)
    own = [name for name in frame.columns if name not in common]
    return frame[common + own].to_csv(index=False)


def to_json(boards: Sequence[Board]) -> str:
    """``[{"board": {…}, "rows": [{…}, …]}, …]``; what is missing is null, numbers in as many digits as they need."""
    plain = [
        {
            "board": dict(board.about),
            "rows": [{str(k): _plain(value) for k, value in row.items()} for row in board.rows.to_dict("records")],
        }
        for board in boards
    ]
    return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    missing = value is pd.NA or (isinstance(value, float) and not isfinite(value))
    return None if missing else value


def render(boards: Sequence[Board], format: str) -> str:
    """Boards in one of :data:`FORMATS`."""
    return {"md": to_markdown, "csv": to_csv, "json": to_json}[format](boards)


def render_curves(frame: pd.DataFrame, format: str) -> str:
    """Learning curves in one of :data:`FORMATS`; Markdown has a column for each step."""
    frame = frame.drop(columns=SPELLINGS)
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "json":
        return json.dumps(json.loads(frame.to_json(orient="records", double_precision=15)), indent=2) + "\n"
    parts = []
    for _, board in frame.groupby(["dataset", "fingerprint", "judged_by"], sort=False):
        first = board.iloc[0]
        about = [f"{first['dataset']} ({first['fingerprint'][:8]})", *first["judged_by"].split(" · ")]
        parts.append(f"### {' · '.join(map(escaped, about))}\n\n{_curves_table(board)}\n")
    return "\n".join(parts)


def _curves_table(board: pd.DataFrame) -> str:
    """A line for each curve of one board."""
    steps = sorted(board["step"].unique())
    shown = [name for name in ("modality", "distilled_with") if board[name].nunique() > 1]
    lines = []
    # By configurations, not by names alone: what is spelled alike may still be two.
    for _, line in board.groupby(["identity", "ipc", "modality", "distiller", "part"], sort=False):
        first = line.iloc[0]
        points = zip(line["step"], line["mean"], line["std"], strict=True)
        at = {step: _spread(mean, std, True) for step, mean, std in points}
        extras = [escaped(first[name]) for name in shown]
        part = _SPELLED.get(first["part"], first["part"])
        scores = [at.get(step, "–") for step in steps]
        lines.append([escaped(first["method"]), str(first["ipc"]), *extras, part, *scores])
    extras = [_WHERE_THEY_DIFFER[name] for name in shown]
    headers = ["method", "ipc", *extras, "scored %", *(f"step {step}" for step in steps)]
    align = [ALIGN.get(name, "right") for name in headers]
    return tabulate(lines, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def to_table(board: Board, width: int = 120) -> Table:
    """A board for a terminal of ``width`` columns; a narrow one shows no ratio and bytes, which the files hold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    headers, lines = cells(board)
    shown = [i for i, name in enumerate(headers) if width >= _WIDE or name not in _WIDE_ONLY]
    table = Table(title=Text(board.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in (headers[i] for i in shown):
        if name in ALIGN:
            longest = max(len(line[headers.index(name)]) for line in lines)
            table.add_column(name, justify="left", overflow="fold", min_width=min(longest, width // 6))
        else:
            table.add_column(name, justify="right", overflow="fold", no_wrap=name != _COUNT)
    previous = None
    marks = zip(board.rows["best"], board.rows["second"], strict=True)
    for line, ipc, (best, second) in zip(lines, board.rows["ipc"], marks, strict=True):
        style = "bold" if best else "italic" if second else ""
        if previous is not None and ipc != previous:
            table.add_section()
        # Text, not markup: a label such as dm[lr=4.2] is no style.
        table.add_row(*(Text(line[i], style) for i in shown))
        previous = ipc
    return table
