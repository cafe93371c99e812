"""Normalisation, ReLU and pooling of a ConvNet block on a CPU, where feature maps outgrow the caches.

Channels-last, so that every pass runs along the channels, and as one step of automatic differentiation. Autograd would
keep three tensors as large as the feature map, and GroupNorm's backward would take longer than the convolutions'; here
one is kept. With
x̂ = (x − μ)·r over the n pixels of a channel of one sample, y = γ·x̂ + β, p = pool(ReLU(y)) and g the gradient of p,

    m = 1[y > 0] · unpool(g),    Σm·x̂ = (Σ g·p − β·Σm) / γ,    ∂x = γ·r·(m − Σm/n − x̂·Σm·x̂/n),

∂γ = Σm·x̂ and ∂β = Σm, with unpool the transpose of average pooling. ``python benchmarks/speed/iteration.py`` measures
what it gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.nets.rows import mask_, pooled_rows

#: Below this size of a sample's first feature map the plain layers are as fast, or faster: it stays in the caches.
#: ``python benchmarks/speed/blocks.py`` shows both on either side of it.
_LEAST_BYTES = 1 << 20
#: A channel's scale γ below this share of the largest |γ| or |β| would cost digits in Σm·x̂.
_LEAST_SCALE = 1e-2


def is_large(x: Tensor, channels: int) -> bool:
    """Whether feature maps with ``channels`` of a sample of x (B, …, H, W) outgrow the caches of a CPU.

    Not inside torch.func's transforms: steps of differentiation of our own do not follow them.
    """
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return x.device.type == "cpu" and 4 * channels * x.shape[-2] * x.shape[-1] >= _LEAST_BYTES


def suits(weight: Tensor, bias: Tensor) -> bool:
    """Whether the gradient of :func:`norm_relu_pool` keeps its digits: no γ is near 0."""
    if not torch.is_grad_enabled():
        return True
    scales = weight.detach().abs()
    return bool(scales.min() > _LEAST_SCALE * torch.maximum(scales.max(), bias.detach().abs().max()))


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance normalisation with γ = ``weight`` and β = ``bias``, ReLU, average pooling by 2.

    Args:
        x: (B, C, H, W).
        weight, bias: (C,), for which :func:`suits` holds.

    Returns:
        (B, C, ⌊H/2⌋, ⌊W/2⌋).
    """
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, weight, bias)):
        return cast(Tensor, _NormReluPool.apply(x, weight, bias, eps))  # type: ignore[no-untyped-call]
    return _forward(x, weight, bias, eps)[0]


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """p, and μ and r of each channel of each sample, (B, C)."""
    batch, channels, height, width = x.shape
    y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, channels, eps)
    return F.avg_pool2d(F.relu_(y), 2), mean, rstd


def differentiable(
    plain: Tensor, inputs: Sequence[Tensor], asked: Sequence[bool], slope: Tensor
) -> list[Tensor | None]:
    """Gradients of the ``asked`` inputs that somebody differentiates again: through plain layers, which know how.

    Args:
        plain: what those layers make of the inputs.
        slope: the gradient of ``plain``, of its shape.
    """
    wanted = [t for t, needed in zip(inputs, asked, strict=True) if needed]
    grown = iter(torch.autograd.grad(plain, wanted, slope, create_graph=True))
    return [next(grown) if needed else None for needed in asked]


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        pooled, mean, rstd = _forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, pooled, mean, rstd)
        ctx.eps = eps
        return pooled

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, pooled, mean, rstd = ctx.saved_tensors
        x, weight, bias = inputs
        asked = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():
            plain = F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias, ctx.eps)), 2)
            return *differentiable(plain, inputs, asked, slopes[0]), None
        result = torch.empty_like(x, memory_format=torch.channels_last)
        over_weight, over_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        maps = [t.permute(0, 2, 3, 1) for t in (x, result, pooled, slopes[0])]  # (B, H, W, C), then (B, H/2, W/2, C)
        for i, (one, found, p, g) in enumerate(zip(*maps, strict=True)):
            weighted, total = _over_x((one, p, g), (weight, bias), (mean[i], rstd[i]), found)
            over_weight += weighted
            over_bias += total
        found_all = (result, over_weight, over_bias)
        return *(each if needed else None for each, needed in zip(found_all, asked, strict=True)), None


def _over_x(
    maps: tuple[Tensor, Tensor, Tensor], affine: tuple[Tensor, Tensor], moments: tuple[Tensor, Tensor], result: Tensor
) -> tuple[Tensor, Tensor]:
    """∂x of one sample by the equations above, written to ``result``, and Σm·x̂ and Σm, (C,).

    Sums have the precision of the weights, also where x is bfloat16.

    Args:
        maps: x (H, W, C), and p and g (H/2, W/2, C).
        affine: γ and β, (C,).
        moments: μ and r, (C,).
        result: (H, W, C).
    """
    (x, pooled, slope), (gamma, beta) = maps, affine
    mean, rstd = (t.to(gamma.dtype) for t in moments)
    (height, width, channels), exact = x.shape, gamma.dtype
    scale = gamma * rstd  # γ·r
    shift = beta - scale * mean
    total, agreement = torch.zeros_like(gamma), torch.zeros_like(gamma)
    pieces = list(pooled_rows(height, width, channels))
    for rows in pieces:
        lines = slice(2 * rows.start, 2 * rows.stop)
        g, m = slope[rows], result[lines]
        torch.addcmul(shift.to(x.dtype), x[lines], scale.to(x.dtype), out=m)  # y
        mask_(m.view(-1, 2, width, channels), g * (scale / 4).to(x.dtype))  # γ·r·m
        total += m.sum((0, 1), dtype=exact)
        agreement += (g * pooled[rows]).sum((0, 1), dtype=exact)  # Σ g·p
    total /= scale  # Σm
    weighted = (agreement - beta * total) / gamma  # Σm·x̂
    # γ·r·(m − Σm/n − x̂·Σm·x̂/n), with x̂ = (x − μ)·r: γ·r·m + x·per_x + rest.
    count = height * width
    per_x = -scale * rstd * weighted / count
    rest = -scale * total / count - mean * per_x
    result[height // 2 * 2 :] = 0  # an odd last row is not pooled
    for rows in pieces:
        lines = slice(2 * rows.start, 2 * rows.stop if rows is not pieces[-1] else height)
        result[lines].addcmul_(x[lines], per_x.to(x.dtype)).add_(rest.to(x.dtype))
    return weighted, total
