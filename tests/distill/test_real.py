"""The real side: what is drawn depends on seed, step and class alone; micro-batches change no bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.api import Architecture, Context, Encoder, RealSide, StoreInfo, TrainSet
from avbench.distill.real import MeanAccumulator, spans

AUGMENT = "color_crop_cutout_flip_scale_rotate"


class Spy(TrainSet):
    """A training split that notes which rows are asked for."""

    def __init__(self, train: TrainSet) -> None:
        self.__dict__.update(train.__dict__)
        self.asked: list[int] = []

    def batch(self, rows, modality):  # type: ignore[no-untyped-def]
        self.asked += rows.tolist()
        return super().batch(rows, modality)


def spied(context: Context) -> tuple[Context, Spy]:
    spy = Spy(context.train)
    object.__setattr__(context, "train", spy)
    return context, spy


def real_rows(small, name: str = "dm", steps: int = 3, options: dict | None = None, **context) -> list[list[int]]:
    """Rows of the real batch of each step of a method."""
    given, spy = spied(small.context(**context))
    method = small.method(name, given, **{"init": "random", **(options or {})})
    rows = []
    for k in range(steps):
        spy.asked.clear()
        method.step(k)
        rows.append(list(spy.asked))
    return rows


def draws(small, steps: int = 3, batch_real: int = 6, omega_per_class: bool = False, **context) -> list:
    side = RealSide(small.context(**context), batch_real, AUGMENT, omega_per_class)
    found = []
    for k in range(steps):
        at = side.at(k)
        weights = {n: {k: t.clone() for k, t in e.state_dict().items()} for n, e in at.encoders.items()}
        found.append((weights, at.transforms, at.means))
    return found


def same_means(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


#: What two cells of one seed may differ in, without a difference in what they draw.
CHANGES = [
    {"micro_batch": 3},
    {"ipc": 1},
    {"ipc": 5},
    {"options": {"factor": 2}},
    {"options": {"init": "noise"}},
    {"options": {"lr": 9.0, "momentum": 0.0}},
    {"name": "avdd"},
    {"name": "avdd", "options": {"factor": 3, "icm": 1.0, "scmm": 2.0}},
]


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_real_batches_depend_on_nothing_but_seed_step_and_class(small, changed: dict) -> None:
    assert real_rows(small, **changed) == real_rows(small)


def networks_and_augmentations(small, name: str = "dm", options: dict | None = None, **context) -> list:
    """Every weight and the augmentation that a method meets at each of three steps."""
    method = small.method(name, small.context(**context), **{"init": "random", **(options or {})})
    found = []
    for k in range(3):
        method.step(k)
        at = method.real.at(k)
        weights = {n: [p.tolist() for p in e.parameters()] for n, e in at.encoders.items()}
        found.append((weights, at.transforms[0].op, at.transforms[0].units.tolist()))
    return found


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_networks_and_augmentations_depend_on_nothing_but_seed_and_step(small, changed: dict) -> None:
    assert networks_and_augmentations(small, **changed) == networks_and_augmentations(small)


def test_another_seed_meets_none_of_the_networks_and_augmentations(small) -> None:
    """Nor those of a later step, as where seeds and steps add up."""
    for weights, _, units in networks_and_augmentations(small, seed=1):
        for others, _, known in networks_and_augmentations(small):
            assert units != known and weights["a"] != others["a"] and weights["v"] != others["v"]


def test_real_batches_change_with_the_seed_and_the_step(small) -> None:
    first, second, third = real_rows(small)
    assert first != second != third != first
    assert real_rows(small, seed=1) != [first, second, third]


def test_a_shard_of_the_classes_draws_what_the_whole_draws_for_them(small) -> None:
    whole = real_rows(small)
    parts = real_rows(small, classes=(0, 1)), real_rows(small, classes=(2, 3))
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize("batch_real", [1, 6, 10, 100])
def test_a_real_batch_has_no_repetition_and_a_small_class_gives_all_it_has(small, batch_real: int) -> None:
    for rows in real_rows(small, options={"batch_real": batch_real}):
        assert len(set(rows)) == len(rows)
        labels = np.repeat(np.arange(4), small.COUNTS["train"])[rows]
        assert np.bincount(labels).tolist() == [min(batch_real, n) for n in small.COUNTS["train"]]


def test_a_larger_real_batch_contains_the_smaller(small) -> None:
    less, more = (real_rows(small, options={"batch_real": n}) for n in (3, 5))
    for few, many in zip(less, more, strict=True):
        assert set(few) < set(many)


def test_real_means_are_means_of_embeddings(small) -> None:
    context, spy = spied(small.context(dtype=torch.float64))
    side = RealSide(context, 6, AUGMENT, False)
    for k in range(4):
        spy.asked.clear()
        at = side.at(k)
        rows = np.array(spy.asked)
        labels = context.train.labels[rows]
        for name, encoder in at.encoders.items():
            z = encoder(at.transforms[0](context.train.batch(rows, name)[name]))
            expected = torch.stack([z[labels == c].mean(dim=0) for c in range(4)])
            torch.testing.assert_close(at.means[name], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("micro_batch", [1, 2, 7, 13, 22])
def test_micro_batches_give_bit_equal_real_means(small, micro_batch: int, channels: int) -> None:
    """23 samples a step: 22 leaves one over, 1 sends each alone."""
    whole = draws(small, steps=4, micro_batch=1000, channels=channels)
    cut = draws(small, steps=4, micro_batch=micro_batch, channels=channels)
    for (_, _, one), (_, _, other) in zip(whole, cut, strict=True):
        assert one["a"].dtype == torch.float32
        assert same_means(one, other)


@pytest.mark.parametrize("omega_per_class", [False, True])
@pytest.mark.parametrize("shards", [((0, 1), (2, 3)), ((0,), (1,), (2,), (3,))])
def test_class_shards_give_bit_equal_real_means(small, shards: tuple, omega_per_class: bool) -> None:
    whole = draws(small, omega_per_class=omega_per_class)
    parts = [draws(small, omega_per_class=omega_per_class, classes=classes) for classes in shards]
    for k, (weights, _, means) in enumerate(whole):
        joined = {name: torch.cat([part[k][2][name] for part in parts]) for name in means}
        assert same_means(means, joined)
        for part in parts:
            for name, tensors in part[k][0].items():
                assert same_means(tensors, weights[name])


class Normed(Encoder):
    """A convolution with batch norm."""

    per_sample = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        pooled = (torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten())
        self.layers = torch.nn.Sequential(torch.nn.Conv2d(channels, 4, 3), torch.nn.BatchNorm2d(4), *pooled)
        self.embedding_dim = 64

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class NormedArchitecture(Architecture):
    def build(self, dataset: StoreInfo, modality: str) -> Encoder:
        return Normed(dataset.shape(modality)[0])


def test_with_batch_norm_an_embedding_depends_on_what_passes_with_it(small) -> None:
    """So classes can't be cut apart where they pass together; with ConvNet they can, see tests/nets."""
    x = small.context().train.batch(np.arange(20), "v")["v"]
    normed, plain = Normed(1), small.architecture().build(small.stores[1].info, "v")
    with torch.no_grad():
        assert not torch.allclose(normed(x[:9]), normed(x)[:9], atol=1e-3)
        assert torch.equal(plain(x[:9]), plain(x)[:9])


