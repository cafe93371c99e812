"""Normalisation, ReLU and pooling of a ConvNet block on a CPU, where feature maps outgrow the caches.

Channels-last, so that every pass runs along the channels, and as one step of automatic differentiation with respect
to the input alone: distribution matching never asks for a gradient of the weights. Autograd would keep three tensors
as large as the feature map, and GroupNorm's backward would take longer than the convolutions'; here one is kept. With
x̂ = (x − μ)·r over the n pixels of a channel of one sample, y = γ·x̂ + β, p = pool(ReLU(y)) and g the gradient of p,

    m = 1[y > 0] · unpool(g),    Σm·x̂ = (Σ g·p − β·Σm) / γ,    ∂x = γ·r·(m − Σm/n − x̂·Σm·x̂/n),

unpool the transpose of average pooling. ``python benchmarks/speed/iteration.py`` measures what it gains.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

#: Below this size of a sample's feature map the plain layers are as fast: it stays in the caches.
_LEAST_BYTES = 16 << 20
#: A channel's scale γ below this share of the largest |γ| or |β| would cost digits in Σm·x̂.
_LEAST_SCALE = 1e-2


def is_large(x: Tensor, channels: int) -> bool:
    """Whether feature maps with ``channels`` of a sample of x (B, …, H, W) outgrow the caches of a CPU."""
    return x.device.type == "cpu" and 4 * channels * x.shape[-2] * x.shape[-1] >= _LEAST_BYTES


def suits(weight: Tensor, bias: Tensor) -> bool:
    """Whether :func:`norm_relu_pool` may be used: γ and β are without gradients, no γ is near 0."""
    if not torch.is_grad_enabled():
        return True
    if weight.requires_grad or bias.requires_grad:
        return False
    scales = weight.abs()
    return bool(scales.min() > _LEAST_SCALE * torch.maximum(scales.max(), bias.abs().max()))


def norm_relu_pool(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Instance normalisation with γ = ``weight`` and β = ``bias``, ReLU, average pooling by 2.

    Args:
        x: (B, C, H, W).
        weight, bias: (C,), for which :func:`suits` holds.

    Returns:
        (B, C, ⌊H/2⌋, ⌊W/2⌋).
    """
    if torch.is_grad_enabled() and x.requires_grad:
        return cast(Tensor, _NormReluPool.apply(x, weight, bias, eps))  # type: ignore[no-untyped-call]
    return _forward(x, weight, bias, eps)[0]


def _forward(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """p, and μ and r of each channel of each sample, (B, C)."""
    batch, channels, height, width = x.shape
    y, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, height * width, channels, eps)
    return F.avg_pool2d(F.relu_(y), 2), mean, rstd


class _NormReluPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        pooled, mean, rstd = _forward(x, weight, bias, eps)
        ctx.save_for_backward(x, weight, bias, pooled, mean, rstd)
        ctx.eps = eps
        return pooled

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, pooled, mean, rstd = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return _over_x(x, weight, bias, pooled, mean, rstd, slopes[0]), None, None, None
        # Somebody differentiates this gradient: the plain layers know how.
        normalised = F.group_norm(x, x.shape[1], weight, bias, ctx.eps)
        again = F.avg_pool2d(F.relu(normalised), 2)
        return *torch.autograd.grad(again, x, slopes[0], create_graph=True), None, None, None


def _over_x(
    x: Tensor, weight: Tensor, bias: Tensor, pooled: Tensor, mean: Tensor, rstd: Tensor, slope: Tensor
) -> Tensor:
    """∂x (B, C, H, W) by the equations above. Sums have the precision of the weights, also where x is bfloat16."""
    count, exact = x.shape[2] * x.shape[3], weight.dtype
    mean, rstd = mean.to(exact)[..., None, None], rstd.to(exact)[..., None, None]  # (B, C, 1, 1)
    gamma, beta = weight[:, None, None], bias[:, None, None]  # (C, 1, 1)
    scale = gamma * rstd  # γ·r
    y = torch.addcmul((beta - scale * mean).to(x.dtype), x, scale.to(x.dtype))  # (B, C, H, W)
    sums = (slope * pooled).sum((2, 3), keepdim=True, dtype=exact)  # Σ g·p
    unpooled: Tensor = torch.ops.aten.avg_pool2d_backward(slope, y, [2, 2], [2, 2], [0, 0], False, True, None)
    m: Tensor = torch.ops.aten.threshold_backward(unpooled, y, 0)  # (B, C, H, W)
    total = m.sum((2, 3), keepdim=True, dtype=exact)  # Σm
    weighted = (sums - beta * total) / gamma  # Σm·x̂
    # γ·r·(m − Σm/n − x̂·Σm·x̂/n), with x̂ = (y − β)/γ: γ·r·m − y·slope_y + rest.
    slope_y = rstd * weighted / count
    rest = beta * slope_y - scale * total / count
    return m.mul_(scale.to(x.dtype)).addcmul_(y, slope_y.to(x.dtype), value=-1).add_(rest.to(x.dtype))
