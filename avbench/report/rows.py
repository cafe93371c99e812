"""From the judged cells of one configuration to its row: means, spread, cost, and what a paper reports for it."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import nan
from statistics import fmean
from typing import Any

import pandas as pd

from avbench.cells import configuration
from avbench.report.reported import Place, Reported, reported, standard_errors
from avbench.report.scores import Judged
from avbench.report.statistics import interval

#: Columns that boards need while they are made, and do not show.
INNER = ("options", "distiller", "by_seed", "computes", "paths", "spellings")
_MEMORY = {"peak_memory_mib": "resident", "peak_gpu_memory_mib": "gpu"}


@dataclass(frozen=True)
class Planned:
    """How many seeds and networks make a row complete."""

    seeds: int
    networks: int


@dataclass(frozen=True)
class Frame:
    """What all rows of a board have in common.

    Attributes:
        about: the board's dataset, protocol, architecture, fusion, precision, metric.
        main: the parts of the metric that ranks; ``parts``: all.
        wanted: what makes a row complete.
        chosen: by the key of a cell, which option was chosen for it, and on what.
    """

    about: Mapping[str, Any]
    main: Sequence[str]
    parts: Sequence[str]
    wanted: Planned
    chosen: Mapping[str, str]


def make_row(members: Sequence[Judged], frame: Frame) -> dict[str, Any]:
    """One row: mean and standard deviation over all networks of all seeds, as the paper counts them.

    It ranks by the modality that was distilled; where a protocol scores no such thing, by the mean of what it scores.
    """
    scored = one_a_seed([j for j in members if j.networks])
    cell = _namesake(members)
    # A cell that is done tells ratio and bytes.
    result: Mapping[str, Any] = next((j.cell["result"] for j in members if j.cell["status"] == "done"), {})
    row: dict[str, Any] = {
        **named_row(members),
        **_completeness(scored, frame.wanted),
        "ratio": result.get("ratio"),
        "bytes": result.get("storage_bytes"),
        "labels": result.get("labels", "hard"),
        **_cost([j.cell for j in scored]),
        "chosen": next((frame.chosen[j.cell["key"]] for j in members if j.cell["key"] in frame.chosen), None),
        "identity": configuration(cell["method"]),
        # Empty, or absent from older records: it is but itself.
        "computes": cell["method"].get("equals") or configuration(cell["method"]),
        "paths": _paths(members, scored),
    }
    for part in frame.parts:
        values = pd.Series(
            [network[part] for j in scored for network in j.networks.values() if part in network], dtype="float64"
        )
        row[f"{part}_mean"] = values.mean()  # NaN where nothing was scored
        row[f"{part}_std"] = values.std(ddof=0)
    own = [cell["modality"]] if cell["modality"] in frame.main else list(frame.main)
    row["score"] = pd.Series([row[f"{part}_mean"] for part in own], dtype="float64").mean()
    row["by_seed"] = _by_seed(scored, own)
    row["ci95"] = interval(list(row["by_seed"].values())).half
    return row | _beside(row, frame.about, own)


def named_row(members: Sequence[Judged]) -> dict[str, Any]:
    """What a row is called, by its shortest spelling, with what :func:`avbench.report.naming.tell_apart` goes by."""
    cell = _namesake(members)
    return {
        "method": cell["method"]["label"],
        "version": cell["method"]["version"],
        "distribution": cell["method"]["distribution"],
        "role": cell["role"],
        "ipc": cell["ipc"],
        "modality": cell["modality"],
        "distilled_with": cell["architecture"]["label"],
        "options": cell["method"]["options"],
        "distiller": cell["architecture"],
        "spellings": frozenset(j.cell["method"]["label"] for j in members),
    }


def _namesake(members: Sequence[Judged]) -> Mapping[str, Any]:
    """The cell of the shortest spelling, which names the row."""
    return min((j.cell for j in members), key=lambda c: (len(c["method"]["label"]), c["method"]["label"]))


def in_rows(judged: Iterable[Judged]) -> list[list[Judged]]:
    """The cells of a board by the row that they are of: configuration, IPC, modality and what distilled them."""
    rows: dict[tuple[Hashable, ...], list[Judged]] = {}
    for each in judged:
        cell = each.cell
        key = (configuration(cell["method"]), cell["ipc"], cell["modality"], configuration(cell["architecture"]))
        rows.setdefault(key, []).append(each)
    return list(rows.values())


def one_a_seed(scored: Sequence[Judged]) -> list[Judged]:
    """The latest cell of each seed: an older one was made with prerequisites that have changed since.

    In the order of seeds: sums round by their order, and a board must not depend on which seed ended first.
    """
    latest: dict[int, Judged] = {}
    for judged in sorted(scored, key=lambda j: str(j.cell.get("finished", ""))):
        latest[judged.cell["seed"]] = judged
    return [latest[seed] for seed in sorted(latest)]


def _completeness(scored: Sequence[Judged], wanted: Planned) -> dict[str, Any]:
    seeds = {j.cell["seed"] for j in scored}
    networks = min((len(j.networks) for j in scored), default=0)
    return {
        "seeds": len(seeds),
        "seeds_planned": wanted.seeds,
        "networks": networks,
        "networks_planned": wanted.networks,
        "complete": len(seeds) >= wanted.seeds and networks >= wanted.networks,
        "n": sum(len(j.networks) for j in scored),
    }


def _cost(cells: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Mean seconds that distilling took a seed, and the most memory; NaN where the set was made elsewhere.

    Cells that shared a job shared steps, whose time counts for one of them alone: so it is told how many there were.
    """
    own = [cell for cell in cells if "adopted" not in cell]
    durations = [cell["duration_s"] for cell in own if cell.get("duration_s") is not None]
    shared = [cell["result"].get("cells_in_job") or 1 for cell in own]
    found = {"duration_s": fmean(durations) if durations else nan, "cells_in_job": max(shared, default=1)}
    for column, where in _MEMORY.items():
        peaks = [(cell.get("peak_memory_mib") or {}).get(where) for cell in own]
        found[column] = float(max((peak for peak in peaks if peak is not None), default=nan))
    return found


