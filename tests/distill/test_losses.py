"""The matching losses as algebra: what holds between them, and what does not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from avbench.distill.losses import (
    LossWeights,
    base_loss,
    cgm_loss,
    icm_loss,
    rscmm_loss,
    scmm_loss,
    weighted_loss,
)


def means(seed: int, classes: int = 3, dims: int = 5) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> Tensor:
        return torch.randn(classes, dims, generator=generator, dtype=torch.float64)

    return {"a": draw(), "v": draw()}, {"a": draw(), "v": draw()}


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_parallelogram_law_icm_plus_cgm_is_twice_base(seed: int) -> None:
    R, S = means(seed)
    torch.testing.assert_close(icm_loss(R, S) + cgm_loss(R, S), 2 * base_loss(R, S), rtol=1e-13, atol=1e-13)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 100), st.floats(0, 100))
def test_what_unequal_weights_add_is_the_inner_product_of_both_gaps(seed: int, icm: float, cgm: float) -> None:
    R, S = means(seed)
    inner = ((R["a"] - S["a"]) * (R["v"] - S["v"])).sum(dim=1)
    expected = (1 + icm + cgm) * base_loss(R, S) + 2 * (icm - cgm) * inner
    found = weighted_loss(R, S, LossWeights(icm=icm, cgm=cgm))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize(("lam", "ratio"), [(1, 3), (10, 21), (20, 41)])
def test_loss_and_gradient_ratio_at_equal_weights(lam: float, ratio: float) -> None:
    R, S = means(0)
    S = {name: s.requires_grad_(True) for name, s in S.items()}
    joint = weighted_loss(R, S, LossWeights(icm=lam, cgm=lam))
    plain = weighted_loss(R, S, LossWeights())
    torch.testing.assert_close(joint, ratio * plain, rtol=1e-13, atol=0)
    for s in S.values():
        (g,) = torch.autograd.grad(joint.sum(), s, retain_graph=True)
        (h,) = torch.autograd.grad(plain.sum(), s, retain_graph=True)
        torch.testing.assert_close(g, ratio * h, rtol=1e-11, atol=1e-12)


def test_the_bound_printed_after_equation_6_is_false() -> None:
    """|p + q|² ≤ |p|² + |q|² fails wherever p and q point the same way; here by a factor of two."""
    R = {"a": torch.tensor([[1.0, 0.0]]), "v": torch.tensor([[1.0, 0.0]])}
    S = {"a": torch.zeros(1, 2), "v": torch.zeros(1, 2)}
    assert icm_loss(R, S).item() == 4.0
    assert rscmm_loss(R, S).item() == 2.0  # the right-hand side of the printed bound


def test_losses_by_hand() -> None:
    R = {"a": torch.tensor([[1.0, 2.0], [0.0, 0.0]]), "v": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}
    S = {"a": torch.tensor([[0.0, 0.0], [0.0, 1.0]]), "v": torch.tensor([[2.0, 0.0], [0.0, 0.0]])}
    assert base_loss(R, S).tolist() == [1 + 4 + 4 + 1, 1]
    assert icm_loss(R, S).tolist() == [(1 - 2) ** 2 + 3**2, 1]
    assert cgm_loss(R, S).tolist() == [(1 + 2) ** 2 + (2 - 1) ** 2, 1]
    assert scmm_loss(S).tolist() == [4, 1]
    assert rscmm_loss(R, S).tolist() == [1 + 4 + 0 + 1, 1]


def test_losses_are_sums_over_dimensions_not_means() -> None:
    R, S = means(1)
    wide = [{name: torch.cat([x, x], dim=1) for name, x in side.items()} for side in (R, S)]
    for loss in (base_loss, icm_loss, cgm_loss, rscmm_loss):
        torch.testing.assert_close(loss(*wide), 2 * loss(R, S))


@pytest.mark.parametrize("name", ["icm", "cgm", "scmm", "rscmm"])
def test_which_losses_need_both_modalities(name: str) -> None:
    assert LossWeights(**{name: 1.0}).cross_modal
    assert not LossWeights(base=3.0).cross_modal


def test_base_works_on_one_modality() -> None:
    R, S = means(2)
    for name in ("a", "v"):
        expected = (R[name] - S[name]).square().sum(dim=1)
        assert torch.equal(weighted_loss({name: R[name]}, {name: S[name]}, LossWeights()), expected)
