"""The leaderboard: rows from records alone, never from what a run still holds in memory.

A *board* holds what may be compared: one dataset fingerprint, protocol with its version and options, architecture,
fusion and precision. A row is one configuration of a method at one IPC, distilled modality and distilling
architecture, however it was spelled.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import pandas as pd

from avbench.grammar import canonical, parse_variants
from avbench.report.scores import Group, Judged, collect, identity
from avbench.report.statistics import beats, interval
from avbench.results import RunDirectory

#: The order of modalities on a board; others follow as they come.
_ORDER = ("a", "v", "av")


@dataclass(frozen=True)
class Board:
    """One comparable table.

    Attributes:
        about: what all its rows have in common.
        parts: what is scored, such as ``("a", "v", "av")``: columns ``a_mean``, ``a_std`` and so on.
        rows: a data frame, one row a configuration, best first within an IPC.
        secondary: the parts of other metrics than the one that ranks.
        plain: the parts that are numbers, not shares of one.
        by_seed: for each row the score of each seed, for comparisons in pairs.
        protocol: the protocol's reference, with its options.
    """

    about: Mapping[str, Any]
    parts: tuple[str, ...]
    rows: pd.DataFrame
    secondary: frozenset[str] = frozenset()
    plain: frozenset[str] = frozenset()
    by_seed: tuple[Mapping[int, float], ...] = ()
    protocol: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        a = self.about
        return (
            f"{a['dataset']} ({a['fingerprint'][:8]}) · {a['protocol']} v{a['protocol_version']} · "
            f"{a['architecture']} · {a['fusion']} · {a['precision']} · preset {a['preset']}"
        )


@dataclass(frozen=True)
class Planned:
    """How many seeds and networks make a row complete."""

    seeds: int
    networks: int


def build_boards(
    directories: Iterable[RunDirectory], only: set[str] | None = None, planned: Planned | None = None
) -> list[Board]:
    """Boards from the records of one or several run directories.

    Args:
        only: keys of distil cells to keep (the grid of the run at hand); ``None`` keeps all.
        planned: what makes a row complete; ``None``: the most that any record of the board was planned with.
    """
    directories = list(directories)
    choices = [record for directory in directories for record in directory.records("tuning")]
    chosen = {key: f"{r['option']} chosen on {r['chosen_on']}" for r in choices for key in r["chosen_cells"]}
    # A value that failed when it was tried is no row that anybody asked for; where somebody did, ``only`` names it.
    tried = {key for r in choices for value in r["values"] for key in value["cells"]} if only is None else set()
    boards = [_board(group, planned, chosen) for group in collect(directories, only, tried.difference(chosen))]
    return sorted(boards, key=lambda board: tuple(str(value) for value in board.about.values()))


def _board(group: Group, planned: Planned | None, chosen: Mapping[str, str]) -> Board:
    rows: dict[tuple[Hashable, ...], list[Judged]] = {}
    for judged in group.judged.values():
        cell = judged.cell
        key = (identity(cell["method"]), cell["ipc"], cell["modality"], identity(cell["architecture"]))
        rows.setdefault(key, []).append(judged)
    wanted = planned or Planned(max(j.cell["planned_seeds"] for j in group.judged.values()), group.planned_networks)
    main = _parts(group)
    parts = (*main, *group.secondary)
    frame = pd.DataFrame([_row(members, main, parts, wanted, chosen) for members in rows.values()])
    _tell_apart(frame)
    _mark_equal(frame)
    _compare(frame)
    # Within an IPC the best first; the whole data (ipc 0) last; rows without a rank after those with one.
    frame["order"] = frame["ipc"].where(frame["ipc"] > 0, 1 << 30)
    frame = frame.sort_values(["modality", "order", "rank", "method"], na_position="last", kind="stable")
    presets = ", ".join(sorted({j.cell["preset"] for j in group.judged.values()}))
    rows_of = frame.drop(columns=["order", "options", "by_seed", "computes"]).reset_index(drop=True)
    about = {**group.about, "preset": presets}
    by_seed = tuple(frame["by_seed"])
    return Board(about, parts, rows_of, frozenset(group.secondary), frozenset(group.plain), by_seed, group.protocol)


def _parts(group: Group) -> tuple[str, ...]:
    """The parts of the metric that ranks."""
    found = {name for j in group.judged.values() for network in j.networks.values() for name in network}
    found.difference_update(group.secondary)
    known = [name for name in _ORDER if name in found or not found]
    return (*known, *sorted(found.difference(_ORDER)))


def _row(
    members: Sequence[Judged],
    main: Sequence[str],
    parts: Sequence[str],
    wanted: Planned,
    chosen: Mapping[str, str],
) -> dict[str, Any]:
    """One row: mean and standard deviation over all networks of all seeds, as the paper counts them.

    It ranks by the modality that was distilled; where a protocol scores no such thing, by the mean of what it scores.
    """
    scored = _one_a_seed([j for j in members if j.networks])
    seeds = {j.cell["seed"] for j in scored}
    networks = min((len(j.networks) for j in scored), default=0)
    # The shortest spelling names the row; a cell that is done tells ratio and bytes.
    cell = min((j.cell for j in members), key=lambda c: (len(c["method"]["label"]), c["method"]["label"]))
    result: Mapping[str, Any] = next((j.cell["result"] for j in members if j.cell["status"] == "done"), {})
    row: dict[str, Any] = {
        "method": cell["method"]["label"],
        "role": cell["role"],
        "ipc": cell["ipc"],
        "modality": cell["modality"],
        "distilled_with": cell["architecture"]["label"],
        "seeds": len(seeds),
        "seeds_planned": wanted.seeds,
        "networks": networks,
        "networks_planned": wanted.networks,
        "complete": len(seeds) >= wanted.seeds and networks >= wanted.networks,
        "n": sum(len(j.networks) for j in scored),
        "ratio": result.get("ratio"),
        "bytes": result.get("storage_bytes"),
        "labels": result.get("labels", "hard"),
        "chosen": next((chosen[j.cell["key"]] for j in members if j.cell["key"] in chosen), None),
        "identity": identity(cell["method"]),
        # Empty, or absent from older records: it is but itself.
        "computes": cell["method"].get("equals") or identity(cell["method"]),
        "options": cell["method"]["options"],
    }
    for part in parts:
        values = pd.Series(
            [network[part] for j in scored for network in j.networks.values() if part in network], dtype="float64"
        )
        row[f"{part}_mean"] = values.mean()  # NaN where nothing was scored
        row[f"{part}_std"] = values.std(ddof=0)
    own = [cell["modality"]] if cell["modality"] in main else main
    row["score"] = pd.Series([row[f"{part}_mean"] for part in own], dtype="float64").mean()
    row["by_seed"] = _by_seed(scored, own)
    row["ci95"] = interval(list(row["by_seed"].values())).half
    return row


def _by_seed(scored: Sequence[Judged], own: Sequence[str]) -> dict[int, float]:
    """The score of each seed: the mean of its networks."""
    found = {}
    for judged in scored:
        values = [network[part] for network in judged.networks.values() for part in own if part in network]
        if values:
            found[judged.cell["seed"]] = fmean(values)
    return found


def _one_a_seed(scored: Sequence[Judged]) -> list[Judged]:
    """The latest cell of each seed: an older one was made with prerequisites that have changed since."""
    latest: dict[int, Judged] = {}
    for judged in sorted(scored, key=lambda j: str(j.cell.get("finished", ""))):
        latest[judged.cell["seed"]] = judged
    return list(latest.values())


def _tell_apart(frame: pd.DataFrame) -> None:
    """Rows with one spelling but several configurations get the options in which they differ into their name."""
    for _, group in frame.groupby(["method", "ipc", "modality", "distilled_with"]):
        if len(group) < 2:
            continue
        options = list(group["options"])
        differing = sorted(k for k in options[0] if len({str(o.get(k)) for o in options}) > 1)
        if not differing:
            continue
        for index, own in zip(group.index, options, strict=True):
            (variant,) = parse_variants(str(frame.loc[index, "method"]), "record")
            more = {key: str(own[key]) for key in differing if key in own}
            frame.loc[index, "method"] = canonical(variant.name, {**variant.given, **more}).label


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
    frame["rank"] = pd.Series([pd.NA] * len(frame), dtype="Int64")
    frame["delta"] = pd.Series([float("nan")] * len(frame), dtype="float64")
    for _, group in frame.groupby(["ipc", "modality"]):
        contenders = group[group["complete"] & (group["role"] != "upper bound")]
        ranks = contenders["score"].rank(ascending=False, method="min").astype("Int64")
        frame.loc[contenders.index, "rank"] = ranks
        frame.loc[_winners(contenders), "best"] = True
        baselines = group[(group["role"] == "baseline") & group["complete"]]
        for index in group.index.difference(baselines.index):
            # The baseline that was distilled with the same network where there are several.
            same = baselines[baselines["distilled_with"] == group.loc[index, "distilled_with"]]
            chosen = same if len(same) else baselines
            if len(chosen):
                frame.loc[index, "delta"] = float(group.loc[index, "score"]) - float(chosen["score"].iloc[0])
