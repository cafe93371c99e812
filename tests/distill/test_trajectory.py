"""The adjoint against a plain unroll that keeps every graph, and what TESLA's form leaves out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import Small
from full_unroll import unroll
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.api import (
    Architecture,
    Augmentation,
    Classifier,
    Encoder,
    StepSize,
    Streams,
    Student,
    inner_steps,
    match_trajectory,
)
from avbench.distill.trajectory import Matched

ALL = "color_crop_cutout_flip_scale_rotate"
LABELS = torch.arange(4).repeat_interleave(2)


class Smooth(Encoder):
    """A tanh network without kinks, for finite differences."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.layer, self.embedding_dim = nn.Linear(shape[0] * shape[1] * shape[2], 5), 5

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x.flatten(1)))


class WithBatchNorm(Encoder):
    """Samples meet in batch norm."""

    per_sample = False

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(shape[0], 4, 3), nn.BatchNorm1d(4)
        self.embedding_dim = 4

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x).mean(dim=(2, 3))))


class Of(Architecture):
    """The architecture that builds one encoder class."""

    def __init__(self, encoder: Callable[[tuple[int, int, int]], Encoder]) -> None:
        super().__init__(None)
        self.encoder = encoder

    def build(self, dataset, modality: str) -> Encoder:  # type: ignore[no-untyped-def]
        return self.encoder(dataset.shape(modality))


class Case:
    """A student on 8 items of 4 classes in float64, with θ_0, θ* and its inner steps."""

    def __init__(
        self,
        small: Small,
        *,
        steps: int = 3,
        batch: int = 5,
        factor: int = 1,
        augment: str = ALL,
        micro_batch: int = 256,
        architecture: Architecture | None = None,
        modality: str = "a",
        seed: int = 0,
    ) -> None:
        info, rng = small.stores[3].info, np.random.default_rng(seed)
        self.network = Classifier(architecture or small.architecture(), info, modality).double()
        self.student = Student(self.network, LABELS, factor, micro_batch)
        self.factor = factor
        self.items = torch.from_numpy(rng.normal(size=(8, *info.shape(modality))))
        self.start = self.network.flatten(self.network.draw(Streams(seed), "test", step=0)).double()
        self.target = self.start + 0.05 * torch.from_numpy(rng.normal(size=self.start.shape))
        self.inner = inner_steps(rng, steps, 8, batch, factor, Augmentation(augment))

    def adjoint(self, step_size: float, *, exact: bool = True) -> Matched:
        return match_trajectory(self.student, self.items, step_size, self.inner, self.start, self.target, exact=exact)

    def unrolled(self, step_size: float, items: Tensor | None = None) -> Matched:
        x = (self.items if items is None else items).detach().clone().requires_grad_(True)
        beta = torch.tensor(step_size, dtype=x.dtype, requires_grad=True)
        loss = unroll(self.network, x, LABELS, beta, self.inner, self.start, self.target, self.factor)
        over_items, over_step = torch.autograd.grad(loss, [x, beta])
        return Matched(loss.detach(), over_items, over_step)


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


def agree(found: Matched, expected: Matched, bound: float = 1e-10) -> bool:
    pairs = [(getattr(found, n), getattr(expected, n)) for n in ("loss", "items", "step_size")]
    return all(error(*pair) <= bound for pair in pairs)


@pytest.mark.parametrize("modality", ["a", "v"])
@pytest.mark.parametrize(
    ("steps", "batch"),
    [(1, 8), (2, 3), (5, 3), (7, 8), (9, 20), (12, 5)],
    ids=["one step", "parts of a pass", "a pass and more", "whole", "a batch above the set", "with remainders"],
)
def test_the_adjoint_is_the_full_unroll(small: Small, steps: int, batch: int, modality: str) -> None:
    case = Case(small, steps=steps, batch=batch, modality=modality)
    for step_size in (1e-4, 0.02, 0.3):
        assert agree(case.adjoint(step_size), case.unrolled(step_size))


@pytest.mark.parametrize("augment", ["none", *ALL.split("_")])
def test_augmentation_is_applied_the_same_again_going_backwards(small: Small, augment: str) -> None:
    case = Case(small, steps=4, augment=augment, modality="v")
    assert agree(case.adjoint(0.1), case.unrolled(0.1))


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("micro_batch", [1, 7, 256])
def test_it_holds_with_packed_items(small: Small, factor: int, micro_batch: int) -> None:
    case = Case(small, factor=factor, micro_batch=micro_batch)
    assert agree(case.adjoint(0.1), case.unrolled(0.1))


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_micro_batches_of_the_inner_batch_change_rounding_alone(small: Small, micro_batch: int) -> None:
    case = Case(small, steps=4, batch=5, micro_batch=micro_batch)
    assert len(list(case.student.parts(case.inner[0]))) > 1
    assert agree(case.adjoint(0.1), case.unrolled(0.1))
    assert agree(case.adjoint(0.1, exact=False), Case(small, steps=4, batch=5).adjoint(0.1, exact=False))


def test_with_batch_norm_a_batch_passes_whole(small: Small) -> None:
    case = Case(small, steps=4, batch=3, micro_batch=1, architecture=Of(WithBatchNorm))
    assert [len(list(case.student.parts(step))) for step in case.inner] == [1] * 4
    assert agree(case.adjoint(0.1), case.unrolled(0.1))


