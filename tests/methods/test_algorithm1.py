"""`dm` and `avdd` against a plain reading of the AVDD paper's Algorithm 1: a loop over classes, in float64.

The reading shares the drawn weights, the drawn transform and nothing else with the product: it forwards the
networks by functional calls, decodes the factor by hand, takes its own means and sums its own losses.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.api import Context, Method, Streams, SyntheticItems

F64 = torch.float64


@pytest.fixture(autouse=True)
def gradients_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step lets go of the gradient for its memory; here it is looked at."""
    monkeypatch.setattr(SyntheticItems, "update", lambda self: self._optimiser.step())


def psi(x: Tensor, weights: dict[str, Tensor], first_padding: int, grid: int = 4) -> Tensor:
    """Two blocks of conv, instance norm with affine, ReLU, pooling; then flattened."""
    for block, name in enumerate(("layers.0", "layers.4")):
        norm = f"layers.{4 * block + 1}"
        padding = first_padding if block == 0 else 1
        x = F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=padding)
        centred = x - x.mean(dim=(2, 3), keepdim=True)
        x = centred / (centred.square().mean(dim=(2, 3), keepdim=True) + 1e-5).sqrt()
        x = x * weights[f"{norm}.weight"][:, None, None] + weights[f"{norm}.bias"][:, None, None]
        x = F.avg_pool2d(x.relu(), 2) if block == 0 else F.adaptive_avg_pool2d(x.relu(), grid)
    return x.flatten(1)


def decoded(item: Tensor, factor: int) -> list[Tensor]:
    """The mini-examples of one item (1, channels, height, width), column by column, enlarged."""
    height, width = item.shape[-2:]
    found = []
    for column in range(factor):
        for row in range(factor):
            top, bottom = round(row * height / factor), round((row + 1) * height / factor)
            left, right = round(column * width / factor), round((column + 1) * width / factor)
            cell = item[:, :, top:bottom, left:right]
            found.append(F.interpolate(cell, (height, width), mode="bilinear", align_corners=False))
    return found


def squared(x: Tensor) -> Tensor:
    return sum((value * value for value in x.flatten()), torch.zeros((), dtype=F64))


def mean_embedding(samples: list[Tensor], weights: dict[str, Tensor], transform, name: str) -> Tensor:
    total = 0.0
    for sample in samples:
        total = total + psi(transform(sample), weights, 3 if name == "a" else 1)[0]
    return total / len(samples)


def class_loss(R: dict[str, Tensor], S: dict[str, Tensor], w: dict[str, float]) -> Tensor:
    """Eqs. 1 to 3, 6, 9, 10, 11 and 14."""
    loss = w["base"] * sum(squared(R[name] - S[name]) for name in R)
    if len(R) == 2:
        loss = loss + w["icm"] * squared(R["a"] + R["v"] - S["a"] - S["v"])
        loss = loss + w["cgm"] * squared((R["a"] + S["v"]) - (R["v"] + S["a"]))
        loss = loss + w["scmm"] * squared(S["a"] - S["v"])
        loss = loss + w["rscmm"] * (squared(R["a"] - S["v"]) + squared(R["v"] - S["a"]))
    return loss


def real_rows(context: Context, seed: int, k: int, cls: int, batch_real: int) -> np.ndarray:
    rows = context.train.class_rows(cls)
    return Streams(seed)("real batch", step=k, cls=cls).permutation(rows)[:batch_real]


def algorithm1(method: Method, items: dict[str, Tensor], k: int, w: dict[str, float]) -> tuple[float, dict]:
    """Loss and gradient of iteration ``k`` at ``items``, class after class."""
    context, factor = method.context, method.config.factor
    draw = method.real.at(k)
    weights = {name: dict(e.state_dict()) for name, e in draw.encoders.items()}
    ipc = context.setting.ipc
    total, gradients = 0.0, {name: torch.zeros_like(x) for name, x in items.items()}
    for position, cls in enumerate(context.classes):
        rows = real_rows(context, context.streams.seed, k, cls, method.config.batch_real)
        transform = draw.transforms[position]
        R, S, leaves = {}, {}, {}
        for name in items:
            real = [context.train.batch(np.array([row]), name)[name] for row in rows]
            R[name] = mean_embedding(real, weights[name], transform, name)
            leaves[name] = items[name][position * ipc : (position + 1) * ipc].clone().requires_grad_(True)
            mini = [s for i in range(ipc) for s in decoded(leaves[name][i : i + 1], factor)]
            S[name] = mean_embedding(mini, weights[name], transform, name)
        loss = class_loss(R, S, w)
        loss.backward()
        total += float(loss.detach())
        for name, leaf in leaves.items():
            if leaf.grad is not None:
                gradients[name][position * ipc : (position + 1) * ipc] = leaf.grad
    return total, gradients


PLAIN = {"base": 1.0, "icm": 0.0, "cgm": 0.0, "scmm": 0.0, "rscmm": 0.0}

