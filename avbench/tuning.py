"""Hyper-parameters chosen on the validation split, never on the test split.

Each value of a ``--tune`` is distilled and judged on the validation split, in each dataset, IPC and modality by
itself, with all seeds and networks of the run. The value with the best mean goes on to the test split, and a record
holds all of them with their scores. The trials' sets are made from the training split alone, so the chosen value's
sets are those that the run then judges on the test split.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, pstdev
from typing import Any

from avbench.cells import content_key
from avbench.errors import AvbenchError, RequestError
from avbench.grid import Planned, Request, cells_of, check_before_tuning
from avbench.jobs import EvaluateTask
from avbench.plan import Plan, plan_cells
from avbench.points import Point, Tune, point_with, points_of
from avbench.results import RunDirectory

_SPLIT = "validation"


def parse_tunes(entries: Sequence[str]) -> tuple[Tune, ...]:
    """Read ``METHOD.OPTION=V1,V2`` entries.

    Raises:
        RequestError: another form, fewer than two values, one listed twice, or two options of one method.
    """
    found: list[Tune] = []
    for entry in entries:
        target, _, listed = entry.partition("=")
        method, _, option = target.strip().rpartition(".")
        values = tuple(value.strip() for value in listed.split(","))
        if not (method and option and all(values)):
            raise RequestError(f"--tune {entry!r}: expected METHOD.OPTION=VALUE,VALUE, such as dm.lr=0.2,1.0.")
        if len(values) < 2 or len(set(values)) < len(values):
            raise RequestError(f"--tune {entry!r}: list at least two values to choose from, each once.")
        if any(tune.method == method for tune in found):
            raise RequestError(f"--tune {entry!r}: {method} has a --tune already; one option of a method is chosen.")
        found.append(Tune(method, option, values))
    return tuple(found)


@dataclass(frozen=True)
class Trial:
    """An open point with the cells of each value."""

    point: Point
    cells: Mapping[str, tuple[Planned, ...]]


@dataclass(frozen=True)
class Trials:
    """What must be known before values can be chosen."""

    trials: tuple[Trial, ...]
    plan: Plan


def open_trials(request: Request, directory: RunDirectory) -> Trials | None:
    """The trials that come next; ``None`` where no value is left to choose.

    Raises:
        RequestError: a ``--tune`` that can't work.
    """
    if not request.tunes:
        return None
    points = points_of(request).all
    if not request.choices:
        _check(request, points)
        check_before_tuning(request, points)
    waiting = [point for point in points if point.tune]
    # The controls of a method may take over what is chosen for it: they wait.
    waiting = [point for point in waiting if point.listed] or waiting
    if not waiting:
        return None
    trials = tuple(_trial(request, point) for point in waiting)
    planned = {p.cell.key: p for trial in trials for cells in trial.cells.values() for p in cells}
    plan = plan_cells(list(planned.values()), directory, request.datasets, request.retry_failed)
    return Trials(trials, plan)


def _check(request: Request, points: Sequence[Point]) -> None:
    for tune in request.tunes:
        mine = [point for point in points if point.tune is tune]
        if not mine:
            raise RequestError(
                f"--tune {tune.text}: no variant of {tune.method} in --method leaves {tune.option} open."
            )
        if any(tune.option in options and tune.method == name for name, options in request.settings.items()):
            raise RequestError(f"--tune {tune.text}: --set gives it a value already; keep one of the two.")
        for info in {point.setting.dataset.name: point.setting.dataset for point in mine}.values():
            if not info.size("val"):
                raise RequestError(
                    f"--tune {tune.text}: {info.name} has no validation split, and the test split chooses nothing. "
                    f"Prepare it with one, or choose on another dataset and write {tune.method}[{tune.option}=…]."
                )


def _trial(request: Request, point: Point) -> Trial:
    assert point.tune is not None
    cells: dict[str, tuple[Planned, ...]] = {}
    for value in point.tune.values:
        found = tuple(_on_validation(p) for p in cells_of(request, point_with(request, point, value)))
        if any(found[0].cell.key == known[0].cell.key for known in cells.values()):
            raise RequestError(f"--tune {point.tune.text}: {value} is listed twice, spelled in two ways.")
        cells[value] = found
    return Trial(point, cells)


def _on_validation(planned: Planned) -> Planned:
    """A cell judged in the first of its ways, on the validation split: a choice needs one judge."""
    return replace(planned, evaluations=(replace(planned.evaluations[0], split="val"),))


# --- the choice -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Choice:
    """What was chosen at a point, and what each value scored there."""

    trial: Trial
    value: str
    scores: Mapping[str, tuple[float, ...]]

    @property
    def text(self) -> str:
        """In one line for the user."""
        point = self.trial.point
        assert point.tune is not None
        listed = ", ".join(f"{v}: {_percent(scores)}" for v, scores in self.scores.items())
        ipc = f" ipc {point.setting.ipc}" if point.setting.ipc else ""
        return (
            f"{point.variant.label} on {point.setting.dataset.name}{ipc} {point.setting.modality}: "
            f"{point.tune.option}={self.value} chosen on the {_SPLIT} split ({listed})"
        )

    def write(self, directory: RunDirectory) -> None:
        """Record it: what was listed, what each value scored, and the cells of the one chosen."""
        point, chosen = self.trial.point, self.trial.cells[self.value]
        assert point.tune is not None
        task = chosen[0].evaluations[0]
        cell = task.cell
        record: dict[str, Any] = {
            "status": "done",
            "method": point.variant.label,
            "option": point.tune.option,
            "chosen": self.value,
            "chosen_on": _SPLIT,
            "values": [_told(v, self.scores[v], cells) for v, cells in self.trial.cells.items()],
            "chosen_cells": [p.cell.key for p in chosen],
            "dataset": {"name": cell.dataset, "fingerprint": cell.fingerprint, "plugin": cell.dataset_plugin},
            "ipc": cell.ipc,
            "modality": cell.modality,
            "precision": cell.precision,
            "preset": cell.preset,
            "planned_seeds": cell.planned_seeds,
            "planned_networks": cell.planned_networks,
            "judged_by": task.judged_by.identity(),
        }
        facts = {name: record[name] for name in record if name not in ("chosen", "chosen_cells", "values")}
        facts["values"] = {v: [p.cell.key for p in cells] for v, cells in self.trial.cells.items()}
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        directory.write_record("tuning", content_key("tuning", facts), {**record, "finished": finished})


def choose(trial: Trial, directory: RunDirectory) -> Choice:
    """The value with the best mean on the validation split; of equal ones the first listed.

    A value of which a seed failed is no candidate: its mean would be of other seeds than the others'.

    Raises:
        AvbenchError: no value could be judged with all seeds.
    """
    scores: dict[str, tuple[float, ...]] = {}
    for value, cells in trial.cells.items():
        found = [_scores(p.evaluations[0], directory) for p in cells]
        scores[value] = tuple(s for of_seed in found for s in of_seed) if all(found) else ()
    candidates = [value for value, found in scores.items() if found]
    if not candidates:
        tune, where = trial.point.tune, trial.point.setting.dataset.name
        assert tune is not None
        raise AvbenchError(
            f"--tune {tune.text}: no value could be judged on {where} with all seeds; the records under "
            f"{directory.root} say why, and --retry-failed tries again."
        )
    return Choice(trial, max(candidates, key=lambda value: fmean(scores[value])), scores)


def _scores(task: EvaluateTask, directory: RunDirectory) -> tuple[float, ...]:
    """What each network scored on the distilled modality, or the mean of what is scored where that is not."""
    set_hash = directory.set_hash(task.cell.key)
    record = directory.record(task.kind, task.record_key(set_hash)) if set_hash else None
    if record is None or record["status"] != "done":
        return ()
    result = record["result"]
    found = [network[result["primary"]] for network in result["networks"]]
    modality = task.cell.modality
    return tuple(each[modality] if modality in each else fmean(each.values()) for each in found)


def _told(value: str, scores: Sequence[float], cells: Sequence[Planned]) -> dict[str, Any]:
    spread = {"mean": fmean(scores), "std": pstdev(scores)} if scores else {"mean": None, "std": None}
    return {"value": value, **spread, "n": len(scores), "cells": [p.cell.key for p in cells]}


def _percent(scores: Sequence[float]) -> str:
    return f"{100 * fmean(scores):.1f} %" if scores else "failed"
