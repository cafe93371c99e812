"""Distilling the cells of a job: the loop, what cells share, and holding each set to its budget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avbench.cells import Cell
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.configure import reconstruct
from avbench.desk import Desk, TaskError, dtype_of
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet
from avbench.jobs import DistilTask
from avbench.method import Context, Method
from avbench.results import write_atomically
from avbench.tasks.prerequisites import load_prerequisites
from avbench.work import State


@dataclass
class _Running:
    """A cell whose method is making steps; ``spent_s`` is its own time, over all processes that worked on it."""

    task: DistilTask
    method: Method
    next_step: int
    curve: Path
    spent_s: float = 0.0
    snapshots: dict[str, str] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.next_step >= self.method.steps


def distil(desk: Desk, tasks: Sequence[DistilTask]) -> None:
    """Distil cells in lock-step, so that what they share of a step is computed once.

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


def _begin_all(desk: Desk, tasks: Sequence[DistilTask]) -> list[_Running]:
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
    save_checkpoint(desk.checkpoint(cell.task, cell.task.key), cell.next_step, _state(cell))


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


def _begin(desk: Desk, task: DistilTask, shared: dict[Hashable, dict[Hashable, Any]]) -> _Running:
    began, cell = time.monotonic(), task.cell
    configured = reconstruct("methods", cell.method)
    # What may be shared depends on all that the streams and networks of a step depend on.
    group = (cell.seed, cell.modality, cell.precision, str(cell.training.architecture.identity()))
    context = replace(context_of(desk, cell), shared=shared.setdefault(group, {}))
    method: Method = configured.target(configured.config, context)
    folder = desk.directory.folder(task.kind, task.key)
    folder.mkdir(parents=True, exist_ok=True)
    running = _Running(task, method, 0, folder / "curve.jsonl")
    found = load_checkpoint(desk.checkpoint(task, task.key))
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
        found.save(desk.directory.set_folder(cell.task.key, cell.next_step))
        cell.snapshots[str(cell.next_step)] = found.content_hash


def _finish(desk: Desk, running: _Running, together: int) -> None:
    """Check the distilled set against the budget, save it, record it."""
    began = time.monotonic()
    task, cell = running.task, running.task.cell
    desk.enter(task, "check")
    found = running.method.distilled()
    _check_set(found, cell, desk.train_set(cell).labels)
    folder = desk.directory.folder(task.kind, task.key)
    desk.enter(task, "writing")
    found.save(folder)
    about = found.describe()
    result = {
        "content_hash": about["content_hash"],
        "kind": about["kind"],
        "items": about["items"],
        "storage_bytes": about["storage_bytes"],
        "ratio": about["items"] / found.dataset.size("train"),
        "steps": running.method.steps,
        "snapshots": running.snapshots,
        "notes": about["notes"],
        "controls": list(running.method.controls(running.method.config)),
        # Cells of one job share the real side of a step: its time is in duration_s of whichever cell asked first.
        "cells_in_job": together,
    }
    running.spent_s += time.monotonic() - began
    desk.succeed(task, task.key, running.spent_s, {"result": result})


def _check_rows(found: SelectedSet, cell: Cell, train_labels: torch.Tensor) -> None:
    """Hold a selection to what its labels say: one distinct row of the right class for each."""
    rows = found.rows.to("cpu", torch.int64)
    if len(rows) != len(found.labels):
        raise TaskError("check", f"{len(rows)} rows were selected, the budget is {len(found.labels)}.")
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(train_labels):
        raise TaskError("check", f"rows from {int(rows.min())} to {int(rows.max())} of {len(train_labels)} samples.")
    distinct = len(set(rows.tolist()))
    if distinct != len(rows):
        raise TaskError("check", f"only {distinct} of the {len(rows)} selected rows are distinct.")
    wrong = int((train_labels[rows] != found.labels).sum())
    if wrong:
        raise TaskError("check", f"{wrong} of the {len(rows)} selected rows are of another class than their label.")


def _check_set(found: DistilledSet, cell: Cell, train_labels: torch.Tensor) -> None:
    """Hold a method to its budget: labels, item shapes, finite values.

    Raises:
        TaskError: says what was given and what was expected.
    """
    classes = len(found.dataset.classes)
    expected = torch.arange(classes).repeat_interleave(cell.ipc)
    labels = found.labels.to("cpu", torch.int64)
    if cell.ipc and not torch.equal(labels.sort().values, expected):
        counts = torch.bincount(labels.clamp(0, classes - 1), minlength=classes).tolist()
        raise TaskError("check", f"the set has {counts} items a class, the budget is {cell.ipc} each.")
    if isinstance(found, SelectedSet):
        _check_rows(found, cell, train_labels)
    if isinstance(found, LearnedSet):
        for name in cell.modality:
            given = tuple(found.items[name].shape) if name in found.items else None
            wanted = (len(labels), *found.dataset.shape(name))
            if given != wanted:
                raise TaskError("check", f"items {name!r} have shape {given}, expected {wanted}.")
            if not bool(torch.isfinite(found.items[name]).all()):
                raise TaskError("check", f"items {name!r} hold values that are not finite.")
