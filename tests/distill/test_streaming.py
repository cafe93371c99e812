"""What the real side says ahead is what it asks for next, across steps as well, and changes no bit."""

from __future__ import annotations

import pytest
import torch
from conftest import Small

from avbench.api import Context, RealSide, TrainSet
from avbench.data.samples import Batch, Rows

AUGMENT = "color_crop_cutout_flip_scale_rotate"


class Told(TrainSet):
    """A training split that notes, in order, what it is told and asked for."""

    def __init__(self, train: TrainSet) -> None:
        self.__dict__.update(train.__dict__)
        self.heard: list[tuple[str, list[int], str]] = []

    def batch(self, rows: Rows, modality: str) -> Batch:
        self.heard.append(("batch", rows.tolist(), modality))
        return super().batch(rows, modality)

    def prefetch(self, rows: Rows, modality: str) -> None:
        self.heard.append(("prefetch", rows.tolist(), modality))
        super().prefetch(rows, modality)


class Deaf(TrainSet):
    """A training split that reads nothing ahead."""

    def __init__(self, train: TrainSet) -> None:
        self.__dict__.update(train.__dict__)

    def prefetch(self, rows: Rows, modality: str) -> None:
        """Nothing."""


def side(small: Small, kind: type[Told] | type[Deaf], **how: int) -> tuple[RealSide, Told | Deaf]:
    context: Context = small.context(**how)
    train = kind(context.train)
    object.__setattr__(context, "train", train)
    return RealSide(context, 6, AUGMENT, False), train


@pytest.mark.parametrize("micro_batch", [4, 7, 100])
def test_each_batch_was_announced_right_after_the_one_before_it(small: Small, micro_batch: int) -> None:
    drawn, train = side(small, Told, micro_batch=micro_batch)
    for k in range(4):
        drawn.at(k)
    assert isinstance(train, Told)
    kinds = [kind for kind, *_ in train.heard]
    assert kinds == ["batch", "prefetch"] * (len(kinds) // 2)
    asked = [what for kind, *what in train.heard if kind == "batch"]
    told = [what for kind, *what in train.heard if kind == "prefetch"]
    assert told[:-1] == asked[1:], "also from the last of a step to the first of the next"


def test_reading_ahead_changes_no_bit_of_the_means(small: Small) -> None:
    ahead, plain = side(small, Told, micro_batch=7)[0], side(small, Deaf, micro_batch=7)[0]
    for k in (0, 1, 2, 7, 3, 4):  # in order, and with jumps as after a resume
        one, other = ahead.at(k).means, plain.at(k).means
        assert all(torch.equal(one[name], other[name]) for name in ("a", "v"))


def test_the_batch_of_a_step_does_not_depend_on_the_steps_before_it(small: Small) -> None:
    rows = []
    for steps in ((0, 1, 2), (2,)):
        drawn, train = side(small, Told)
        for k in steps:
            drawn.at(k)
        assert isinstance(train, Told)
        rows.append([what for kind, what, _ in train.heard if kind == "batch"][-1])
    assert rows[0] == rows[1]
