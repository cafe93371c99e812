"""Distilling the cells of a job: the loop, what cells share, and holding each set to its budget."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.configure import reconstruct
from avbench.desk import Desk, TaskError, dtype_of
from avbench.distilled import DistilledSet, LearnedSet
from avbench.jobs import Cell, DistilTask
from avbench.method import Context, Method
from avbench.tasks.prerequisites import load_prerequisites


@dataclass
class _Running:
    """A cell whose method is making steps."""

    task: DistilTask
    method: Method
    started: float
    next_step: int
    curve: Path
    spent_s: float = 0.0

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
            for cell in running:
                _save(desk, cell)
            saved = time.monotonic()


def _begin_all(desk: Desk, tasks: Sequence[DistilTask]) -> list[_Running]:
    shared: dict[Hashable, dict[Hashable, Any]] = {}
    running = []
    for task in tasks:
        if desk.directory.done(task.kind, task.key):
            desk.tell(event="done", task=task.key)
            continue
        started = time.monotonic()
        try:
            running.append(_begin(desk, task, shared))
        except Exception as error:
            desk.fail(task, task.key, started, error)
    return running


def _guard(desk: Desk, cell: _Running, act: Callable[[], None]) -> bool:
    """Do something for a cell; its failure is recorded and stays its own."""
    try:
        act()
    except Exception as error:
        desk.fail(cell.task, cell.task.key, cell.started, error)
        return False
    return True


def _save(desk: Desk, cell: _Running) -> None:
    state = {"method": cell.method.state(), "spent_s": cell.spent_s}
    save_checkpoint(desk.checkpoint(cell.task, cell.task.key), cell.next_step, state)


def _begin(desk: Desk, task: DistilTask, shared: dict[Hashable, dict[Hashable, Any]]) -> _Running:
    started, cell = time.monotonic(), task.cell
    configured = reconstruct("methods", cell.method)
    setting = desk.setting(cell)
    # What may be shared depends on all that the streams and networks of a step depend on.
    group = (cell.seed, cell.modality, cell.precision, str(cell.training.identity()), str(cell.prerequisites))
    context = Context(
        setting=setting,
        train=desk.train_set(cell),
        streams=desk.streams(cell),
        architecture=reconstruct("architectures", cell.training.architecture).build(),
        prerequisites=load_prerequisites(desk, cell),
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.spec.engine.micro_batch,
        classes=tuple(range(len(setting.dataset.classes))),
        shared=shared.setdefault(group, {}),
    )
    method: Method = configured.target(configured.config, context)
    folder = desk.directory.folder(task.kind, task.key)
    folder.mkdir(parents=True, exist_ok=True)
    running = _Running(task, method, started, 0, folder / "curve.jsonl")
    found = load_checkpoint(desk.checkpoint(task, task.key))
    if found is not None:
        running.next_step, state = found
        method.load_state(state["method"])
        running.spent_s = state["spent_s"]
    _trim(running.curve, running.next_step)
    return running


def _trim(curve: Path, steps: int) -> None:
    """Drop the lines of steps that will be made again."""
    if curve.is_file():
        lines = curve.read_text(encoding="utf-8").splitlines()[:steps]
        curve.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def _advance(desk: Desk, cell: _Running) -> None:
    began = time.monotonic()

    def log(metrics: Mapping[str, float]) -> None:
        with cell.curve.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": cell.next_step, **metrics}) + "\n")

    desk.step(cell.task, cell.method, cell.next_step, log)
    cell.next_step += 1
    cell.spent_s += time.monotonic() - began


def _finish(desk: Desk, running: _Running, together: int) -> None:
    """Check the distilled set against the budget, save it, record it."""
    task, cell = running.task, running.task.cell
    found = running.method.distilled()
    _check_set(found, cell)
    folder = desk.directory.folder(task.kind, task.key)
    found.save(folder)
    about = found.describe()
    result = {
        "content_hash": about["content_hash"],
        "kind": about["kind"],
        "items": about["items"],
        "storage_bytes": about["storage_bytes"],
        "ratio": about["items"] / found.dataset.size("train"),
        "steps": running.method.steps,
        "notes": about["notes"],
        # Cells of one job share the real side of a step: the time of it is in whichever cell asked first.
        "steps_s": round(running.spent_s, 3),
        "cells_in_job": together,
    }
    desk.succeed(task, task.key, running.started, {"result": result})


def _check_set(found: DistilledSet, cell: Cell) -> None:
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
    if isinstance(found, LearnedSet):
        for name in cell.modality:
            given = tuple(found.items[name].shape) if name in found.items else None
            wanted = (len(labels), *found.dataset.shape(name))
            if given != wanted:
                raise TaskError("check", f"items {name!r} have shape {given}, expected {wanted}.")
            if not bool(torch.isfinite(found.items[name]).all()):
                raise TaskError("check", f"items {name!r} hold values that are not finite.")