def _by_seed(scored: Sequence[Judged], own: Sequence[str]) -> dict[int, float]:
    """The score of each seed: the mean of its networks."""
    found = {}
    for judged in scored:
        values = [network[part] for network in judged.networks.values() for part in own if part in network]
        if values:
            found[judged.cell["seed"]] = fmean(values)
    return found


def _paths(members: Sequence[Judged], scored: Sequence[Judged]) -> tuple[Any, ...]:
    """The records that a row was made from, and those of its failures; each cell before its evaluations."""
    counted = {id(judged) for judged in scored}
    used = [judged for judged in members if id(judged) in counted or not judged.networks]
    used.sort(key=lambda judged: judged.cell["seed"])
    return tuple(dict.fromkeys(path for judged in used for path in judged.paths))


# --- beside a paper's number ----------------------------------------------------------------------------------------

_look_up = cache(reported)


def _beside(row: Mapping[str, Any], about: Mapping[str, Any], own: Sequence[str]) -> dict[str, Any]:
    """What a paper reports for the score that ranks; a mean of several parts where it reports all of them."""
    found = [_look_up(_place(row, about, part)) for part in own]
    figures = [figure for figure in found if figure is not None]
    if not figures or len(figures) < len(own):
        return {
            "reported": nan,
            "reported_std": nan,
            "delta_reported": nan,
            "reported_errors": nan,
            "reported_in": None,
        }
    mean = fmean(figure.mean for figure in figures)
    spread = errors = nan
    if len(figures) == 1:  # directions of retrieval share their networks: their mean has no spread that we know
        spread = figures[0].std
        errors = standard_errors(row["score"], row[f"{own[0]}_std"], row["n"], figures[0])
    return {
        "reported": mean,
        "reported_std": spread,
        "delta_reported": row["score"] - mean,
        "reported_errors": errors,
        "reported_in": _source(figures),
    }


def _place(row: Mapping[str, Any], about: Mapping[str, Any], part: str) -> Place:
    return Place(
        dataset=about["dataset"],
        plugin=about["dataset_plugin"],
        method=row["method"],
        ipc=row["ipc"],
        modality=row["modality"],
        architecture=about["architecture"],
        fusion=about["fusion"],
        protocol=about["protocol"],
        metric=about["metric"],
        part=part,
    )


def _source(figures: Sequence[Reported]) -> str:
    tables = ", ".join(dict.fromkeys(figure.table for figure in figures))
    return f"{figures[0].source}, table {tables}"
