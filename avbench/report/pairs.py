"""Two methods compared in pairs: the difference of their scores over the seeds that both have."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd
from tabulate import tabulate

from avbench.errors import RequestError, nearest
from avbench.report.board import Board
from avbench.report.render import escaped
from avbench.report.selection import Selection
from avbench.report.statistics import beats, paired

_COLUMNS = ["board", "method", "against", "ipc", "modality", "difference", "ci95", "seeds", "verdict"]


def compare(boards: Sequence[Board], against: str, shown: Selection | None = None) -> pd.DataFrame:
    """Every row beside the row of the method ``against`` at the same IPC and distilled modality.

    Args:
        shown: which rows stand beside it; all where it is absent. It may leave ``against`` itself out.

    Columns: board, method, against, ipc, modality, difference (first − second, a share), ci95 (half width of the 95 %
    interval over paired seeds, NaN below two), seeds, verdict.

    Raises:
        RequestError: no board has such a method, or what ``shown`` asks for.
    """
    known = {str(method) for board in boards for method in board.rows["method"]}
    if against not in known:
        raise RequestError(f"--against {against!r}: {nearest(against, known)}")
    boards, wanted = _chosen(boards, shown or Selection())
    found = []
    for board in boards:
        rows = board.rows.assign(by_seed=pd.Series(list(board.by_seed), index=board.rows.index, dtype="object"))
        for _, group in rows.groupby(["ipc", "modality"], sort=False):
            for _, other in group[group["method"] == against].iterrows():
                for _, row in group[(group["method"] != against) & group["method"].isin(wanted)].iterrows():
                    found.append({"board": board.title, **_pair(row, other)})
    return pd.DataFrame(found, columns=_COLUMNS)


def _chosen(boards: Sequence[Board], shown: Selection) -> tuple[list[Board], set[str]]:
    """The boards with every method, and the names of those that are shown."""
    wanted = {name for board in shown.boards(boards) for name in board.rows["method"]}
    return shown.without("method").boards(boards), wanted


def _pair(row: pd.Series, other: pd.Series) -> dict[str, object]:
    difference = paired(row["by_seed"], other["by_seed"])
    verdict = "better" if beats(row["by_seed"], other["by_seed"]) else "inside the noise"
    return {
        "method": row["method"],
        "against": other["method"],
        "ipc": row["ipc"],
        "modality": row["modality"],
        "difference": difference.mean,
        "ci95": difference.half,
        "seeds": difference.n,
        "verdict": "worse" if beats(other["by_seed"], row["by_seed"]) else verdict,
    }


def render_pairs(frame: pd.DataFrame, format: str) -> str:
    """A comparison as Markdown, CSV or JSON; Markdown gives percentage points."""
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "json":
        return json.dumps(json.loads(frame.to_json(orient="records", double_precision=15)), indent=2) + "\n"
    parts = []
    for title, rows in frame.groupby("board", sort=False):
        lines = [
            [
                escaped(str(row["method"])),
                row["ipc"] or "all",
                _points(row["difference"], row["ci95"]),
                row["seeds"],
                row["verdict"],
            ]
            for _, row in rows.iterrows()
        ]
        headers = ["method", "ipc", f"− {rows['against'].iloc[0]}, points (95 %)", "seeds", "verdict"]
        table = tabulate(lines, headers, tablefmt="pipe", colalign=("left", "right", "right", "right", "left"))
        heading = " · ".join(escaped(part) for part in str(title).split(" · "))
        parts.append(f"### {heading}\n\n{table}\n")
    return "\n".join(parts)


def _points(difference: float, half: float) -> str:
    if pd.isna(difference):
        return "–"
    return f"{100 * difference:+.1f}" + ("" if pd.isna(half) else f" ± {100 * half:.1f}")