def test_finite_differences_give_the_same_gradients(small: Small) -> None:
    """Central differences of the loss alone: no derivative of ours or of torch's is in them."""
    case, step = Case(small, steps=5, architecture=Of(Smooth)), 1e-5
    found = case.adjoint(0.2)
    direction = torch.from_numpy(np.random.default_rng(1).normal(size=case.items.shape))
    losses = [case.unrolled(0.2, case.items + sign * step * direction).loss for sign in (1, -1)]
    slope = float((losses[0] - losses[1]) / (2 * step))
    assert slope == pytest.approx(float((found.items * direction).sum()), rel=1e-6)
    losses = [case.unrolled(0.2 + sign * step).loss for sign in (1, -1)]
    assert float((losses[0] - losses[1]) / (2 * step)) == pytest.approx(float(found.step_size), rel=1e-6)


def test_tesla_s_form_is_the_gradient_with_later_points_held_fixed(small: Small) -> None:
    """Its own derivation: θ_T = θ_0 − β·Σ g_i(θ̄_i; x), the θ̄_i constants, differentiated in one piece."""
    case, beta = Case(small, steps=4), torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    x, points = case.items.clone().requires_grad_(True), [case.start]
    for step in case.inner:
        points.append(points[-1] - 0.1 * case.student.gradient(points[-1], case.items, step))
    total = torch.zeros_like(case.start)
    for theta, step in zip(points, case.inner, strict=False):
        at = theta.clone().requires_grad_(True)
        logits = case.network.logits(case.network.unflatten(at), step.transform(x[torch.from_numpy(step.rows)]))
        loss = F.cross_entropy(logits, LABELS[torch.from_numpy(step.rows)])
        total = total + torch.autograd.grad(loss, at, create_graph=True)[0]
    apart = case.start - beta * total - case.target
    loss = apart.square().sum() / (case.start - case.target).square().sum()
    expected = Matched(loss.detach(), *torch.autograd.grad(loss, [x, beta]))
    assert agree(case.adjoint(0.1, exact=False), expected)


def test_tesla_s_form_is_exact_for_one_step_and_drifts_with_the_step_size(small: Small) -> None:
    one = Case(small, steps=1)
    assert agree(one.adjoint(0.3, exact=False), one.adjoint(0.3))
    case = Case(small, steps=10, batch=8)
    errors = [error(case.adjoint(beta, exact=False).items, case.adjoint(beta).items) for beta in (1e-4, 1e-2, 0.3)]
    assert errors[0] < 0.01 < errors[2] and errors == sorted(errors)


def test_an_item_outside_every_batch_has_no_gradient(small: Small) -> None:
    case = Case(small, steps=2, batch=3)
    used = {int(row) for step in case.inner for row in step.rows}
    moved = case.adjoint(0.1).items.flatten(1).abs().sum(dim=1) > 0
    assert moved.nonzero().flatten().tolist() == sorted(used) and len(used) == 6


@pytest.mark.parametrize(("steps", "items", "batch"), [(7, 8, 3), (5, 8, 8), (4, 8, 20), (9, 7, 2)])
def test_inner_batches_are_chunks_of_one_permutation_after_the_other(steps: int, items: int, batch: int) -> None:
    found = inner_steps(np.random.default_rng(0), steps, items, batch, 2, Augmentation(ALL))
    a_pass = -(-items // batch)
    assert len(found) == steps
    for first in range(0, steps - a_pass + 1, a_pass):
        assert sorted(int(r) for step in found[first : first + a_pass] for r in step.rows) == list(range(items))
    assert all(len(step.rows) == min(batch, items) for step in found[::a_pass])
    assert all(step.transform.units.shape[0] == 4 * len(step.rows) for step in found)


def test_each_inner_step_is_augmented_afresh(small: Small) -> None:
    found = inner_steps(np.random.default_rng(0), 20, 8, 8, 1, Augmentation(ALL))
    assert len({tuple(step.transform.units.flatten().tolist()) for step in found}) == 20
    assert len({step.transform.op for step in found}) > 3


def test_a_longer_training_begins_as_a_shorter_one() -> None:
    few, many = (inner_steps(np.random.default_rng(3), n, 8, 3, 1, Augmentation(ALL)) for n in (3, 6))
    for one, other in zip(few, many, strict=False):
        assert one.rows.tolist() == other.rows.tolist() and one.transform.op == other.transform.op


def test_the_step_size_follows_torch_s_sgd_while_it_is_positive() -> None:
    gradients = np.random.default_rng(0).normal(size=50).tolist()
    ours = StepSize(1.0, 0.05, 0.5)
    theirs = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    sgd = torch.optim.SGD([theirs], lr=0.05, momentum=0.5)
    for gradient in gradients:
        ours.update(gradient)
        theirs.grad = torch.tensor(gradient, dtype=torch.float64)
        sgd.step()
        assert ours.value == pytest.approx(float(theirs.detach()), rel=1e-14) and ours.value > 0


def test_an_update_that_would_end_at_or_below_zero_halves_the_step_size_and_forgets_its_momentum() -> None:
    step_size = StepSize(0.5, 1.0, 0.5)
    step_size.update(0.5)  # exactly zero
    assert (step_size.value, step_size.velocity) == (0.25, 0.0)
    for _ in range(100):
        step_size.update(1e6)
        assert step_size.value > 0
    before = step_size.value
    step_size.update(-1.0)
    assert step_size.value == before + 1.0


def test_a_step_size_continues_from_its_state() -> None:
    one, other = StepSize(1.0, 0.1, 0.5), StepSize(9.0, 0.1, 0.5)
    one.update(1.0)
    other.load_state(one.state())
    for each in (one, other):
        each.update(0.3)
    assert one.state() == other.state()
