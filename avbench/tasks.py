"""The three kinds of task as a worker does them: build a prerequisite, distil cells, evaluate a set."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.configure import Configured, reconstruct
from avbench.data.samples import TestSet
from avbench.desk import Desk, TaskError, dtype_of
from avbench.distilled import DistilledSet, LearnedSet, load
from avbench.errors import RequestError
from avbench.jobs import Cell, DistilTask, EvaluateTask, PrerequisiteTask, prerequisite_key, trained_network_key
from avbench.method import Context, Method
from avbench.plugin import Setting
from avbench.prerequisite import PrerequisiteContext, TrainedNetwork
from avbench.protocols.base import EvaluationContext, Weights

_TENSORS = "tensors.safetensors"


def _setting(desk: Desk, cell: Cell) -> Setting:
    return Setting(desk.store(cell).info, cell.ipc, cell.modality, cell.preset)


# --- prerequisites --------------------------------------------------------------------------------------------------


def build_prerequisite(desk: Desk, task: PrerequisiteTask) -> None:
    """Build what the owner's method requires under the task's name, and keep its tensors."""
    started = time.monotonic()
    if desk.directory.done(task.kind, task.key):
        desk.tell(event="done", task=task.key)
        return
    try:
        cell = task.owner
        method = reconstruct("methods", cell.method)
        need = method.target.requires(method.config, _setting(desk, cell))[task.name]
        key = prerequisite_key(
            need.identity(), cell.fingerprint, cell.seed, cell.modality, cell.precision, cell.training
        )
        if key != task.key:
            raise TaskError("prerequisite", f"{task.name} is no longer what was planned: run the command again.")
        context = PrerequisiteContext(
            train=desk.train_set(cell),
            modality=cell.modality,
            streams=desk.streams(cell),
            architecture=reconstruct("architectures", cell.training.architecture).build(),
            protocol=reconstruct("protocols", cell.training.protocol).build(),
            fusion=reconstruct("fusions", cell.training.fusion).build(),
            device=desk.device,
            dtype=dtype_of(cell),
            micro_batch=desk.spec.engine.micro_batch,
        )
        work = need.build(context)
        desk.drive(task, task.key, work)
        _keep_tensors(desk.directory.folder(task.kind, task.key), work.tensors())
        desk.succeed(task, task.key, started, {"identity": need.identity()})
    except Exception as error:
        desk.fail(task, task.key, started, error)


def _keep_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_TENSORS}"
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, partial)
    partial.replace(folder / _TENSORS)


def _prerequisites(desk: Desk, cell: Cell) -> dict[str, dict[str, Tensor]]:
    found = {}
    for name, key in cell.prerequisites.items():
        if not desk.directory.done("prerequisite", key):
            raise TaskError("prerequisite", f"{name} ({key}) is not there: it failed, or it was removed.")
        found[name] = load_file(desk.directory.folder("prerequisite", key) / _TENSORS)
    return found


# --- distillation ---------------------------------------------------------------------------------------------------


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
    shared: dict[Hashable, dict[Hashable, Any]] = {}
    running: list[_Running] = []
    for task in tasks:
        if desk.directory.done(task.kind, task.key):
            desk.tell(event="done", task=task.key)
            continue
        _guard(desk, task, lambda task=task: running.append(_begin(desk, task, shared)))
    saved = time.monotonic()
    while running:
        at = min(cell.next_step for cell in running)
        for cell in [c for c in running if c.finished]:
            _guard(desk, cell.task, lambda cell=cell: _finish(desk, cell, len(tasks)), cell.started)
            running.remove(cell)
        for cell in [c for c in running if c.next_step == at]:
            if not _guard(desk, cell.task, lambda cell=cell: _advance(desk, cell), cell.started):
                running.remove(cell)
        if time.monotonic() - saved >= desk.spec.engine.checkpoint_s:
            for cell in running:
                save_checkpoint(
                    desk.checkpoint(cell.task, cell.task.key),
                    cell.next_step,
                    {"method": cell.method.state(), "spent_s": cell.spent_s},
                )
            saved = time.monotonic()


def _guard(desk: Desk, task: DistilTask, act: Callable[[], None], started: float | None = None) -> bool:
    """Do something for a cell; its failure is recorded and stays its own."""
    began = time.monotonic() if started is None else started
    try:
        act()
    except Exception as error:
        desk.fail(task, task.key, began, error)
        return False
    return True


def _begin(desk: Desk, task: DistilTask, shared: dict[Hashable, dict[Hashable, Any]]) -> _Running:
    started, cell = time.monotonic(), task.cell
    configured = reconstruct("methods", cell.method)
    setting = _setting(desk, cell)
    # What may be shared depends on all that the streams and networks of a step depend on.
    group = (cell.seed, cell.modality, cell.precision, str(cell.training.identity()), str(cell.prerequisites))
    context = Context(
        setting=setting,
        train=desk.train_set(cell),
        streams=desk.streams(cell),
        architecture=reconstruct("architectures", cell.training.architecture).build(),
        prerequisites=_prerequisites(desk, cell),
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.spec.engine.micro_batch,
        classes=tuple(range(len(setting.dataset.classes))),
        shared=shared.setdefault(group, {}),
    )
    method = _construct(configured, context)
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


def _construct(configured: Configured, context: Context) -> Method:
    method: Method = configured.target(configured.config, context)
    return method


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


# --- evaluation -----------------------------------------------------------------------------------------------------


def evaluate(desk: Desk, task: EvaluateTask) -> None:
    """Judge one distilled set, unless a set of equal content was judged alike before."""
    started, cell = time.monotonic(), task.cell
    set_hash = desk.directory.set_hash(cell.key)
    if set_hash is None:
        desk.tell(event="stranded", task=task.key, reason=f"{cell.name} has no distilled set")
        return
    key = task.record_key(set_hash)
    if desk.directory.done(task.kind, key):
        desk.tell(event="done", task=task.key)
        return
    try:
        found = load(desk.directory.folder("distil", cell.key))
        if found.content_hash != set_hash:
            raise RequestError(f"the distilled set of {cell.name} was altered after it was recorded.")
        work = reconstruct("protocols", task.judged_by.protocol).build().evaluation(_judging(desk, task, found))
        desk.drive(task, key, work)
        desk.succeed(task, key, started, {"set_hash": set_hash, "result": work.result()})
    except Exception as error:
        desk.fail(task, key, started, error)


def _judging(desk: Desk, task: EvaluateTask, found: DistilledSet) -> EvaluationContext:
    cell = task.cell
    train = desk.train_set(cell)
    info = train.info
    is_whole = found.kind == "selected" and len(found.labels) == info.size("train")
    trained = _TrainedNetworks(desk, task) if is_whole else None
    return EvaluationContext(
        dataset=info,
        samples=found.samples(train),
        test=TestSet(desk.store(cell), desk.device, dtype_of(cell)),
        modality=cell.modality,
        architecture=reconstruct("architectures", task.judged_by.architecture).build(),
        fusion=reconstruct("fusions", task.judged_by.fusion).build(),
        streams=desk.streams(cell),
        networks=task.networks,
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.spec.engine.micro_batch,
        **({"recall": trained.recall, "keep": trained.keep} if trained else {}),
    )


class _TrainedNetworks:
    """Networks trained on the whole data: what an evaluation of ``whole`` and a method's prerequisite share."""

    def __init__(self, desk: Desk, task: EvaluateTask) -> None:
        self._desk, self._task = desk, task

    def _prerequisite(self, index: int) -> PrerequisiteTask:
        identity = TrainedNetwork(index).identity()
        key = trained_network_key(self._task, identity, self._desk.store(self._task.cell).info)
        return PrerequisiteTask(self._task.cell, f"network {index}", key)

    def recall(self, index: int) -> Weights | None:
        task = self._prerequisite(index)
        if not self._desk.directory.done(task.kind, task.key):
            return None
        return load_file(self._desk.directory.folder(task.kind, task.key) / _TENSORS)

    def keep(self, index: int, weights: Weights) -> None:
        task = self._prerequisite(index)
        started = time.monotonic()
        _keep_tensors(self._desk.directory.folder(task.kind, task.key), weights)
        self._desk.succeed(task, task.key, started, {"identity": TrainedNetwork(index).identity()})
