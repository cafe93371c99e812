"""The leaderboard: rows from records alone, never from what a run still holds in memory.

A *board* holds what may be compared: one dataset fingerprint, protocol with its version and options, architecture,
fusion and precision. A row is one configuration of a method, with its version, at one IPC, distilled modality and
distilling architecture, however it was spelled.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from avbench.report.naming import tell_apart, told_apart
from avbench.report.records import Archive
from avbench.report.rows import INNER, Frame, Planned, in_rows, make_row
from avbench.report.scores import BoardKey, Group, collect
from avbench.report.statistics import beats
from avbench.results import RunDirectory

__all__ = ["Board", "Planned", "build_boards"]

#: The order of modalities on a board; others follow as they come.
_ORDER = ("a", "v", "av")
_T = TypeVar("_T")


@dataclass(frozen=True)
class Board:
    """One comparable table.

    Attributes:
        about: what all its rows have in common.
        parts: what is scored, such as ``("a", "v", "av")``: columns ``a_mean``, ``a_std`` and so on.
        rows: a data frame, one row a configuration, best first within an IPC. Scores are shares of one. ``best`` and
            ``second`` say whose lead is beyond the noise; ``delta`` is the difference to the baseline;
            ``duration_s`` the mean time of a distillation; ``peak_memory_mib`` and ``peak_gpu_memory_mib`` the most
            that any took; ``reported``, ``reported_std``, ``delta_reported`` and ``reported_errors`` (the difference
            in standard errors) what a paper gives for ``score``, NaN where none does.
        secondary: the parts of other metrics than the one that ranks.
        plain: the parts that are numbers, not shares of one.
        by_seed: for each row the score of each seed, for comparisons in pairs.
        protocol: the protocol's reference, with its options.
        ways: labels of protocol, architecture and fusion that differ from other boards' wherever these differ.
        records: for each row the paths of its records, each cell's before those of its evaluations.
        spellings: for each row all labels under which it was run.
    """

    about: Mapping[str, Any]
    parts: tuple[str, ...]
    rows: pd.DataFrame
    secondary: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    by_seed: tuple[Mapping[int, float], ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = ()
    records: tuple[tuple[Path, ...], ...] = ()
    spellings: tuple[frozenset[str], ...] = ()

    @property
    def title(self) -> str:
        a = self.about
        protocol, *others = self.ways or (a["protocol"], a["architecture"], a["fusion"])
        parts = [f"{a['dataset']} ({a['fingerprint'][:8]})", f"{protocol} v{a['protocol_version']}", *others]
        return " · ".join([*parts, a["precision"], f"preset {a['preset']}"])

    def part(self, keep: Sequence[bool]) -> Board:
        """The board with some of its rows; their ranks and marks stay those that they have among all."""
        return replace(
            self,
            rows=self.rows[list(keep)].reset_index(drop=True),
            by_seed=_some(self.by_seed, keep),
            records=_some(self.records, keep),
            spellings=_some(self.spellings, keep),
        )


def _some(values: tuple[_T, ...], keep: Sequence[bool]) -> tuple[_T, ...]:
    return tuple(value for value, kept in zip(values, keep, strict=True) if kept)


def build_boards(
    directories: Iterable[RunDirectory],
    only: set[str] | None = None,
    planned: Mapping[BoardKey, Planned] | None = None,
) -> list[Board]:
    """Boards from the records of one or several run directories.

    Args:
        only: keys of distil cells to keep (the grid of the run at hand); ``None`` keeps all.
        planned: what makes a row complete, board by board, as presets differ between datasets; on a board that it
            lacks the most that any record of the board was planned with.
    """
    archives = [Archive.of(directory) for directory in directories]
    choices = [record for archive in archives for record in archive.records("tuning")]
    chosen = {key: f"{r['option']} chosen on {r['chosen_on']}" for r in choices for key in r["chosen_cells"]}
    # A value that failed when it was tried is no row that anybody asked for; where somebody did, ``only`` names it.
    tried = {key for r in choices for value in r["values"] for key in value["cells"]} if only is None else set()
    groups = collect(archives, only, tried.difference(chosen))
    # A title tells the protocol's version beside its label.
    labels = told_apart([(group.key[0], ({**group.protocol, "version": 0}, *group.ways[1:])) for group in groups])
    boards = [
        replace(_board(group, (planned or {}).get(group.key), chosen), ways=ways)
        for group, ways in zip(groups, labels, strict=True)
    ]
    return sorted(boards, key=lambda board: tuple(str(value) for value in board.about.values()))


def _board(group: Group, planned: Planned | None, chosen: Mapping[str, str]) -> Board:
    wanted = planned or Planned(max(j.cell["planned_seeds"] for j in group.judged.values()), group.planned_networks)
    main = _parts(group)
    common = Frame(group.about, main, (*main, *group.secondary), wanted, chosen)
    frame = pd.DataFrame([make_row(members, common) for members in in_rows(group.judged.values())])
    tell_apart(frame)
    _mark_equal(frame)
    _compare(frame)
    # Within an IPC the best first; the whole data (ipc 0) last; rows without a rank after those with one.
    frame["order"] = frame["ipc"].where(frame["ipc"] > 0, 1 << 30)
    frame = frame.sort_values(["modality", "order", "rank", "method"], na_position="last", kind="stable")
    presets = ", ".join(sorted({j.cell["preset"] for j in group.judged.values()}))
    return Board(
        about={**group.about, "preset": presets},
        parts=tuple(common.parts),
        rows=frame.drop(columns=["order", *INNER]).reset_index(drop=True),
        secondary=frozenset(group.secondary),
        plain=frozenset(group.plain),
        by_seed=tuple(frame["by_seed"]),
        protocol=group.protocol,
        records=tuple(frame["paths"]),
        spellings=tuple(frame["spellings"]),
    )


def _parts(group: Group) -> tuple[str, ...]:
    """The parts of the metric that ranks."""
    found = {name for j in group.judged.values() for network in j.networks.values() for name in network}
    found.difference_update(group.secondary)
    known = [name for name in _ORDER if name in found or not found]
    return (*known, *sorted(found.difference(_ORDER)))


# --- comparisons ----------------------------------------------------------------------------------------------------


def _mark_equal(frame: pd.DataFrame) -> None:
    """Of rows that their methods declare to be one computation, all but the shortest name that one."""
    frame["same_as"] = pd.Series([None] * len(frame), dtype="object")
    for _, group in frame.groupby(["computes", "ipc", "modality", "distilled_with"]):
        first = min(group.index, key=lambda index: (len(group.loc[index, "method"]), group.loc[index, "method"]))
        frame.loc[group.index.difference([first]), "same_as"] = group.loc[first, "method"]


def _winners(contenders: pd.DataFrame) -> list[Hashable]:
    """The row whose lead over every other is beyond the noise, with those equal to it; most often there is none."""
    found = []
    for index, row in contenders.iterrows():
        others = contenders.loc[contenders["computes"] != row["computes"], "by_seed"]
        if len(others) and all(beats(row["by_seed"], other) for other in others):
            found.append(index)
    return found


def _compare(frame: pd.DataFrame) -> None:
    """Ranks among complete rows, and the difference to the baseline, within an IPC and modality."""
    frame["best"] = False
    frame["second"] = False
    frame["rank"] = pd.Series([pd.NA] * len(frame), dtype="Int64")
    frame["delta"] = pd.Series([float("nan")] * len(frame), dtype="float64")
    for _, group in frame.groupby(["ipc", "modality"]):
        contenders = group[group["complete"] & (group["role"] != "upper bound")]
        ranks = contenders["score"].rank(ascending=False, method="min").astype("Int64")
        frame.loc[contenders.index, "rank"] = ranks
        best = _winners(contenders)
        frame.loc[best, "best"] = True
        if best:  # where nobody leads, nobody follows the leader
            frame.loc[_winners(contenders.drop(index=best)), "second"] = True
        baselines = group[(group["role"] == "baseline") & group["complete"]]
        for index in group.index.difference(baselines.index):
            # The baseline that was distilled with the same network where there are several.
            same = baselines[baselines["distilled_with"] == group.loc[index, "distilled_with"]]
            chosen = same if len(same) else baselines
            if len(chosen):
                frame.loc[index, "delta"] = float(group.loc[index, "score"]) - float(chosen["score"].iloc[0])
