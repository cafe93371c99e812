"""The leaderboard: rows from records alone, never from what a run still holds in memory.

A *board* holds what may be compared: one dataset fingerprint, protocol with its version and options, architecture,
fusion, preset and precision. A row is one method variant at one IPC and distilled modality.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from avbench.results import RunDirectory

_METRICS = ("a", "v", "av")


@dataclass(frozen=True)
class Board:
    """One comparable table.

    Attributes:
        about: what all its rows have in common.
        rows: a data frame, one row a method variant, IPC and distilled modality, best first within an IPC.
    """

    about: Mapping[str, Any]
    rows: pd.DataFrame

    @property
    def title(self) -> str:
        a = self.about
        return (
            f"{a['dataset']} ({a['fingerprint'][:8]}) · {a['protocol']} v{a['protocol_version']} · "
            f"{a['architecture']} · {a['fusion']} · preset {a['preset']}"
        )


def build_boards(
    directories: Iterable[RunDirectory], only: set[str] | None = None, seeds_wanted: int | None = None
) -> list[Board]:
    """Boards from the records of one or several run directories.

    Args:
        only: keys of distil cells to keep (the grid of the run at hand); ``None`` keeps all.
        seeds_wanted: seeds that make a row complete; ``None``: the most that any record of the board was planned with.
    """
    scores: list[dict[str, Any]] = []
    cells: dict[tuple[Hashable, ...], dict[str, Any]] = {}
    for directory in directories:
        sets = {}
        for record in directory.records("distil"):
            if only is None or record["key"] in only:
                sets[record["key"]] = record
        by_hash: dict[Any, list[dict[str, Any]]] = {}
        for record in sets.values():
            if record["status"] == "done":
                by_hash.setdefault(record["result"]["content_hash"], []).append(record)
        for record in directory.records("evaluate"):
            if record["status"] != "done":
                continue
            # Two variants may give the very same set: each of them then has this score.
            for made in by_hash.get(record["set_hash"], []):
                if made["seed"] == record["seed"] and made["modality"] == record["modality"]:
                    scores.append(_score(made, record))
        for record in sets.values():
            cells.setdefault((record["key"],), record)
    return _assemble(scores, list(cells.values()), seeds_wanted)


def _plain(reference: Mapping[str, Any]) -> str:
    return str(reference["label"])


def _identity(reference: Mapping[str, Any]) -> str:
    options = sorted(reference["options"].items())
    return f"{reference['distribution']}:{reference['name']}/{reference['version']}/{options}"


def _score(made: Mapping[str, Any], judged: Mapping[str, Any]) -> dict[str, Any]:
    """What one evaluate record adds: its networks' accuracies under one row of one board."""
    common = {
        "dataset": judged["dataset"]["name"],
        "fingerprint": judged["dataset"]["fingerprint"],
        "protocol": _plain(judged["protocol"]),
        "protocol_version": judged["protocol"]["version"],
        "architecture": _plain(judged["evaluated_architecture"]),
        "fusion": _plain(judged["fusion"]),
        "preset": judged["preset"],
        "precision": judged["precision"],
    }
    board = (
        common["fingerprint"],
        common["preset"],
        common["precision"],
        *(_identity(judged[part]) for part in ("protocol", "evaluated_architecture", "fusion")),
    )
    return {
        "board": board,
        "about": common,
        "made": made,
        "planned_networks": judged["planned_networks"],
        "networks": judged["result"]["networks"],
    }


def _row_key(made: Mapping[str, Any]) -> tuple[Hashable, ...]:
    distilled_with = _identity(made["architecture"])
    return (made["method"]["label"], made["ipc"], made["modality"], _identity(made["method"]), distilled_with)


