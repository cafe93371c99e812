"""Checks of a protocol: what it measures, what it may look at, and that its networks stand for themselves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from avbench.data.samples import TensorSamples
from avbench.errors import RequestError
from avbench.grid import MODALITIES
from avbench.jobs import EvaluateTask
from avbench.plugin import Setting
from avbench.prerequisite import Product
from avbench.protocols.base import Metric
from avbench.testing.bench import PRESET, Scene, Stopped
from avbench.testing.devices import another_device, described, mixing_told, need_agreement
from avbench.testing.given import LEARNS, SELECTS
from avbench.testing.judging import NETWORKS, TRAINING_STEPS, Judging, numbers
from avbench.testing.registry import Failure, register
from avbench.testing.trials import apart


@register("protocol", name="metrics", promise="every declared metric of every network, finite, shares from 0 to 1")
def metrics(subject: Judging) -> str:
    """What it says that it measures, and what it gives."""
    declared = subject.target.metrics
    if not declared or not all(isinstance(metric, Metric) for metric in declared) or not declared[0].share:
        advice = "Boards rank by the first: the higher the better."
        raise Failure("metrics whose first is a share", repr(declared), advice)
    found = subject.results(subject.context(NETWORKS))
    indices = [network.get("index") for network in found]
    if indices != list(range(NETWORKS)):
        raise Failure(f"networks {list(range(NETWORKS))}", str(indices), "Score context.networks networks.")
    for network in found:
        for metric in declared:
            _check_scores(network, metric)
    return ", ".join(metric.name for metric in declared)


def _check_scores(network: Mapping[str, Any], metric: Metric) -> None:
    scores = network.get(metric.name)
    where = f"{metric.name} of network {network['index']}"
    if not isinstance(scores, Mapping) or not scores:
        raise Failure(f"{where} as {{modality: value}}", repr(scores), "Give all that metrics declares.")
    for what, value in scores.items():
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise Failure(f"a finite {where}", f"{what}: {value!r}", "Look at what is divided.")
        if metric.share and not 0 <= value <= 1:
            raise Failure(f"{where} from 0 to 1", f"{what}: {value!r}", "Give a share, or declare share=False.")


@register("protocol", name="networks", promise="networks that do not depend on how many are trained")
def networks(subject: Judging) -> None:
    """The first network alone, and among two."""
    alone, among = subject.judged(1), subject.judged(NETWORKS)
    declared = subject.target.metrics
    one, other = numbers(alone[:1], declared), numbers(among[:1], declared)
    losses = [results[0].get("train_loss") for results in (alone, among)]
    scores = [{name: float(value) for name, value in each.items()} for each in (one, other)]
    if scores[0] != scores[1] or losses[0] != losses[1]:
        found = f"{scores[0]} and {scores[1]}, losses {losses}"
        raise Failure("network 0 to score the same alone and among two", found, "Draw each by its index.")


@register("protocol", name="last-epoch", promise="a test split that is read when training is over, in one step")
def last_epoch(subject: Judging) -> None:
    """What reads it before may choose by it."""
    subject.judged(1)
    context = subject.memo["context", 1]
    read = sorted(getattr(context.test, "read_in", set()))
    last = subject.protocol().evaluation(subject.context(1)).steps - 1
    if read != [last]:
        advice = "Score the network of the last epoch, once: the best epoch on test is no result."
        raise Failure(f"the test split read in the last step, {last}, alone", f"read in steps {read[:6]}", advice)


@register("protocol", name="samples", promise="training samples that are left as they were")
def samples(subject: Judging) -> None:
    """The samples are shared by all networks and protocols of a job."""
    context = subject.context(1)
    assert isinstance(context.samples, TensorSamples)
    before = {name: tensor.clone() for name, tensor in context.samples.tensors.items()}
    labels = context.samples.labels.clone()
    subject.results(context)
    changed = [name for name, tensor in before.items() if apart(tensor, context.samples.tensors[name])]
    changed += ["labels"] if apart(labels, context.samples.labels) else []
    if changed:
        raise Failure("samples as they were given", f"{', '.join(changed)} changed", "Change copies, not the samples.")


@register("protocol", name="resume", promise="the result of an uninterrupted evaluation after an interrupted one")
def resume(subject: Judging) -> str:
    """The runner is interrupted early, midway and at the last step, and another goes on from its checkpoint."""
    subject.judged()
    whole = _judged_by_runner(subject, None)
    steps = subject.protocol().evaluation(subject.context(NETWORKS)).steps
    stops = sorted({1, steps // 2 + 1, steps - 1} & set(range(1, steps)))
    for stop in stops:
        again = _judged_by_runner(subject, stop)
        if again != whole:
            advice = "Put into state() all that later steps depend on."
            found = f"{str(again)[:150]} instead of {str(whole)[:150]}"
            raise Failure(f"the uninterrupted result after an interruption before step {stop}", found, advice)
    return f"interrupted before steps {', '.join(map(str, stops))}"


def _judged_by_runner(subject: Judging, stop: int | None, method: str = SELECTS) -> Any:
    """The result as recorded, after an interruption before step ``stop``."""
    scene = subject.scene
    planned = subject.planned(scene, method)
    out = subject.bench.new_folder("judged")
    subject.bench.distil(subject.bench.desk(scene, out), [planned])
    task = EvaluateTask(planned.cell, planned.evaluations[0].judged_by, NETWORKS)
    if stop is not None:
        try:
            record = subject.bench.judge(subject.bench.desk(scene, out, stop), task)
        except Stopped:
            record = {"status": "stopped"}
        _refuse_failed(record)
    record = subject.bench.judge(subject.bench.desk(scene, out), task)
    _refuse_failed(record)
    return record["result"]


def _refuse_failed(record: Mapping[str, Any]) -> None:
    if record["status"] == "failed":
        error = record["error"]
        found = f"a failure in {error['phase']}: {error['reason']}"
        raise Failure("a finished record", found, "Correct what the runner refuses.")


@register("protocol", name="learned-sets", promise="learned sets with step sizes judged like any other")
def learned_sets(subject: Judging) -> None:
    """A set of the kit's that carries learned step sizes, judged and recorded by the runner."""
    subject.judged()
    _judged_by_runner(subject, None, LEARNS)


