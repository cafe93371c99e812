"""Gradient matching: the distance as published, exact micro-batches, draws, the network's training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.api import (
    Architecture,
    Augmentation,
    Classifier,
    Encoder,
    GradientDraws,
    GradientMatching,
    RealSide,
    SyntheticTraining,
    decode,
    gradient_distance,
)

F64 = torch.float64
AUGMENT = "color_crop_cutout_flip_scale_rotate"


class NormedEncoder(Encoder):
    """One convolution, batch norm, ReLU, pooling."""

    per_sample = False

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(4)
        )
        self.embedding_dim = 96

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).flatten(1)


class Normed(Architecture):
    """A batch-normalised architecture."""

    def build(self, dataset, modality):  # type: ignore[no-untyped-def]
        return NormedEncoder(dataset.shape(modality)[0])


def published_distance(synthetic: list[Tensor], real: list[Tensor]) -> Tensor:
    """Eq. 10 row by row, with the code's ε and its 0 for vectors."""
    total = torch.zeros((), dtype=F64)
    for s, r in zip(synthetic, real, strict=True):
        if s.dim() == 1:
            continue
        for row in range(s.shape[0]):
            a, b = s[row].reshape(-1), r[row].reshape(-1)
            dot = sum(float(x) * float(y) for x, y in zip(a.detach(), b, strict=True))
            cosine = (a * b).sum() / ((a * a).sum().sqrt() * (b * b).sum().sqrt() + 1e-6)
            assert float((a * b).sum().detach()) == pytest.approx(dot, rel=1e-9, abs=1e-12)
            total = total + 1 - cosine
    return total


def matching(small, *, factor: int = 1, modality: str = "a", **context) -> GradientMatching:
    given = small.context(dtype=F64, channels=3, **context)
    network = Classifier(given.architecture, given.setting.dataset, modality).to(dtype=F64).train(False)
    return GradientMatching(given, network, factor)


def some_items(small, modality: str, count: int = 5) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(count, *small.stores[3].info.shape(modality), dtype=F64, generator=generator)


def plain_match(side: GradientMatching, theta, items, cls, omega, real_rows):  # type: ignore[no-untyped-def]
    """Everything at once, in one graph, over all parameters, in the module itself."""
    network, name = side.network, side.network.modality
    network.load_state_dict(theta, strict=False)
    parameters = list(network.parameters())

    def gradient(x: Tensor, graph: bool):  # type: ignore[no-untyped-def]
        loss = F.cross_entropy(network(x), torch.full((len(x),), cls))
        return torch.autograd.grad(loss, parameters, create_graph=graph)

    real = gradient(omega(side.context.train.batch(real_rows, name)[name]), False)
    leaf = items.clone().requires_grad_(True)
    distance = published_distance(list(gradient(omega(decode(leaf, side.factor)), True)), list(real))
    distance.backward()
    return float(distance.detach()), leaf.grad


def test_the_distance_is_that_of_equation_10() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 3, 3, 3), (6,), (4, 9), (2, 5, 4)]
    s, r = ([torch.randn(shape, dtype=F64, generator=generator) for shape in shapes] for _ in range(2))
    assert float(gradient_distance(s, r)) == pytest.approx(float(published_distance(s, r)), rel=1e-13)
    assert 0 < float(gradient_distance(s, s)) < 1e-4  # ε
    opposite = gradient_distance(s, [-x for x in s])
    assert float(opposite) == pytest.approx(2 * (6 + 4 + 2), rel=1e-5)


def test_the_length_of_a_row_does_not_count_its_direction_does() -> None:
    generator = torch.Generator().manual_seed(1)
    s, r = ([torch.randn(5, 7, dtype=F64, generator=generator)] for _ in range(2))
    far = gradient_distance([s[0] * torch.tensor([[1.0], [1e3], [50.0], [7.0], [1e4]])], r)
    assert float(far) == pytest.approx(float(gradient_distance(s, r)), rel=1e-5)


def test_rows_without_a_gradient_are_at_distance_one_and_have_a_finite_slope() -> None:
    s = torch.zeros(3, 4, dtype=F64, requires_grad=True)
    distance = gradient_distance([s], [torch.ones(3, 4, dtype=F64)])
    distance.backward()
    assert float(distance.detach()) == 3
    assert torch.isfinite(s.grad).all()


