"""Distilling the cells of a job, or a shard of each: the loop, what cells share, and the records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from avbench.cells import Cell
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.configure import reconstruct
from avbench.desk import Desk, dtype_of
from avbench.distilled import DistilledSet
from avbench.jobs import DistilTask, ShardTask
from avbench.method import Context, Method
from avbench.results import write_atomically
from avbench.tasks.checking import check_set
from avbench.tasks.prerequisites import load_prerequisites
from avbench.work import State


@dataclass
class _Running:
    """A cell whose method is making steps; ``spent_s`` is its own time, over all processes that worked on it."""

    task: DistilTask | ShardTask
    method: Method
    next_step: int
    curve: Path
    spent_s: float = 0.0
    snapshots: dict[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.next_step >= self.method.steps


def distil(desk: Desk, tasks: Sequence[DistilTask | ShardTask]) -> None:
    """Distil cells, or a shard of each, in lock-step, so that what they share of a step is computed once.

    A cell that fails leaves the others alone. Each has its own checkpoint.
    """
    running = _begin_all(desk, tasks)
    saved = time.monotonic()
    while running:
        for cell in [c for c in running if c.finished]:
            _guard(desk, cell, partial(_finish, desk, cell, len(tasks)))
            running.remove(cell)
        at = min((c.next_step for c in running), default=0)
        for cell in [c for c in running if c.next_step == at]:
            if not _guard(desk, cell, partial(_advance, desk, cell)):
                running.remove(cell)
        if time.monotonic() - saved >= desk.spec.engine.checkpoint_s:
            running = [cell for cell in running if _guard(desk, cell, partial(_save, desk, cell))]
            saved = time.monotonic()


def _begin_all(desk: Desk, tasks: Sequence[DistilTask | ShardTask]) -> list[_Running]:
    shared: dict[Hashable, dict[Hashable, Any]] = {}
    running = []
    for task in tasks:
        if desk.directory.distilled(task):
            desk.tell(event="done", task=task.key)
            continue
        began = time.monotonic()
        try:
            running.append(_begin(desk, task, shared))
        except Exception as error:
            desk.fail(task, task.key, time.monotonic() - began, error)
    return running


def _guard(desk: Desk, cell: _Running, act: Callable[[], None]) -> bool:
    """Do something for a cell; its failure is recorded and stays its own."""
    try:
        act()
    except Exception as error:
        desk.fail(cell.task, cell.task.key, cell.spent_s, error)
        return False
    return True


def _save(desk: Desk, cell: _Running) -> None:
    save_checkpoint(desk.checkpoint(cell.task, cell.task.key), cell.next_step, _state(cell), desk.device)


def _state(cell: _Running) -> State:
    """What a checkpoint holds besides the number of steps made."""
    return {"method": cell.method.state(), "spent_s": cell.spent_s, "snapshots": dict(cell.snapshots)}


def context_of(desk: Desk, cell: Cell) -> Context:
    """What the method of a cell is given, for all classes and with nothing shared."""
    setting = desk.setting(cell)
    return Context(
        setting=setting,
        train=desk.train_set(cell),
        streams=desk.streams(cell),
        architecture=reconstruct("architectures", cell.training.architecture).build(),
        prerequisites=load_prerequisites(desk, cell),
        prerequisite_keys=cell.prerequisites,
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.micro_batch(cell),
        classes=tuple(range(len(setting.dataset.classes))),
    )


def _begin(desk: Desk, task: DistilTask | ShardTask, shared: dict[Hashable, dict[Hashable, Any]]) -> _Running:
    began, cell = time.monotonic(), task.cell
    configured = reconstruct("methods", cell.method)
    context = context_of(desk, cell)
    classes = task.classes.indices if isinstance(task, ShardTask) else context.classes
    # What may be shared depends on all that the streams and networks of a step depend on.
    group = (cell.seed, cell.modality, cell.precision, str(cell.training.architecture.identity()), classes)
    context = replace(context, classes=classes, shared=shared.setdefault(group, {}))
    method: Method = configured.target(configured.config, context)
    folder = desk.directory.folder(task.kind, task.key)
    folder.mkdir(parents=True, exist_ok=True)
    running = _Running(task, method, 0, folder / "curve.jsonl")
    found = load_checkpoint(desk.checkpoint(task, task.key), desk.device)
    if found is not None and _has_passed(found, task.snapshots):
        found = None  # it went past a step that is now asked for: begin again
    if found is not None:
        running.next_step, state = found
        method.load_state(state["method"])
        running.spent_s = state["spent_s"]
        running.snapshots = state["snapshots"]
    else:
        _keep_snapshot(desk, running)  # after no step: the initialisation
    _trim(running.curve, running.next_step)
    running.spent_s += time.monotonic() - began
    return running


def _has_passed(checkpoint: tuple[int, State], snapshots: Sequence[int]) -> bool:
    """Whether a checkpoint lies beyond a wanted step of which it has no snapshot."""
    step, state = checkpoint
    return any(wanted <= step and str(wanted) not in state["snapshots"] for wanted in snapshots)


def _trim(curve: Path, steps: int) -> None:
    """Drop the lines of steps that will be made again, and one that a kill left torn."""
    if not curve.is_file():
        return
    kept = []
    for line in curve.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] < steps:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    write_atomically(curve, "".join(kept))


def _advance(desk: Desk, cell: _Running) -> None:
    began = time.monotonic()

    def log(metrics: Mapping[str, float]) -> None:
        with cell.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": cell.next_step, **metrics}) + "\n")

    desk.step(cell.task, cell.method, cell.next_step, log)
    cell.next_step += 1
    _keep_snapshot(desk, cell)
    cell.spent_s += time.monotonic() - began


def _keep_snapshot(desk: Desk, cell: _Running) -> None:
    """Save the set as it stands, where this step is asked for; nothing is drawn, so the run goes on as it would."""
    if cell.next_step in cell.task.snapshots:
        found = cell.method.distilled()
        folder = desk.directory.folder(cell.task.kind, cell.task.key)
        found.save(folder / "snapshots" / str(cell.next_step))
        cell.snapshots[str(cell.next_step)] = found.content_hash


def _finish(desk: Desk, running: _Running, together: int) -> None:
    """Check the distilled set against the budget, save it, record it."""
    began = time.monotonic()
    task, cell = running.task, running.task.cell
    desk.enter(task, "check")
    found = running.method.distilled()
    check_set(found, cell, desk.train_set(cell).labels, running.method.context.classes)
    folder = desk.directory.folder(task.kind, task.key)
    desk.enter(task, "writing")
    found.save(folder)
    result = {
        **describe_set(found),
        "steps": running.method.steps,
        "snapshots": running.snapshots,
        "controls": list(running.method.controls(running.method.config)),
        # Cells of one job share the real side of a step: its time is in duration_s of whichever cell asked first.
        "cells_in_job": together,
    }
    running.spent_s += time.monotonic() - began
    desk.succeed(task, task.key, running.spent_s, {"result": result})
    if isinstance(task, DistilTask):
        desk.directory.remove_shards(task.key)  # of a run that cut it and did not come to its end


def describe_set(found: DistilledSet) -> dict[str, Any]:
    """What a record says of a set that is saved."""
    about = found.describe()
    described = {name: about[name] for name in ("content_hash", "kind", "items", "storage_bytes", "notes")}
    return {**described, "ratio": about["items"] / found.dataset.size("train")}
