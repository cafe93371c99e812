"""Evaluating distilled sets, each judged once per content, protocol, architecture and fusion."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from itertools import product
from typing import Any, cast

import torch

from avbench.configure import reconstruct
from avbench.data.samples import TestSet, ValSet
from avbench.desk import Desk, TaskError, dtype_of
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet, load
from avbench.errors import RequestError
from avbench.jobs import EvaluateTask, PrerequisiteTask, trained_network_key
from avbench.prerequisite import TrainedNetwork
from avbench.protocols.base import EvaluationContext, Weights
from avbench.tasks.prerequisites import keep_tensors, read_tensors
from avbench.weights import kept_weights


def evaluate(desk: Desk, task: EvaluateTask) -> None:
    """Judge one distilled set, unless a set of equal content was judged alike before."""
    started, cell = time.monotonic(), task.cell
    set_hash = desk.directory.set_hash(cell.key, task.snapshot)
    if set_hash is None and task.snapshot is not None and desk.directory.set_hash(cell.key):
        desk.tell(event="done", task=task.key)  # a snapshot after more steps than there are: nothing to judge
        return
    if set_hash is None:
        desk.tell(event="stranded", task=task.key, reason=f"{cell.name} has no distilled set")
        return
    key = task.record_key(set_hash)
    if desk.directory.done(task.kind, key):
        desk.tell(event="done", task=task.key)
        return
    try:
        found = load(desk.directory.set_folder(cell.key, task.snapshot))
        if found.content_hash != set_hash:
            raise RequestError(f"the distilled set of {cell.name} was altered after it was recorded.")
        protocol = reconstruct("protocols", task.judged_by.protocol).build()
        work = protocol.evaluation(_judging(desk, task, found))
        before_s = desk.drive(task, key, work)
        metrics = [asdict(metric) for metric in protocol.metrics]
        result = {"primary": protocol.metrics[0].name, "metrics": metrics, **work.result()}
        _check_result(result, task)
        found_on = {} if task.split == "test" else {"split": task.split}
        facts = {"set_hash": set_hash, **found_on, "result": result}
        desk.succeed(task, key, before_s + time.monotonic() - started, facts)
    except Exception as error:
        desk.fail(task, key, time.monotonic() - started, error)


def _check_result(result: Mapping[str, Any], task: EvaluateTask) -> None:
    """Hold a protocol to its promise: all its metrics of every network, finite.

    Raises:
        TaskError: says what is missing.
    """
    metrics, networks = [metric["name"] for metric in result["metrics"]], result.get("networks", [])
    indices = [network.get("index") for network in networks]
    if indices != list(range(task.networks)):
        raise TaskError("check", f"the protocol scored networks {indices}, {task.networks} were asked for.")
    for network, metric in product(networks, metrics):
        scores = network.get(metric)
        if not scores or not all(math.isfinite(value) for value in scores.values()):
            raise TaskError("check", f"network {network['index']} has no finite {metric}: {scores}.")


def _judging(desk: Desk, task: EvaluateTask, found: DistilledSet) -> EvaluationContext:
    cell = task.cell
    train = desk.train_set(cell)
    info = train.info
    everything = torch.arange(info.size("train"))
    # In the order of the store: another order would train other networks than the prerequisite's.
    is_whole = isinstance(found, SelectedSet) and torch.equal(found.rows, everything)
    context = EvaluationContext(
        dataset=info,
        samples=found.samples(train),
        test=_judged_on(desk, task),
        modality=cell.modality,
        architecture=reconstruct("architectures", task.judged_by.architecture).build(),
        fusion=reconstruct("fusions", task.judged_by.fusion).build(),
        streams=desk.streams(cell),
        networks=task.networks,
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.micro_batch(cell),
        step_size=found.step_size if isinstance(found, LearnedSet) else None,
        given=partial(kept_weights, desk.directory),
    )
    if not is_whole:
        return context
    trained = _TrainedNetworks(desk, task)
    return replace(context, recall=trained.recall, keep=trained.keep)


def _judged_on(desk: Desk, task: EvaluateTask) -> TestSet:
    """The split to judge on. To a protocol both are alike; where a value is chosen the test split is never opened."""
    split = {"test": TestSet, "val": ValSet}[task.split]
    return cast(TestSet, split(desk.store(task.cell), desk.device, dtype_of(task.cell)))


class _TrainedNetworks:
    """Networks trained on the whole data: what an evaluation of ``whole`` and a method's prerequisite share."""

    def __init__(self, desk: Desk, task: EvaluateTask) -> None:
        self._desk, self._task = desk, task

    def _prerequisite(self, index: int) -> PrerequisiteTask:
        identity = TrainedNetwork(index).identity()
        key = trained_network_key(self._task, identity, self._desk.store(self._task.cell).info)
        # The record is to name what the network was trained with: the judging network, not the distilling one.
        owner = replace(self._task.cell, training=self._task.judged_by)
        return PrerequisiteTask(owner, f"network {index}", key)

    def recall(self, index: int) -> Weights | None:
        task = self._prerequisite(index)
        if not self._desk.directory.done(task.kind, task.key):
            return None
        return read_tensors(self._desk.directory.folder(task.kind, task.key))

    def keep(self, index: int, weights: Weights) -> None:
        task = self._prerequisite(index)
        keep_tensors(self._desk.directory.folder(task.kind, task.key), weights)
        # Its time is in the evaluation's record, of which it is a by-product.
        self._desk.succeed(task, task.key, 0.0, {"identity": TrainedNetwork(index).identity()})