@pytest.mark.parametrize("micro_batch", [1, 2, 3, 5, 7, 1000])
@pytest.mark.parametrize(("factor", "modality"), [(1, "a"), (1, "v"), (2, "a"), (3, "v")])
def test_one_class_matches_as_the_plain_computation_at_any_micro_batch(
    small, micro_batch: int, factor: int, modality: str
) -> None:
    side = matching(small, factor=factor, modality=modality, micro_batch=micro_batch)
    theta = side.network.draw(side.context.streams, "matching network", 0)
    items, rows, cls = some_items(small, modality), side.context.train.class_rows(1), 1
    omega = Augmentation("scale").siamese(np.random.default_rng(0))
    real = side.real(theta, rows, cls, omega)
    found = side.match(theta, items, cls, omega, real)
    distance, gradient = plain_match(side, theta, items, cls, omega, rows)
    assert float(found.distance) == pytest.approx(distance, rel=1e-12)
    assert gradient.abs().max() > 0
    torch.testing.assert_close(found.gradient, gradient, rtol=1e-10, atol=1e-12 * float(gradient.abs().max()))


def test_the_gradient_is_that_of_finite_differences(small) -> None:
    side = matching(small, micro_batch=2)
    theta = side.network.draw(side.context.streams, "matching network", 0)
    items, omega = some_items(small, "a", 3), Augmentation("none").siamese(np.random.default_rng(0))
    real = side.real(theta, side.context.train.class_rows(2), 2, omega)
    direction = torch.randn(items.shape, dtype=F64, generator=torch.Generator().manual_seed(2))
    step = 1e-6
    ahead, behind = (
        float(side.match(theta, items + sign * step * direction, 2, omega, real).distance) for sign in (1, -1)
    )
    slope = float((side.match(theta, items, 2, omega, real).gradient * direction).sum())
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)


def test_in_float32_other_micro_batches_agree_to_rounding(small) -> None:
    found = []
    for micro_batch in (2, 1000):
        given = small.context(channels=3, micro_batch=micro_batch)
        network = Classifier(given.architecture, given.setting.dataset, "v").train(False)
        side = GradientMatching(given, network, 1)
        theta = network.draw(given.streams, "matching network", 0)
        omega = Augmentation("none").siamese(np.random.default_rng(0))
        real = side.real(theta, given.train.class_rows(1), 1, omega)
        found.append(side.match(theta, some_items(small, "v").float(), 1, omega, real))
    assert float(found[0].distance) == pytest.approx(float(found[1].distance), rel=1e-4)
    scale = float(found[1].gradient.abs().max())
    assert float((found[0].gradient - found[1].gradient).abs().max()) < 1e-3 * scale


def draws(small, augment: str = AUGMENT, omega_per_class: bool = False, **context) -> GradientDraws:
    return GradientDraws(small.context(**context), 6, Augmentation(augment), omega_per_class)


def test_the_first_outer_step_draws_what_distribution_matching_draws(small) -> None:
    for per_class in (False, True):
        context = small.context()
        own, side = draws(small, omega_per_class=per_class), RealSide(context, 6, AUGMENT, per_class)
        for k in range(3):
            for cls in range(4):
                assert own.real_rows(k, 0, cls).tolist() == side._batch_rows(cls, k).tolist()
                ours, theirs = own.siamese(k, 0, cls), side.at(k).transforms[cls]
                assert ours.op == theirs.op and torch.equal(ours.units, theirs.units)


@pytest.mark.parametrize("changed", [{"ipc": 7}, {"micro_batch": 2}, {"modality": "a"}, {"classes": (1, 2)}], ids=str)
def test_draws_depend_on_nothing_but_seed_steps_and_class(small, changed: dict) -> None:
    one, other = draws(small), draws(small, **changed)
    for outer in range(3):
        assert one.real_rows(4, outer, 1).tolist() == other.real_rows(4, outer, 1).tolist()
        assert one.siamese(4, outer, 1).op == other.siamese(4, outer, 1).op
        assert one.epoch(4, outer, 2).random() == other.epoch(4, outer, 2).random()


def test_every_outer_step_and_inner_epoch_draws_anew(small) -> None:
    own = draws(small, omega_per_class=True)
    assert len({tuple(own.real_rows(k, outer, 0).tolist()) for k in range(3) for outer in range(3)}) == 9
    units = {float(own.siamese(0, outer, cls).units[0, 0]) for outer in range(3) for cls in range(4)}
    assert len(units) == 12
    assert len({own.epoch(k, o, i).random() for k in range(2) for o in range(2) for i in range(2)}) == 8