@register("protocol", name="train-on", promise="networks trained as an evaluation would, as named tensors")
def train_on(subject: Judging) -> str:
    """What methods such as herding require: encoders named a. and v., the head's part named head."""
    context = subject.context(1)
    product = subject.product(context)
    if not isinstance(product, Product):
        raise Failure("train_on() to give a Product", type(product).__name__, "Derive it from avbench.api.Product.")
    for k in range(min(product.steps, TRAINING_STEPS)):
        product.step(k)
    names = list(product.tensors())
    wrong = [name for name in names if name.split(".")[0] not in (*context.modality, "head")]
    missing = [name for name in context.modality if not any(each.startswith(f"{name}.") for each in names)]
    if wrong or missing:
        found = f"{', '.join(wrong[:3])}" if wrong else f"none of {', '.join(missing)}"
        raise Failure("tensors named a.…, v.… and head.…", found, "Name them as TrainedNetwork does.")
    encoder = context.architecture.build(context.dataset, context.modality[0])
    own = {n.partition(".")[2]: t for n, t in product.tensors().items() if n.startswith(f"{context.modality[0]}.")}
    encoder.load_state_dict(dict(own))
    return f"{len(names)} tensors"


@register("protocol", name="device", promise="work on the device that is given, with the processor's scores")
def on_device(subject: Judging) -> str:
    """In float64 the scores are those of the processor, and so is a step of train_on(); a checkpoint lies between."""
    subject.judged(1)  # or it is told elsewhere
    there, found = another_device(), []
    for place in ("cpu", there):
        path = subject.bench.new_folder("devices") / "checkpoint.safetensors"
        with mixing_told(place):
            context = subject.context(1, precision="float64", device=place)
            scores = numbers(subject.results(context, handed_on=path), subject.protocol().metrics)
            product = subject.product(context)
            for k in range(min(product.steps, 1)):
                product.step(k)
            found.append({**scores, **{f"trained {name}": t.cpu() for name, t in product.tensors().items()}})
    here, other = found
    for name, value in here.items():
        need_agreement(name, value, other[name], there)
    return described(there)


@register("protocol", name="modalities", promise="a RequestError from check() where it can't judge")
def modalities(subject: Judging) -> str:
    """Every modality is judged, or refused before anything is started."""
    subject.judged()
    refused = []
    for modality in MODALITIES:
        setting = Setting(subject.context(1).dataset, 2, modality, PRESET)
        try:
            subject.target.check(subject.config, setting)
        except RequestError:
            refused.append(modality)
            continue
        scene = Scene(modality=modality)
        planned = subject.planned(scene)
        out = subject.bench.new_folder("judged")
        subject.bench.distil(subject.bench.desk(scene, out), [planned])
        task = EvaluateTask(planned.cell, planned.evaluations[0].judged_by, 1)
        record = subject.bench.judge(subject.bench.desk(scene, out), task)
        if record["status"] != "done":
            found = f"a failure in {record['error']['phase']}: {record['error']['reason']}"
            raise Failure(f"modality {modality!r} judged, or refused by check()", found, "Refuse it in check().")
    return f"refuses {', '.join(refused)}" if refused else ""
