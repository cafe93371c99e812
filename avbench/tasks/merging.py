"""Putting a distilled set together from its class shards: tensors, snapshots, learning curve and record."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

import torch

from avbench.cells import Cell
from avbench.data.samples import TrainSet
from avbench.data.store import StoreInfo
from avbench.desk import Desk, TaskError, dtype_of
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet, load
from avbench.environment import environment, peak_memory_mib
from avbench.jobs import DistilTask, ShardTask
from avbench.results import has_snapshots, hash_in, write_atomically
from avbench.tasks.checking import check_set
from avbench.tasks.distilling import describe_set

_PHASE = "merge"


@dataclass(frozen=True)
class _Part:
    """A shard that is done."""

    task: ShardTask
    folder: Path
    record: Mapping[str, Any]

    @property
    def result(self) -> Mapping[str, Any]:
        result: Mapping[str, Any] = self.record["result"]
        return result

    def load(self, snapshot: int | None = None) -> DistilledSet:
        """Its set, or what it was after so many steps.

        Raises:
            TaskError: it is not the one that was recorded.
        """
        at = self.folder if snapshot is None else self.folder / "snapshots" / str(snapshot)
        found = load(at)
        if found.content_hash != hash_in(self.record, snapshot):
            raise TaskError(_PHASE, f"{at} was altered after it was recorded: remove {self.folder} and run again.")
        return found


def merge(desk: Desk, task: DistilTask) -> None:
    """Make a distilled set of the shards that earlier jobs made, then remove them."""
    began = time.monotonic()
    if desk.directory.distilled(task):
        desk.tell(event="done", task=task.key)
        desk.directory.remove_shards(task.key)
        return
    try:
        desk.enter(task, _PHASE)
        parts = [_part(desk, each) for each in task.parts]
        steps = _agreed(parts, "steps", [part.result["steps"] for part in parts])
        folder = desk.directory.folder(task.kind, task.key)
        found = _save_joined(desk, task.cell, [part.load() for part in parts], folder)
        snapshots = {}
        for step in (each for each in task.snapshots if each <= steps):
            sets = [part.load(step) for part in parts]
            at = desk.directory.set_folder(task.key, step)
            snapshots[str(step)] = _save_joined(desk, task.cell, sets, at).content_hash
        _join_curves([part.folder / "curve.jsonl" for part in parts], folder / "curve.jsonl")
        result = {
            **describe_set(found),
            "steps": steps,
            "snapshots": snapshots,
            "controls": parts[0].result["controls"],
            "cells_in_job": max(part.result["cells_in_job"] for part in parts),
        }
        spent_s = time.monotonic() - began + fsum(part.record["duration_s"] for part in parts)
        record = {"result": result, "peak_memory_mib": _peaks(desk, parts), "shards": [_about(part) for part in parts]}
        desk.succeed(task, task.key, spent_s, record)
        desk.directory.remove_shards(task.key)
    except Exception as error:
        desk.fail(task, task.key, time.monotonic() - began, error)


def _part(desk: Desk, task: ShardTask) -> _Part:
    """A shard with its record.

    Raises:
        TaskError: it failed, or it is not there.
    """
    record = desk.directory.record(task.kind, task.key)
    if record is not None and has_snapshots(record, task.snapshots):
        return _Part(task, desk.directory.folder(task.kind, task.key), record)
    failed = record is not None and record["status"] == "failed"
    why = f"failed: {record['error']['reason']}" if record is not None and failed else "is not there: run it again"
    raise TaskError(_PHASE, f"its shard of {task.classes} {why}")


def _agreed(parts: Sequence[_Part], what: str, values: Sequence[Any]) -> Any:
    """What all shards have in common.

    Raises:
        TaskError: they differ: the method is not separable by class.
    """
    if any(value != values[0] for value in values):
        told = ", ".join(f"{value!r} of {part.task.classes}" for part, value in zip(parts, values, strict=True))
        raise TaskError(_PHASE, f"its shards differ in {what}: {told}. Its method should say separable = False.")
    return values[0]


# --- sets ---------------------------------------------------------------------------------------------------------


def _save_joined(desk: Desk, cell: Cell, sets: Sequence[DistilledSet], folder: Path) -> DistilledSet:
    """Put the sets of shards together, hold the whole to its budget, and save it."""
    store = desk.store(cell)
    found = join_sets(store.info, cell.modality, sets)
    # Its labels alone are needed: they are not worth a place on a GPU.
    check_set(found, cell, TrainSet(store, torch.device("cpu"), dtype_of(cell)).labels)
    found.save(folder)
    return found


def join_sets(dataset: StoreInfo, modality: str, sets: Sequence[DistilledSet]) -> DistilledSet:
    """The set (Σ N_s, …) whose parts by class are ``sets`` (N_s, …), in their order.

    Raises:
        TaskError: they are of different kinds or factors, or hold a learned step size, which no class has for itself.
    """
    labels = torch.cat([each.labels for each in sets])
    notes = join_notes([each.notes for each in sets])
    selected = [each for each in sets if isinstance(each, SelectedSet)]
    if len(selected) == len(sets):
        rows = torch.cat([each.rows for each in selected])
        return SelectedSet(dataset, modality, labels, rows, notes=notes)
    learned = [each for each in sets if isinstance(each, LearnedSet)]
    factors = {each.factor for each in learned}
    if len(learned) != len(sets) or len(factors) != 1 or any(each.step_size for each in learned):
        raise TaskError(
            _PHASE,
            "its shards differ in kind or factor, or have learned step sizes, which belong to all classes together: "
            "its method should say separable = False.",
        )
    items = {name: torch.cat([each.items[name] for each in learned]) for name in learned[0].items}
    return LearnedSet(dataset, modality, labels, items, factors.pop(), notes=notes)


def join_notes(notes: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The notes of shards as the whole would have them: what only differs after ``": "`` is listed in one note."""
    found: dict[str, list[str]] = {}
    for note in (note for each in notes for note in each):
        head, colon, tail = note.rpartition(": ")
        tails = found.setdefault(head + colon, [])
        if tail not in tails:
            tails.append(tail)
    return tuple(note for head, tails in found.items() for note in ([head + ", ".join(tails)] if head else tails))