@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_an_epoch_is_that_of_torch_s_sgd_on_the_batches_drawn(small, micro_batch: int) -> None:
    side = matching(small)
    theta = side.network.draw(side.context.streams, "matching network", 0)
    items, labels = some_items(small, "a", 8), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    training = SyntheticTraining(side.network, 1, Augmentation("none"), 0.3, 3, micro_batch)
    found = training.epoch(training.epoch(theta, items, labels, np.random.default_rng(0)), items, labels,
                           np.random.default_rng(1))  # fmt: skip
    side.network.load_state_dict(theta)
    optimiser = torch.optim.SGD(side.network.parameters(), lr=0.3)
    for seed in (0, 1):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(8))
        for rows in (order[:3], order[3:6], order[6:]):
            optimiser.zero_grad()
            F.cross_entropy(side.network(items[rows]), labels[rows]).backward()
            optimiser.step()
    for name, plain in side.network.named_parameters():
        torch.testing.assert_close(found[name], plain.detach(), rtol=1e-11, atol=1e-13)
        assert not torch.equal(found[name], theta[name])


def test_with_a_factor_an_epoch_takes_every_decoded_sample_once(small) -> None:
    side = matching(small)
    training = SyntheticTraining(side.network, 2, Augmentation("none"), 0.3, 5, 3)
    items = some_items(small, "a", 3)
    (order,) = [np.random.default_rng(0).permutation(12)]
    assert sorted(np.concatenate(training._batches(order)).tolist()) == list(range(12))
    samples = training._samples(items, torch.arange(12))
    torch.testing.assert_close(samples, decode(items, 2), rtol=0, atol=0)


def test_an_epoch_augments_each_sample_by_itself_in_the_order_drawn(small) -> None:
    side = matching(small)
    theta = side.network.draw(side.context.streams, "matching network", 0)
    items, labels = some_items(small, "a", 6), torch.tensor([0, 0, 1, 1, 2, 3])
    results = [
        SyntheticTraining(side.network, 1, Augmentation(AUGMENT), 0.3, 4, micro_batch).epoch(
            theta, items, labels, np.random.default_rng(5)
        )
        for micro_batch in (1, 3, 100)
    ]
    for other in results[1:]:
        for name in theta:
            torch.testing.assert_close(results[0][name], other[name], rtol=1e-10, atol=1e-13)


def test_batch_norm_keeps_the_statistics_of_real_samples_while_matching(small) -> None:
    side = matching(small, architecture=Normed(None), micro_batch=1000)
    network = side.network
    theta = network.draw(side.context.streams, "matching network", 0)
    rows = GradientDraws(side.context, 6, Augmentation("none"), False).batch_norm_rows(0, 0)
    assert len(rows) == 9 + 12 + 5 + 10  # up to 16 of each class
    side.settle(theta, rows)
    batch = side.context.train.batch(rows, "a")["a"]
    convolved = F.conv2d(batch, theta["encoder.layers.0.weight"], theta["encoder.layers.0.bias"], padding=1)
    expected = 0.1 * convolved.mean(dim=(0, 2, 3))  # one update of momentum 0.1 from 0, as in the published code
    torch.testing.assert_close(network.encoder.layers[1].running_mean, expected, rtol=1e-10, atol=1e-12)
    omega, items = Augmentation("none").siamese(np.random.default_rng(0)), some_items(small, "a")
    whole = side.match(theta, items, 1, omega, side.real(theta, rows[:7], 1, omega))
    cut = replace(side, context=replace(side.context, micro_batch=2))
    pieces = cut.match(theta, items, 1, omega, cut.real(theta, rows[:7], 1, omega))
    torch.testing.assert_close(whole.gradient, pieces.gradient, rtol=1e-10, atol=1e-14)


def test_batch_norm_trains_on_whole_batches_and_never_on_one_sample(small) -> None:
    side = matching(small, architecture=Normed(None))
    theta = side.network.draw(side.context.streams, "matching network", 0)
    training = SyntheticTraining(side.network, 1, Augmentation("none"), 0.1, 4, 1)
    assert [len(rows) for rows in training._batches(np.arange(9))] == [4, 5]
    items, labels = some_items(small, "a", 9), torch.arange(9) % 4
    after = training.epoch(theta, items, labels, np.random.default_rng(0))
    assert all(torch.isfinite(p).all() for p in after.values())
    assert side.network.training