CASES = {
    "dm": ("dm", {}, {}),
    "dm factor 2": ("dm", {}, {"factor": 2, "init": "herding"}),
    "dm factor 3": ("dm", {}, {"factor": 3}),
    "avdd": ("avdd", {"icm": 10.0, "cgm": 10.0}, {}),
    "avdd factor 1": ("avdd", {"icm": 10.0, "cgm": 10.0}, {"factor": 1}),
    "avdd factor 3": ("avdd", {"icm": 10.0, "cgm": 10.0}, {"factor": 3}),
    "unequal": ("avdd", {"icm": 7.0, "cgm": 0.5}, {}),
    "ICM alone": ("avdd", {"base": 0.0, "icm": 1.0}, {}),
    "CGM alone": ("avdd", {"base": 0.0, "cgm": 1.0}, {}),
    "ICM and CGM without base": ("avdd", {"base": 0.0, "icm": 10.0, "cgm": 10.0}, {}),
    "SCMM": ("avdd", {"scmm": 1.0}, {}),
    "RSCMM": ("avdd", {"rscmm": 1.0}, {}),
    "Eq. 15": ("avdd", {"scmm": 1.0, "rscmm": 1.0}, {"factor": 1}),
    "all": ("avdd", {"base": 0.5, "icm": 2.0, "cgm": 3.0, "scmm": 4.0, "rscmm": 5.0}, {}),
    "ω per class": ("avdd", {"icm": 10.0, "cgm": 10.0}, {"omega_per_class": True}),
}


def build(small, case: str, **context) -> tuple[Method, dict[str, float]]:
    name, weights, options = CASES[case]
    weights = {**PLAIN, **weights}
    given = weights if name == "avdd" else {}
    return small.method(name, small.context(dtype=F64, **context), **given, **options), weights


def assert_step_is_algorithm1(method: Method, weights: dict[str, float], k: int) -> None:
    before = {name: x.detach().clone() for name, x in method.items.items.items()}
    loss, gradients = algorithm1(method, before, k, weights)
    metrics = method.step(k)
    assert metrics["loss"] == pytest.approx(loss, rel=1e-10)
    for name, gradient in gradients.items():
        found = method.items.items[name].grad
        assert found.abs().max() > 0
        torch.testing.assert_close(found, gradient, rtol=1e-10, atol=1e-12 * float(gradient.abs().max()))


#: Steps whose drawn op moves pixels, so that transforms are exercised too.
STEPS = {"dm": 3, "avdd": 1, "dm factor 2": 5, "ω per class": 2}


@pytest.mark.parametrize("case", CASES)
def test_loss_and_gradient_are_those_of_algorithm_1(small, case: str) -> None:
    method, weights = build(small, case)
    assert_step_is_algorithm1(method, weights, k=STEPS.get(case, 0))


@pytest.mark.parametrize("modality", ["a", "v"])
@pytest.mark.parametrize("factor", [1, 2])
def test_one_modality_alone(small, modality: str, factor: int) -> None:
    method = small.method("dm", small.context(dtype=F64, modality=modality, channels=3), factor=factor)
    assert set(method.items.items) == {modality}
    assert_step_is_algorithm1(method, PLAIN, k=1)


@pytest.mark.parametrize("case", ["dm", "avdd", "ω per class"])
def test_colour_frames_and_small_micro_batches(small, case: str) -> None:
    method, weights = build(small, case, channels=3, micro_batch=5)
    assert_step_is_algorithm1(method, weights, k=2)


def test_a_loss_may_leave_one_modality_out_whose_gradient_is_then_zero(small) -> None:
    method, _ = build(small, "dm")
    method.items.match(method.real.at(0), lambda R, S: (R["a"] - S["a"]).square().sum(dim=1))
    assert method.items.items["a"].grad.abs().max() > 0
    assert method.items.items["v"].grad.abs().max() == 0


@pytest.mark.parametrize("case", ["dm", "avdd"])
def test_the_items_follow_sgd_with_momentum_across_iterations(small, case: str) -> None:
    method, weights = build(small, case)
    rates = {"a": method.config.lr, "v": method.config.lr}
    own = {name: x.detach().clone() for name, x in method.items.items.items()}
    speed = {name: torch.zeros_like(x) for name, x in own.items()}
    start = {name: x.clone() for name, x in own.items()}
    for k in range(4):
        _, gradients = algorithm1(method, own, k, weights)
        method.step(k)
        for name, gradient in gradients.items():
            speed[name] = 0.5 * speed[name] + gradient
            own[name] = own[name] - rates[name] * speed[name]
    for name, x in own.items():
        moved = float((x - start[name]).abs().max())
        assert moved > 0
        assert float((method.items.items[name].detach() - x).abs().max()) <= 1e-9 * moved


def test_each_modality_has_its_own_learning_rate(small) -> None:
    method = small.method("dm", small.context(dtype=F64), lr=0.3, lr_audio=0.7)
    before = {name: x.detach().clone() for name, x in method.items.items.items()}
    method.step(0)
    for name, rate in {"a": 0.7, "v": 0.3}.items():
        item = method.items.items[name]
        torch.testing.assert_close(item.detach(), before[name] - rate * item.grad, rtol=1e-14, atol=1e-14)


def test_classes_do_not_touch_each_other(small) -> None:
    """The gradient of class c's items does not change when another class's items do."""
    method, _ = build(small, "avdd")
    before = {name: x.detach().clone() for name, x in method.items.items.items()}
    method.step(0)
    gradients = {name: x.grad.clone() for name, x in method.items.items.items()}
    with torch.no_grad():
        for name, x in method.items.items.items():
            x.copy_(before[name])
            x[2:] += 1.0
    method.step(0)
    for name, x in method.items.items.items():
        torch.testing.assert_close(x.grad[:2], gradients[name][:2], rtol=1e-12, atol=1e-14)
        assert not torch.allclose(x.grad[2:], gradients[name][2:])
