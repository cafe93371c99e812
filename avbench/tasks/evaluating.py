"""Evaluating distilled sets, each judged once per content, protocol, architecture and fusion."""

from __future__ import annotations

import time
from dataclasses import replace

from avbench.configure import reconstruct
from avbench.data.samples import TestSet
from avbench.desk import Desk, dtype_of
from avbench.distilled import DistilledSet, load
from avbench.errors import RequestError
from avbench.jobs import EvaluateTask, PrerequisiteTask, trained_network_key
from avbench.prerequisite import TrainedNetwork
from avbench.protocols.base import EvaluationContext, Weights
from avbench.tasks.prerequisites import keep_tensors, read_tensors


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
    context = EvaluationContext(
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
    )
    if not is_whole:
        return context
    trained = _TrainedNetworks(desk, task)
    return replace(context, recall=trained.recall, keep=trained.keep)


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
        return read_tensors(self._desk.directory.folder(task.kind, task.key))

    def keep(self, index: int, weights: Weights) -> None:
        task = self._prerequisite(index)
        started = time.monotonic()
        keep_tensors(self._desk.directory.folder(task.kind, task.key), weights)
        self._desk.succeed(task, task.key, started, {"identity": TrainedNetwork(index).identity()})
