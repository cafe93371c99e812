"""Checks of a method as a whole: that it runs, in a grid too, what it declares, and where it can compute."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, get_args

import torch
from torch import Tensor

from avbench.configure import reconstruct
from avbench.distilled import DistilledSet, LearnedSet
from avbench.errors import RequestError
from avbench.grammar import parse_variants
from avbench.jobs import EvaluateTask
from avbench.method import Role
from avbench.plugins import listing
from avbench.prerequisite import Prerequisite
from avbench.testing.bench import Scene
from avbench.testing.devices import another_device, described, mixing_told, need_agreement, words
from avbench.testing.registry import Failure, NotChecked, raised, register, registered
from avbench.testing.trials import Trial, at, tensors_of

#: Differences that another order of summation may make in float64, as a share of the largest value.
_ROUNDING = 1e-6
_SMALL_BATCH = 3


@register("method", name="runs", promise="steps and a distilled set on every store, IPC and modality it accepts")
def runs(trial: Trial) -> str:
    """Stores of unlike shapes, class counts and IPCs."""
    accepted = trial.modalities
    for scene in trial.scenes:
        try:
            trial.memo[scene] = trial.drive(scene)
        except Failure:
            raise
        except RequestError as error:
            _refused(scene, error)
        except (Exception, SystemExit) as error:
            raise raised(error, f"it to work on {scene}") from error
    return f"modalities {', '.join(accepted)}"


def _refused(scene: Scene, error: RequestError) -> None:
    advice = "Refuse in check(), which is asked before anything is started; else make it work there."
    raise Failure(f"it to work on {scene}, which its check() accepts", f"{error}", advice) from error


@register("method", name="grid", promise="a run that the runner accepts, judges and records with time and memory")
def grid(trial: Trial) -> str:
    """What ``avbench run`` does: build what is required, distil, hold to the budget, judge, record."""
    planned = trial.made(trial.scene).planned
    record = trial.recorded()
    if record["status"] != "done":
        _told_elsewhere(trial)
        raise _failed(record)
    task = EvaluateTask(planned.cell, planned.evaluations[0].judged_by, 1)
    judged = trial.bench.judge(trial.memo["recorded at"], task)
    if judged["status"] != "done":
        _told_elsewhere(trial)
        raise _failed(judged)
    steps = max(1, record["result"]["steps"])
    spent_s, memory_mib = record["duration_s"], record["peak_memory_mib"]["resident"]
    return f"{spent_s / steps:.2g} s a step, {record['result']['storage_bytes']} bytes, {memory_mib:.0f} MiB resident"


def _told_elsewhere(trial: Trial) -> None:
    """Leave to the checks of the set what they tell more exactly."""
    for about in registered("method"):
        if about.name in ("budget", "labels", "shapes", "finite", "saved-set"):
            try:
                about.function(trial)
            except (Failure, TypeError):
                raise NotChecked(f"the runner refuses its set: see the check {about.name!r}") from None


def _failed(record: Mapping[str, Any]) -> Failure:
    error = record["error"]
    advice = "Correct what the runner refuses."
    return Failure("a finished record", f"a failure in {error['phase'] or 'the run'}: {error['reason']}", advice)


@register("method", name="declarations", promise="a known role, and controls and requirements that can be planned")
def declarations(trial: Trial) -> None:
    """What reports and plans take from the class itself."""
    target, scene = trial.target, trial.scene
    if target.role not in get_args(Role):
        raise Failure(f"role to be one of {', '.join(get_args(Role))}", repr(target.role), "Choose one of them.")
    planned = trial.made(scene).planned
    config = reconstruct("methods", planned.cell.method).config
    setting = trial.bench.desk(scene, trial.bench.runs).setting(planned.cell)
    variants = [("controls()", text) for text in target.controls(config)]
    equal = target.equals(config, setting)
    variants += [("equals()", equal)] if equal is not None else []
    known = {info.name for info in listing("methods")}
    for what, text in variants:
        (variant,) = parse_variants(text, what)
        if trial.installed and variant.name.rpartition(":")[2] not in known:
            advice = "Name a method as --method does, with its options in brackets."
            raise Failure(f"{what} to name installed methods", repr(text), advice)
    for name, need in target.requires(config, setting).items():
        if not isinstance(need, Prerequisite):
            raise Failure(f"requires()[{name!r}] to be a Prerequisite", repr(need), "Derive it from Prerequisite.")
        json.dumps(need.identity())


@register("method", name="precision", promise="float64 as well as float32, and the same to rounding by micro-batches")
def precision(trial: Trial) -> None:
    """In float64 the items of one micro-batch and of many agree: it changes memory and speed, never draws."""
    wide = at(trial.scene, precision="float64")
    whole, parts = trial.settled(wide), trial.made(at(wide, micro_batch=_SMALL_BATCH))
    for name, tensor in tensors_of(whole.set).items():
        other = tensors_of(parts.set)[name]
        if tensor.shape != other.shape:
            continue  # the check "shapes" tells it
        apart = float((tensor.double() - other.double()).abs().max())
        if math.isnan(apart):
            continue  # the check "finite" tells it
        if not apart <= _ROUNDING * max(1.0, float(tensor.double().abs().max())):
            advice = "Take means over a batch, not over a micro-batch, and draw nothing by micro-batch."
            expected = f"the same {name!r} with micro-batches of {_SMALL_BATCH} samples"
            raise Failure(expected, f"values up to {apart:.3g} apart in float64", advice)


@register("method", name="device", promise="items on the device that is given, the same as on the processor")
def device(trial: Trial) -> str:
    """On a GPU, else on a device that torch keeps as strictly apart: all that it requires, steps, and a checkpoint."""
    wide = at(trial.scene, precision="float64")
    trial.settled(wide)
    there, sets = another_device(), []
    for place in ("cpu", there):
        with mixing_told(place):
            sets.append(trial.drive_on(at(wide, device=place), trial.bench.new_folder("devices")).set)
    here, other = sets
    if isinstance(other, LearnedSet):
        for name, tensor in other.items.items():
            if tensor.device.type != there:
                found = f"items on {words(tensor.device)}"
                raise Failure(f"items {name!r} on {words(there)}", found, "Make tensors on context.device.")
    ours, theirs = _values(here), _values(other)
    if set(ours) != set(theirs):
        found = f"{', '.join(sorted(theirs))} for {', '.join(sorted(ours))}"
        raise Failure(f"the same tensors on {words(there)} as on the processor", found, "Make all of them everywhere.")
    for name, tensor in ours.items():
        need_agreement(repr(name), tensor, theirs[name], there)
    return described(there)


def _values(found: DistilledSet) -> dict[str, Tensor]:
    """The tensors of a set, and the step sizes that it learned."""
    steps = found.step_size or {} if isinstance(found, LearnedSet) else {}
    learned = {f"step size {name}": torch.tensor(float(value)).double() for name, value in steps.items()}
    return {**tensors_of(found), **learned}