# --- curves and records -------------------------------------------------------------------------------------------


def _join_curves(curves: Sequence[Path], target: Path) -> None:
    """Add up what the shards logged at each step: a metric of a separable method is a sum over classes."""
    logged = [_by_step(path) for path in curves]
    lines = []
    for step in sorted(set.intersection(*(set(each) for each in logged))):
        rows = [each[step] for each in logged]
        names = [name for name in rows[0] if all(name in row for row in rows)]
        sums = {name: fsum(row[name] for row in rows) for name in names}
        lines.append(json.dumps({"step": step, **sums}) + "\n")
    if lines:
        write_atomically(target, "".join(lines))


def _by_step(curve: Path) -> dict[int, dict[str, float]]:
    if not curve.is_file():
        return {}
    rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    return {row.pop("step"): row for row in rows}


def _peaks(desk: Desk, parts: Sequence[_Part]) -> dict[str, float]:
    """The most memory in MiB that a shard or their merging took, by where."""
    found = peak_memory_mib(desk.device)
    for part in parts:
        for where, value in part.record["peak_memory_mib"].items():
            found[where] = max(value, found.get(where, 0.0))
    return found


def _about(part: _Part) -> dict[str, Any]:
    """What the record of the whole keeps of a shard's: its environment only where it was another."""
    names = ("classes", "duration_s", "peak_memory_mib", "threads", "engine", "finished")
    about = {name: part.record[name] for name in names} | {"content_hash": part.result["content_hash"]}
    own, here = ({k: v for k, v in each.items() if k != "host"} for each in (part.record["environment"], environment()))
    return about if own == here else about | {"environment": own}


__all__ = ["join_notes", "join_sets", "merge"]