@pytest.mark.parametrize("classes", [(0, 1), (2,)])
def test_with_batch_norm_each_class_passes_alone_whatever_the_micro_batch_or_shard(small, classes: tuple) -> None:
    architecture = NormedArchitecture(None)
    whole = draws(small, architecture=architecture)
    part = draws(small, architecture=architecture, classes=classes, micro_batch=2)
    for (_, _, means), (_, _, own) in zip(whole, part, strict=True):
        assert same_means({name: m[list(classes)] for name, m in means.items()}, own)


def test_each_step_draws_fresh_networks(small) -> None:
    (first, *_), (second, *_), _ = draws(small)
    for name, weights in first.items():
        assert not torch.equal(weights["layers.0.weight"], second[name]["layers.0.weight"])
    assert not torch.equal(first["a"]["layers.0.weight"], first["v"]["layers.0.weight"])


def test_networks_are_those_of_the_seed_whatever_the_modality(small) -> None:
    both, audio = draws(small), draws(small, modality="a")
    for (weights, _, means), (own, _, alone) in zip(both, audio, strict=True):
        assert same_means(own["a"], weights["a"]) and torch.equal(means["a"], alone["a"])


def test_one_transform_for_all_classes_or_one_for_each(small) -> None:
    shared = [transforms for _, transforms, _ in draws(small, steps=5)]
    assert all(t is transforms[0] for transforms in shared for t in transforms)
    own = [transforms for _, transforms, _ in draws(small, steps=5, omega_per_class=True)]
    for transforms in own:
        assert len({tuple(t.units.flatten().tolist()) for t in transforms}) == 4


def test_a_step_is_drawn_once_however_often_it_is_asked_for(small) -> None:
    context, spy = spied(small.context())
    side = RealSide.shared(context, 6, AUGMENT, False)
    assert RealSide.shared(context, 6, AUGMENT, False) is side
    assert RealSide.shared(context, 7, AUGMENT, False) is not side
    first = side.at(3)
    asked = len(spy.asked)
    assert side.at(3) is first and len(spy.asked) == asked
    means = {name: m.clone() for name, m in first.means.items()}
    side.at(4)
    assert same_means(side.at(3).means, means), "asking again for an earlier step draws the same"


@pytest.mark.parametrize("per_sample", [True, False])
@pytest.mark.parametrize("micro_batch", [1, 4, 10, 11, 100])
def test_spans_cover_every_sample_once_in_order(micro_batch: int, per_sample: bool) -> None:
    positions = np.repeat(np.arange(3), [5, 1, 4])
    runs = spans(positions, micro_batch, per_sample)
    assert [i for start, stop in runs for i in range(start, stop)] == list(range(10))
    if per_sample:
        assert max(stop - start for start, stop in runs) <= micro_batch
    else:
        assert list(runs) == [(0, 5), (5, 6), (6, 10)], "with batch norm a class passes whole and alone"


def test_sums_are_kept_in_float64() -> None:
    """2²⁴ + 1 is no float32: sums in float32 would lose the ones."""
    sums = MeanAccumulator(1, torch.device("cpu"))
    for value in (2.0**24, 1.0, 1.0, -(2.0**24)):
        sums.add("a", torch.tensor([[value]]), np.array([0]))
    assert sums.means(np.array([4]), torch.float32)["a"].item() == 0.5
