"""Checks of the distilled set that a method gives: budget, labels, shapes, values, and its way to disk and back."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from avbench.desk import dtype_of
from avbench.distilled import LearnedSet, SelectedSet, load
from avbench.testing.bench import Scene
from avbench.testing.registry import Failure, register
from avbench.testing.trials import Made, Trial, difference


def _all_made(trial: Trial) -> Iterator[tuple[Scene, Made]]:
    for scene in trial.scenes:
        yield scene, trial.made(scene)


def _items(made: Made) -> dict[str, int]:
    """How many items there are of each part of a set."""
    found = {"labels": len(made.set.labels)}
    if isinstance(made.set, SelectedSet):
        found["rows"] = len(made.set.rows)
    if isinstance(made.set, LearnedSet):
        found |= {f"items {name!r}": len(tensor) for name, tensor in made.set.items.items()}
    return found


@register("method", name="budget", promise="ipc stored items of each class, decoding to ipc × factor² samples")
def budget(trial: Trial) -> str:
    """Items, stored bytes and decoded samples on every store and IPC."""
    for scene, made in _all_made(trial):
        ipc, classes = made.planned.cell.ipc, len(made.set.dataset.classes)
        budgeted = ipc * classes if ipc else made.set.dataset.size("train")
        for part, count in _items(made).items():
            if count != budgeted:
                expected = f"{ipc} × {classes} = {budgeted} items on {scene}"
                raise Failure(
                    expected, f"{count} {part}", "Make context.setting.ipc items for each of context.classes."
                )
        _decoded(trial, scene, made, budgeted)
    return f"{made.set.storage_bytes()} bytes on {scene}"


def _decoded(trial: Trial, scene: Scene, made: Made, budgeted: int) -> None:
    factor = made.set.factor if isinstance(made.set, LearnedSet) else 1
    if type(factor) is not int or factor < 1:
        raise Failure("factor to be a whole number from 1", repr(factor), "Give l, where an item packs l² samples.")
    train = trial.bench.desk(scene, trial.bench.runs).train_set(made.planned.cell)
    count = len(made.set.samples(train))
    if count != budgeted * factor**2:
        expected = f"{budgeted} items of factor {factor} to decode to {budgeted * factor**2} samples"
        raise Failure(expected, f"{count} samples", "Give the factor that the items were packed with.")


@register("method", name="labels", promise="the labels of context.labels: whole numbers, class after class")
def labels(trial: Trial) -> None:
    """Labels as budgeted; the rows of a selection are distinct and of the class that their label says."""
    for scene, made in _all_made(trial):
        given, ipc = made.set.labels, made.planned.cell.ipc
        if given.dtype != torch.int64 or given.dim() != 1:
            found = f"{given.dtype} {tuple(given.shape)}"
            raise Failure("labels (N,) of torch.int64", found, "Use context.labels.")
        expected = torch.arange(len(made.set.dataset.classes)).repeat_interleave(ipc)
        if ipc and len(given) == len(expected) and not torch.equal(given.cpu(), expected):
            found = f"{given.tolist()[:12]} on {scene}"
            raise Failure(f"labels {expected.tolist()[:12]}", found, "Use context.labels, and order items likewise.")
        if isinstance(made.set, SelectedSet):
            _rows(trial, scene, made, made.set)


def _rows(trial: Trial, scene: Scene, made: Made, found: SelectedSet) -> None:
    of_train = trial.bench.desk(scene, trial.bench.runs).train_set(made.planned.cell).labels
    rows = found.rows.cpu()
    advice = "Take rows from context.train.class_rows(cls), each once."
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(of_train):
        raise Failure(f"rows below {len(of_train)}", f"rows from {int(rows.min())} to {int(rows.max())}", advice)
    if len(set(rows.tolist())) != len(rows):
        raise Failure("distinct rows", f"{len(set(rows.tolist()))} distinct of {len(rows)}", advice)
    if len(rows) == len(found.labels) and not torch.equal(of_train[rows], found.labels.cpu()):
        wrong = int((of_train[rows] != found.labels.cpu()).sum())
        raise Failure("rows of the class that the label says", f"{wrong} of {len(rows)} of another class", advice)


@register("method", name="shapes", promise="items of the dataset's shapes, in the run's precision, for its modalities")
def shapes(trial: Trial) -> None:
    """Shape, dtype and device of every modality's items."""
    for scene, made in _all_made(trial):
        found, modality = made.set, made.planned.cell.modality
        if found.modality != modality:
            raise Failure(f"a set of modality {modality!r}", repr(found.modality), "Use context.setting.modality.")
        if found.dataset != trial.bench.desk(scene, trial.bench.runs).store(made.planned.cell).info:
            raise Failure("the dataset that was given", found.dataset.name, "Use context.setting.dataset.")
        if not isinstance(found, LearnedSet):
            continue
        if set(found.items) != set(modality):
            given = ", ".join(sorted(found.items)) or "none"
            raise Failure(f"items of {', '.join(modality)}", given, "Make the modalities of the setting, no more.")
        for name, tensor in found.items.items():
            wanted = (len(tensor), *found.dataset.shape(name))
            dtype = dtype_of(made.planned.cell)
            if tuple(tensor.shape) != wanted or tensor.dtype != dtype:
                advice = "Take shapes from context.setting.dataset.shape(name) and the dtype from context."
                raise Failure(f"items {name!r} of {dtype} {wanted}", f"{tensor.dtype} {tuple(tensor.shape)}", advice)


@register("method", name="finite", promise="finite items and metrics")
def finite(trial: Trial) -> None:
    """No NaN or infinity in what it gives or logs."""
    for scene, made in _all_made(trial):
        if isinstance(made.set, LearnedSet):
            for name, tensor in made.set.items.items():
                wrong = int((~torch.isfinite(tensor)).sum())
                if wrong:
                    found = f"{wrong} of {tensor.numel()} that are not, on {scene}"
                    raise Failure(f"finite items {name!r}", found, "Lower the learning rate, or look at the loss.")
        for k, metrics in enumerate(made.metrics):
            for name, value in metrics.items():
                if not isinstance(value, int | float) or not math.isfinite(value):
                    advice = "Return plain finite numbers: the runner fails a task whose metric is not finite."
                    raise Failure(f"metric {name!r} of step {k} to be a finite number", repr(value), advice)


@register("method", name="saved-set", promise="a set that is the same after it was written and read")
def saved_set(trial: Trial) -> None:
    """What is on disk is what later trains networks."""
    found = trial.made(trial.scene).set
    folder = trial.bench.new_folder("set")
    found.save(folder)
    told = difference(found, load(folder))
    if told:
        raise Failure("the set read back to be the one written", told, "Give tensors of the documented dtypes.")
