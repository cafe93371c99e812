"""What a gain is worth once storage, labels and augmentation are accounted for.

The measures are DD-Ranking's (NUS-HPC-AI-Lab/DD-Ranking): hard-label recovery, improvement over random, the
label-robust score and the augmentation-robust score. Two of its habits are not followed: accuracies enter the
exponential as fractions, so that every score lies in [0, 1], and nothing is chosen on the test split.

Rows are found by what their methods say of themselves (upper bound, baseline), never by a name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import e, exp, nan
from typing import Any

import pandas as pd
from tabulate import tabulate

from avbench.cells import configuration
from avbench.report.board import Board
from avbench.report.render import escaped, named
from avbench.report.statistics import paired

#: The weight of the improvement over random against hard-label recovery, and of boards with augmentation.
WEIGHT, GAMMA = 0.5, 0.5
_OPTION, _WITHOUT = "augment", "none"
_COMMON = ("dataset", "fingerprint", "protocol", "protocol_version", "architecture", "fusion", "precision")
_OWN = ("method", "same_as", "chosen", "ipc", "modality", "distilled_with", "labels", "bytes")
_Row = Mapping[str, Any]


def unit_map(alpha: float) -> float:
    """[-1, 1] onto [0, 1]: (e^α − e^−1) / (e − e^−1)."""
    return (exp(alpha) - 1 / e) / (e - 1 / e)


def label_robust(improvement: float, recovery: float, weight: float = WEIGHT) -> float:
    """LRS: the map of α = w·IOR − (1 − w)·HLR."""
    return unit_map(weight * improvement - (1 - weight) * recovery)


def augmentation_robust(with_it: float, without: float, gamma: float = GAMMA) -> float:
    """ARS: the map of β = γ·IOR with augmentation + (1 − γ)·IOR without."""
    return unit_map(gamma * with_it + (1 - gamma) * without)


@dataclass
class _Findings:
    """One line of the table as it comes together, with the reasons for what is missing."""

    values: dict[str, Any]
    why: list[str] = field(default_factory=list)

    def line(self) -> dict[str, Any]:
        return {**self.values, "why": "; ".join(self.why)}


def fairness(boards: Sequence[Board]) -> pd.DataFrame:
    """One line for each row of a method, on every board that measures accuracy.

    Columns: what the board is; what the row is, with its labels, bytes and accuracy; ``upper_bound`` and ``hlr``; the
    ``baseline`` compared with, its ``baseline_ipc``, its bytes as a share of the row's (``storage_ratio``), ``ior``
    with the half width of its 95 % interval over shared seeds; ``lrs``, ``ars``; ``why`` something is missing.
    A measure that is missing is NaN.
    """
    bare = {key: board for board in boards if (key := _without_augmentation(board)) is not None}
    lines = []
    for board in boards:
        if board.about["metric"] != "accuracy":
            continue
        plain = None if _is_without(board) else bare.get(_key(board))
        for index in board.rows.index[board.rows["role"] == "method"]:
            lines.append(_judge(board, index, plain).line())
    return pd.DataFrame(lines)


def _judge(board: Board, index: int, plain: Board | None) -> _Findings:
    row = _row(board, index)
    about = {name: board.about[name] for name in _COMMON}
    own = {name: row[name] for name in _OWN}
    missing = dict.fromkeys(("upper_bound", "hlr"), nan)
    found = _Findings({**about, **own, "accuracy": row["score"], **missing})
    found.values |= {"baseline": None, "baseline_ipc": None, "storage_ratio": nan, "ior": nan, "ior_ci95": nan}
    found.values |= {"lrs": nan, "ars": nan}
    if not row["complete"]:
        found.why.append("incomplete: no measure is taken of a part of the seeds")
        return found
    _recover(found, board, row)
    baseline = _improve(found, board, index)
    if not pd.isna(found.values["hlr"]) and not pd.isna(found.values["ior"]):
        found.values["lrs"] = label_robust(found.values["ior"], found.values["hlr"])
    if baseline is not None:
        _without(found, board, plain, row, baseline)
    return found


def _recover(found: _Findings, board: Board, row: _Row) -> None:
    """HLR = accuracy on the real data − accuracy on the distilled set, both with hard labels."""
    if row["labels"] != "hard":
        found.why.append("no HLR: the set has soft labels: judge it with hard ones, too")
        return
    bounds = [each for each in _of(board, "upper bound") if each["modality"] == row["modality"]]
    if not bounds:
        found.why.append("no HLR: the board has no complete upper bound of this modality")
        return
    bound = max(bounds, key=lambda each: (each["distilled_with"] == row["distilled_with"], each["score"]))
    found.values["upper_bound"] = bound["score"]
    found.values["hlr"] = bound["score"] - row["score"]


def _improve(found: _Findings, board: Board, index: int) -> _Row | None:
    """IOR = accuracy on the distilled set − accuracy on real samples of as many bytes, or the next fewer there are."""
    row = _row(board, index)
    within = [
        each for each in _of(board, "baseline") if each["modality"] == row["modality"] and each["bytes"] <= row["bytes"]
    ]
    if not within:
        found.why.append("no IOR: the board has no complete baseline that takes no more bytes")
        return None
    # Of several at the same bytes the hardest to beat: the choice may not flatter.
    baseline = max(within, key=lambda each: (each["bytes"], each["score"]))
    found.values |= {
        "baseline": baseline["method"],
        "baseline_ipc": baseline["ipc"],
        "storage_ratio": baseline["bytes"] / row["bytes"],
        "ior": row["score"] - baseline["score"],
        "ior_ci95": paired(board.by_seed[index], board.by_seed[baseline["index"]]).half,
    }
    return baseline


def _without(found: _Findings, board: Board, plain: Board | None, row: _Row, baseline: _Row) -> None:
    """ARS needs the same two rows on the board of the same protocol without augmentation."""
    if _is_without(board):
        found.why.append("no ARS: this is the board without augmentation, see the one with it")
        return
    if plain is None:
        found.why.append(f"no ARS: no board of {board.about['protocol']} with {_OPTION}={_WITHOUT}")
        return
    twins = [_twin(plain, each) for each in (row, baseline)]
    if None in twins:
        found.why.append("no ARS: the board without augmentation lacks one of the two rows, or it is incomplete")
        return
    own, random = (twin["score"] for twin in twins if twin is not None)
    found.values["ars"] = augmentation_robust(found.values["ior"], own - random)


def _row(board: Board, index: int) -> _Row:
    return {"index": index, **{str(name): value for name, value in board.rows.loc[index].items()}}


def _rows(board: Board) -> Iterator[_Row]:
    return (_row(board, index) for index in board.rows.index)


def _of(board: Board, role: str) -> list[_Row]:
    return [row for row in _rows(board) if row["role"] == role and row["complete"] and not pd.isna(row["bytes"])]


def _twin(board: Board, row: _Row) -> _Row | None:
    """The same configuration on another board."""
    same = ("identity", "ipc", "modality", "distilled_with")
    found = [each for each in _rows(board) if each["complete"] and all(each[name] == row[name] for name in same)]
    return found[0] if found else None


def _is_without(board: Board) -> bool:
    return bool(board.protocol.get("options", {}).get(_OPTION) == _WITHOUT)


def _key(board: Board) -> tuple[str, ...]:
    """What two boards share that differ in augmentation alone."""
    options = {name: value for name, value in board.protocol["options"].items() if name != _OPTION}
    common = ("fingerprint", "architecture", "fusion", "precision")
    return (*(board.about[name] for name in common), configuration({**board.protocol, "options": options}))


def _without_augmentation(board: Board) -> tuple[str, ...] | None:
    return _key(board) if _is_without(board) else None


# --- shown ----------------------------------------------------------------------------------------------------------

_SHOWN = {"upper_bound": "upper bound %", "hlr": "HLR", "ior": "IOR", "lrs": "LRS", "ars": "ARS"}


def render_fairness(frame: pd.DataFrame, format: str) -> str:
    """The table as ``md``, ``csv`` or ``json``; HLR and IOR in percentage points in Markdown, else as fractions."""
    if format == "csv":
        return frame.to_csv(index=False)
    if format == "json":
        plain = json.loads(frame.to_json(orient="records", double_precision=15))
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
    parts = []
    for about, board in frame.groupby(list(_COMMON), sort=False):
        headers = ["method", "ipc", "labels", "accuracy %", *_SHOWN.values(), "real samples compared with"]
        lines = [[escaped(text) for text in _line(row)] for row in board.to_dict("records")]
        align = ["left", "right", "left", *["right"] * 6, "left"]
        table = tabulate(lines, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
        notes = "".join(f"\n- {reason}" for reason in _reasons(board))
        dataset, fingerprint, protocol, version, *rest = map(str, about)
        title = [f"{dataset} ({fingerprint[:8]})", f"{protocol} v{version}", *rest]
        parts.append(f"### {' · '.join(map(escaped, title))}\n\n{table}\n{notes and notes + chr(10)}")
    return "\n".join(parts)


def _reasons(board: pd.DataFrame) -> Iterator[str]:
    """Why measures are missing, each reason once with the rows that it concerns."""
    concerned: dict[str, list[str]] = {}
    for row in board.to_dict("records"):
        for reason in filter(None, row["why"].split("; ")):
            concerned.setdefault(reason, []).append(f"{escaped(row['method'])} at ipc {row['ipc']}")
    for reason, rows in concerned.items():
        yield f"{'all rows' if len(rows) == len(board) else ', '.join(rows)}: {reason}"


def _line(row: Mapping[Any, Any]) -> list[str]:
    compared = "–"
    if isinstance(row["baseline"], str):
        share = f"{100 * row['storage_ratio']:.0f} % of the bytes"
        compared = f"{row['baseline']} at ipc {int(row['baseline_ipc'])}, {share}"
    interval = "" if pd.isna(row["ior_ci95"]) else f" ± {100 * row['ior_ci95']:.1f}"
    numbers = {
        "upper_bound": _number(row["upper_bound"], "{:.1f}", 100),
        "hlr": _number(row["hlr"], "{:+.1f}", 100),
        "ior": _number(row["ior"], "{:+.1f}", 100) + interval,
        "lrs": _number(row["lrs"], "{:.3f}"),
        "ars": _number(row["ars"], "{:.3f}"),
    }
    accuracy = _number(row["accuracy"], "{:.1f}", 100)
    return [named(row), str(row["ipc"]), row["labels"], accuracy, *(numbers[name] for name in _SHOWN), compared]


def _number(value: Any, form: str, scale: float = 1.0) -> str:
    return "–" if pd.isna(value) else form.format(scale * value)
