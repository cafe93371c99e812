"""Holding a distilled set to what was ordered, before it is recorded."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from avbench.cells import Cell
from avbench.desk import TaskError
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet


def _check_rows(found: SelectedSet, train_labels: torch.Tensor) -> None:
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


def check_set(
    found: DistilledSet, cell: Cell, train_labels: torch.Tensor, of_classes: Sequence[int] | None = None
) -> None:
    """Hold a method to its budget: labels, item shapes, finite values.

    Args:
        train_labels: (N,) of the training split.
        of_classes: the classes that it was to distil; ``None``: all.

    Raises:
        TaskError: says what was given and what was expected.
    """
    classes = len(found.dataset.classes)
    wanted_of = torch.tensor(range(classes) if of_classes is None else of_classes)
    expected = wanted_of.sort().values.repeat_interleave(cell.ipc)
    labels = found.labels.to("cpu", torch.int64)
    if cell.ipc and not torch.equal(labels.sort().values, expected):
        counts = torch.bincount(labels.clamp(0, classes - 1), minlength=classes).tolist()
        which = "each" if len(wanted_of) == classes else f"of classes {wanted_of.tolist()}"
        raise TaskError("check", f"the set has {counts} items a class, the budget is {cell.ipc} {which}.")
    if isinstance(found, SelectedSet):
        _check_rows(found, train_labels)
    if isinstance(found, LearnedSet):
        for name in cell.modality:
            given = tuple(found.items[name].shape) if name in found.items else None
            wanted = (len(labels), *found.dataset.shape(name))
            if given != wanted:
                raise TaskError("check", f"items {name!r} have shape {given}, expected {wanted}.")
            if not bool(torch.isfinite(found.items[name]).all()):
                raise TaskError("check", f"items {name!r} hold values that are not finite.")
