"""Confusion matrices of a network that was trained on the set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avbench.jobs import default_micro_batch
from avbench.show.networks import every_row, judge_of, predictions, set_network
from avbench.show.room import Room
from avbench.show.scale import Array
from avbench.show.sheet import LETTER_IN
from avbench.show.style import WIDTH_IN, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {"a": "audio", "v": "visual", "av": "audio-visual"}
#: Panels stand beside each other up to so many classes; names are written up to so many.
_SIDE_BY_SIDE, _NAMED = 12, 60
_NAME_LETTERS = 14
#: What the colour bar takes with its numbers and its label.
_BAR_IN = 0.6


def hang_confusion(room: Room) -> None:
    """A panel for each part that the fusion scores.

    Raises:
        AbsentError: the store or its test split is not at hand.
    """
    test = room.test_set()
    judge = judge_of(room.subject, room.store.info, "accuracy")
    trained, scores = set_network(room.subject, room.store, judge, room.device)
    rows, size = every_row(test), default_micro_batch(room.info)
    found = predictions(trained.network, test, rows, room.modality, size)
    counts = {part: confusion_counts(p.argmax(dim=1), test.labels, len(room.info.classes)) for part, p in found.items()}
    figure = confusion_figure(counts, room.info.classes)
    accuracy = ", ".join(
        f"{_NAMES.get(part, part)} {np.trace(matrix) / matrix.sum():.1%}" for part, matrix in counts.items()
    )
    caption = (
        f"Share of each true class that is predicted as each class, on all {len(test)} test samples. Network 0 of the "
        f"evaluation, trained on this set ({judge.label}, seed {room.subject.seed}). Accuracy: {accuracy}"
        f"{_against_record(judge.record, scores)}"
    )
    room.hang("confusion", "Confusion on the test split", caption, [figure], "confusion")


def _against_record(record: Mapping[str, object] | None, scores: Mapping[str, object]) -> str:
    """Whether the board's record of this network says the same: threads and devices may round differently."""
    if record is None:
        return "; the run directory has no record of it."
    result = record["result"]
    assert isinstance(result, Mapping)
    same = result["networks"][0]["accuracy"] == scores["accuracy"]
    return ", as the run recorded it." if same else "; the run, whose rounding differs, recorded other digits."


def confusion_counts(predicted: Tensor, labels: Tensor, classes: int) -> Array:
    """How often class ``i`` was predicted as class ``j``: (classes, classes), of (N,) predictions and labels."""
    flat = torch.bincount(labels * classes + predicted, minlength=classes**2)
    found: Array = flat.view(classes, classes).double().numpy()
    return found


def confusion_figure(counts: Mapping[str, Array], classes: Sequence[str]) -> Figure:
    """Matrices whose rows sum to 100 %; a class without test samples is left blank."""
    number = len(classes)
    beside = number <= _SIDE_BY_SIDE
    longest_in = LETTER_IN * min(_NAME_LETTERS, max(len(name) for name in classes))
    left_in, bottom_in, top_in = longest_in + 0.3, longest_in + 0.32, 0.22
    side_in = min(1.6, (WIDTH_IN - left_in - _BAR_IN) / len(counts) - 0.1) if beside else 4.0
    height_in = top_in + (side_in + bottom_in if beside else len(counts) * (side_in + bottom_in + top_in))
    figure = new_figure(height_in)
    named = number <= _NAMED
    short = [name if len(name) <= _NAME_LETTERS else name[: _NAME_LETTERS - 1] + "…" for name in classes]
    size = 7 if number <= 36 else 7 * 36 / number
    for place, (part, matrix) in enumerate(counts.items()):
        x = left_in + place * (side_in + 0.1) if beside else left_in
        y = bottom_in if beside else height_in - (place + 1) * (side_in + bottom_in + top_in) + bottom_in
        axes = figure.add_axes((x / WIDTH_IN, y / height_in, side_in / WIDTH_IN, side_in / height_in))
        with np.errstate(invalid="ignore"):
            shares = 100 * matrix / matrix.sum(axis=1, keepdims=True)
        image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=100, interpolation="nearest")
        axes.set_title(_NAMES.get(part, part), pad=3)
        axes.set_xlabel("predicted")
        ticks = range(number) if named else []
        axes.set_xticks(ticks, [short[i] for i in ticks], rotation=90, fontsize=size)
        first = not beside or place == 0
        axes.set_yticks(ticks, [short[i] for i in ticks] if first else ["" for _ in ticks], fontsize=size)
        axes.tick_params(length=1.5, width=0.4, pad=1.5)
        if first:
            axes.set_ylabel("true class")
    bar_x = x + side_in + 0.08
    bar = figure.colorbar(
        image, cax=figure.add_axes((bar_x / WIDTH_IN, y / height_in, 0.08 / WIDTH_IN, side_in / height_in))
    )
    bar.set_label("% of the true class", labelpad=1)
    bar.ax.tick_params(length=2, width=0.5, pad=1)
    return figure
