"""Checks of how a method's steps hang together: resuming, state, class shards, and cells that share their steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from avbench.desk import TaskError
from avbench.distilled import load
from avbench.results import RunDirectory
from avbench.tasks.merging import join_sets
from avbench.testing.bench import Scene, Stopped
from avbench.testing.registry import Failure, NotChecked, register
from avbench.testing.trials import Made, Trial, at, difference, equal_states, tensors_of, through
from avbench.work import State

#: Differences that other batches may make in float32, as a share of the largest value: networks with batch norm.
_ROUNDING = 1e-4


@register("method", name="state", promise="a state of tensors and plain values that brings everything back")
def state(trial: Trial) -> str:
    """Every state goes through a checkpoint into a fresh method, and back into the one that has gone on."""
    made = trial.settled(trial.scene)
    path = trial.bench.new_folder("state") / "checkpoint.safetensors"
    states: list[State] = []
    method = trial.start(trial.scene)
    for k in range(method.steps):
        given = method.state()
        try:
            kept = through(path, given)
        except TypeError as error:
            raise Failure(f"a state at step {k} that a checkpoint can hold", f"{error}", "Store tensors.") from error
        fresh = trial.start(trial.scene)
        fresh.load_state(through(path, given))
        if not equal_states(kept, through(path, fresh.state())):
            found = f"another one after step {k}"
            raise Failure("state() to give what load_state() got", found, "Save and load the same things.")
        states.append(kept)
        method.step(k)
    for k, kept in reversed(list(enumerate(states))):
        path.unlink(missing_ok=True)
        method.load_state(through(path, kept))
        for later in range(k, method.steps):
            method.step(later)
        told = difference(made.set, method.distilled())
        if told:
            advice = "A step may depend on its number and the state alone: load_state() must replace all of it."
            raise Failure(f"steps from {k} on to be the same when made again", told, advice)
    return f"{len(states)} steps" if states else "it makes no steps"


@register("method", name="resume", promise="the bits of an uninterrupted run after an interrupted one")
def resume(trial: Trial) -> str:
    """The runner is interrupted at every step, and another goes on from its checkpoint."""
    scene = trial.scene
    whole = trial.settled(scene)
    trial.need_record()
    planned = whole.planned
    steps = trial.start(scene).steps
    for stop in range(1, steps):
        out = trial.bench.new_folder("resume")
        trial.bench.require(trial.bench.desk(scene, out), planned)
        try:
            trial.bench.distil(trial.bench.desk(scene, out, stop), [planned])
        except Stopped:
            pass
        else:
            raise Failure(f"a state at step {stop} that a checkpoint can hold", "none", "Store tensors.")
        desk = trial.bench.desk(scene, out)
        (record,) = trial.bench.distil(desk, [planned])
        advice = "Put into state() all that later steps depend on; draw by the number of the step."
        if record["status"] != "done":
            found = f"a failure: {record['error']['reason']}"
            raise Failure(f"a run interrupted before step {stop} to go on", found, advice)
        told = _unlike(trial, whole, record["result"]["content_hash"], out, planned.cell.key)
        if told:
            raise Failure(f"the uninterrupted run's bits after an interruption before step {stop}", told, advice)
    return f"interrupted before each of steps 1 to {steps - 1}" if steps > 1 else "it has no step to be interrupted at"


def _unlike(trial: Trial, whole: Made, content_hash: str, out: Path, key: str) -> str:
    if content_hash == whole.set.content_hash:
        return ""
    return difference(whole.set, load(RunDirectory(out).set_folder(key))) or "another hash"


@register(
    "method",
    name="class-shards",
    promise="separable methods: shards of classes give the whole, and metrics are sums",
)
def class_shards(trial: Trial) -> str:
    """Two shards, one of a single class, put together as a run does, against all classes at once."""
    if not trial.target.separable:
        raise NotChecked("it does not say that it is separable")
    scene = trial.scene
    whole = trial.settled(scene)
    classes = range(len(whole.set.dataset.classes))
    made = [trial.drive(scene, shard) for shard in ((0,), tuple(classes)[1:])]
    parts = [tensors_of(each.set) for each in made]
    per_sample = _per_sample(trial, scene)
    for name, tensor in tensors_of(whole.set).items():
        if name == "labels":
            continue  # the check "labels" tells it
        joined = torch.cat([part[name] for part in parts])
        if joined.shape != tensor.shape:
            found = f"{len(joined)} of {name!r}, the whole has {len(tensor)}"
            raise Failure("shards that make up the whole", found, "Make items of context.classes alone.")
        apart = float((joined.double() - tensor.double()).abs().max())
        allowed = 0.0 if per_sample else _ROUNDING * max(1.0, float(tensor.double().abs().max()))
        if apart > allowed:
            advice = "Compute each class by itself and draw by class; else say separable = False."
            raise Failure(f"{name!r} of shards to equal the whole", f"values up to {apart:.3g} apart", advice)
    _hold_metrics_to_sums(whole, made)
    try:
        # Without their notes: whether those can be stored, the check "saved-set" tells.
        join_sets(whole.set.dataset, whole.set.modality, [replace(each.set, notes=()) for each in made])
    except TaskError as error:
        advice = "A set whose classes belong together can't be put together of shards: say separable = False."
        raise Failure("shards that a run can put together", f"a refusal: {error}", advice) from error
    return "the same bits" if per_sample else "the same to rounding"


def _hold_metrics_to_sums(whole: Made, parts: Sequence[Made]) -> None:
    """A learning curve that is put together adds up what shards log."""
    steps = {len(each.metrics) for each in (whole, *parts)}
    if len(steps) > 1:
        raise Failure("shards of as many steps as the whole", f"{sorted(steps)}", "Say separable = False.")
    for k, (metrics, *of_shards) in enumerate(zip(whole.metrics, *(each.metrics for each in parts), strict=True)):
        for name, value in metrics.items():
            if not math.isfinite(value):
                continue  # the check "finite" tells it
            total = math.fsum(each.get(name, math.nan) for each in of_shards)
            if not math.isclose(total, value, rel_tol=_ROUNDING, abs_tol=1e-6):
                found = f"{value:.6g} of the whole at step {k}, {total:.6g} of the shards together"
                advice = "Log sums over context.classes: the learning curve of a run in shards adds them up."
                raise Failure(f"metric {name!r} to be a sum over classes", found, advice)


def _per_sample(trial: Trial, scene: Scene) -> bool:
    context = trial.start(scene).context
    info = context.setting.dataset
    return all(context.architecture.build(info, name).per_sample for name in context.setting.modality)


@register("method", name="sharing", promise="cells that share their steps give what each gives alone")
def sharing(trial: Trial) -> str:
    """Cells of two IPCs in one job, in lock-step, against each in a job of its own."""
    trial.settled(trial.scene)
    trial.need_record()
    scenes = [at(trial.scene, ipc=1), trial.scene]
    planned = [trial.planned(scene) for scene in scenes]
    if planned[0].shares is None or planned[0].shares != planned[1].shares:
        raise NotChecked("shares() does not mark its cells as sharing")
    hashes = []
    for together in ([planned], [[each] for each in planned]):
        found: list[str] = []
        for cells in together:
            desk = trial.bench.desk(trial.scene, trial.bench.new_folder("sharing"))
            for each in cells:
                trial.bench.require(desk, each)
            records = trial.bench.distil(desk, cells)
            if any(record["status"] != "done" for record in records):
                raise NotChecked("the runner refuses it: see the check 'grid'")
            found += [record["result"]["content_hash"] for record in records]
        hashes.append(found)
    for scene, one, other in zip(scenes, *hashes, strict=True):
        if one != other:
            advice = "Share what depends on nothing that differs between cells, or put that into the key of share()."
            raise Failure(f"the same set at ipc {scene.ipc} alone and in lock-step", "another one", advice)
    return "ipc 1 and 2 in lock-step"