def _assemble(scores: list[dict[str, Any]], cells: list[dict[str, Any]], seeds_wanted: int | None) -> list[Board]:
    boards: dict[Any, list[dict[str, Any]]] = {}
    for score in scores:
        boards.setdefault(score["board"], []).append(score)
    found = []
    for members in boards.values():
        about = members[0]["about"]
        planned = [
            c
            for c in cells
            if c["dataset"]["fingerprint"] == about["fingerprint"]
            and c["preset"] == about["preset"]
            and c["precision"] == about["precision"]
        ]
        found.append(Board(about, _rows(members, planned, seeds_wanted)))
    found.sort(key=lambda board: tuple(str(value) for value in board.about.values()))
    return found


def _rows(scores: list[dict[str, Any]], cells: list[dict[str, Any]], seeds_wanted: int | None) -> pd.DataFrame:
    groups: dict[tuple[Hashable, ...], list[dict[str, Any]]] = {_row_key(c): [] for c in cells}
    for score in scores:
        groups[_row_key(score["made"])].append(score)
    seeds_wanted = seeds_wanted or max(c["planned_seeds"] for c in cells)
    networks_wanted = max(s["planned_networks"] for s in scores)
    sample = {_row_key(c): c for c in cells}
    rows = [_row(sample[key], members, seeds_wanted, networks_wanted) for key, members in groups.items()]
    frame = pd.DataFrame(rows)
    _compare(frame)
    # Within an IPC the best first; the whole data (ipc 0) last; rows without a rank after those with one.
    frame["order"] = frame["ipc"].where(frame["ipc"] > 0, 1 << 30)
    frame = frame.sort_values(["modality", "order", "rank", "method"], na_position="last", kind="stable")
    return frame.drop(columns="order").reset_index(drop=True)


def _row(
    made: Mapping[str, Any], scores: list[dict[str, Any]], seeds_wanted: int, networks_wanted: int
) -> dict[str, Any]:
    """One row: mean and standard deviation over all networks of all seeds, as the paper counts them."""
    seeds = sorted({s["made"]["seed"] for s in scores})
    networks = min((len(s["networks"]) for s in scores), default=0)
    result = next((s["made"]["result"] for s in scores), made.get("result") or {})
    row: dict[str, Any] = {
        "method": made["method"]["label"],
        "role": made["role"],
        "ipc": made["ipc"],
        "modality": made["modality"],
        "distilled_with": made["architecture"]["label"],
        "seeds": len(seeds),
        "seeds_planned": seeds_wanted,
        "networks": networks,
        "complete": len(seeds) >= seeds_wanted and networks >= networks_wanted,
        "ratio": result.get("ratio"),
        "bytes": result.get("storage_bytes"),
        "identity": _identity(made["method"]),
    }
    for name in _METRICS:
        values = pd.Series(
            [network["accuracy"][name] for s in scores for network in s["networks"] if name in network["accuracy"]],
            dtype="float64",
        )
        row[f"{name}_mean"] = values.mean()  # NaN where nothing was scored
        row[f"{name}_std"] = values.std(ddof=0)
        row["n"] = max(row.get("n", 0), len(values))
    row["score"] = row[f"{made['modality']}_mean"]
    return row


def _compare(frame: pd.DataFrame) -> None:
    """Ranks among complete rows, and the difference to the baseline, within an IPC and modality."""
    frame["rank"] = pd.Series([pd.NA] * len(frame), dtype="Int64")
    frame["delta"] = pd.Series([float("nan")] * len(frame), dtype="float64")
    for _, group in frame.groupby(["ipc", "modality"]):
        contenders = group[group["complete"] & (group["role"] != "upper bound")]
        ranks = contenders["score"].rank(ascending=False, method="min").astype("Int64")
        frame.loc[contenders.index, "rank"] = ranks
        baseline = group[(group["role"] == "baseline") & group["complete"]]
        if len(baseline) == 1:
            frame.loc[group.index, "delta"] = group["score"].astype("float64") - float(baseline["score"].iloc[0])
            frame.loc[baseline.index, "delta"] = float("nan")
