"""The first block of a large ConvNet on a CPU: convolution, normalisation, ReLU and pooling in one pass over its rows.

Its feature map is the largest of the network, 25 MiB a frame at 224 × 224, and its convolution sees few channels: a
pixel is a linear function of a patch u of 27 numbers. So the map is never written down. With ū and G the mean and the
covariance (27, 27) of a sample's P patches, w a filter and n = P, instance normalisation is known before any pixel is:

    μ = w·ū (+ the convolution's bias, which it takes away again),  σ² = wᵀGw,  y = γ·r·w·(u − ū) + β,  r = 1/√(σ² + ε).

A few rows at a time, which stay in the L2 cache, y is a product, then come ReLU and pooling. Backwards, with
m = 1[y > 0] · unpool(g), x̂ = r·w·(u − ū), S = Σm and T = Σm·x̂, the gradient of the map is γ·r·(m − S/n − x̂·T/n), and
of it only the part in m is as large as the map:

    ∂u = Σ_c w·γ·r·m − Σ_c w·γ·r·S/n − (Σ_c w·γ·r²·T/n·wᵀ)(u − ū),    ∂x = fold(∂u),
    A = Σ m·(u − ū)ᵀ,    T = r·(A·w),    ∂w = γ·r·(A − r·T·Gw),    ∂γ = T,    ∂β = S,

sums over pixels, Σ_c over channels; the bias's gradient is 0. Where no filter learns, A is not needed: with the pooled
map p = pool(ReLU(y)), T = (Σ g·p − β·S)/γ. ``python benchmarks/speed/iteration.py`` measures what it gains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nets.fused import differentiable
from avbench.nets.rows import halved, mask_, pooled_rows

#: Patches of more numbers than this share of the filters would cost more in products than the map does in memory.
_LARGEST_SHARE = 0.5


def suits_first(x: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm) -> bool:
    """Whether :func:`first_block` computes what these layers, ReLU and pooling by 2 do of x (B, …, H, W), and pays.

    The norm is taken to have one group a channel, the convolution a bias, the map at least two rows, as ConvNet's have.
    """
    numbers = convolution.weight[0].numel()
    plain = (convolution.stride, convolution.dilation, convolution.groups) == ((1, 1), (1, 1), 1)
    return plain and numbers <= _LARGEST_SHARE * norm.num_channels and not torch.is_autocast_enabled(x.device.type)


def first_block(x: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm) -> Tensor:
    """Convolution, instance normalisation, ReLU and average pooling by 2.

    Args:
        x: (B, channels, height, width).
        convolution, norm: layers for which :func:`suits_first` holds, and :func:`avbench.nets.fused.suits` of γ and β.

    Returns:
        (B, C, ⌊H/2⌋, ⌊W/2⌋), channels-last, with H and W those of the convolution.
    """
    layers = convolution.weight, convolution.bias, norm.weight, norm.bias
    return cast(Tensor, _FirstBlock.apply(x, *layers, norm.eps, convolution.padding))  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class _Sample:
    """One sample's patches, and its normalisation in the names of the module's equations.

    Attributes:
        patches: u − ū, and a row of ones for β, (K + 1, P).
        covariance: G, (K, K).
        rstd: r, (C,).
        filters: γ·r·w, and β, (K + 1, C).
        width: W, of the feature map.
    """

    patches: Tensor
    covariance: Tensor
    rstd: Tensor
    filters: Tensor
    width: int

    @classmethod
    def of(cls, x: Tensor, layers: Sequence[Tensor], eps: float, padding: Sequence[int]) -> _Sample:
        """From x (channels, height, width), and the filters, their bias, γ and β."""
        weight, _, gamma, beta = layers
        windows = _windows(F.pad(x, (padding[1], padding[1], padding[0], padding[0])), weight.shape[2:])
        w = weight.flatten(1)  # (C, K)
        patches = x.new_empty(w.shape[1] + 1, windows[0, 0, 0].numel())
        centred, patches[-1] = patches[:-1], 1
        torch.sub(windows, windows.mean((3, 4), keepdim=True), out=centred.view_as(windows))
        covariance = torch.mm(centred, centred.t()).div_(patches.shape[1])  # (K, K)
        # In float64: of a filter that answers little to what neighbouring pixels share, σ² is a small difference.
        variance = ((w.double() @ covariance.double()) * w).sum(1).clamp_(min=0)  # (C,)
        rstd = (variance + eps).rsqrt_().to(w.dtype)
        filters = torch.cat([w.t() * (gamma * rstd), beta[None]])  # (K + 1, C)
        return cls(patches, covariance, rstd, filters, windows.shape[4])

    def pixels(self, rows: slice) -> slice:
        """Those of the feature map that are pooled into ``rows``."""
        return slice(2 * rows.start * self.width, 2 * rows.stop * self.width)

    def map(self, rows: slice, out: Tensor) -> Tensor:
        """y of the pixels that are pooled into ``rows``, (rows, 2, W, C), in ``out`` (at least as many pixels, C)."""
        pixels = self.pixels(rows)
        y = out[: pixels.stop - pixels.start]  # (pixels, C)
        torch.mm(self.patches[:, pixels].t(), self.filters, out=y)
        return y.view(rows.stop - rows.start, 2, self.width, -1)


def _windows(padded: Tensor, kernel: Sequence[int]) -> Tensor:
    """Every pixel's patch, a view: (channels, height, width) → (channels, kernel height, kernel width, H, W)."""
    (channels, height, width), (down, across) = padded.shape, kernel
    size = (channels, down, across, height - down + 1, width - across + 1)
    plane, row, column = padded.stride()
    return padded.as_strided(size, (plane, row, column, row, column))


def _folded(patches: Tensor, shape: Sequence[int], kernel: Sequence[int], padding: Sequence[int]) -> Tensor:
    """The transpose of cutting patches out: (K, P) → (channels, height, width) of ``shape``."""
    padded = patches.new_zeros(shape[0], shape[1] + 2 * padding[0], shape[2] + 2 * padding[1])
    windows = _windows(padded, kernel)
    parts = patches.view_as(windows)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            windows[:, row, column] += parts[:, row, column]  # one place of the patches: no pixel twice
    return padded[:, padding[0] : padding[0] + shape[1], padding[1] : padding[1] + shape[2]]


def _space(pooled: Tensor, width: int) -> Tensor:
    """Room for the pixels of one piece of a map, written again and again, (pixels, C); ``pooled`` (B, H/2, W/2, C)."""
    _, height, _, channels = pooled.shape
    rows = next(pooled_rows(2 * height, width, channels))
    return pooled.new_empty(2 * (rows.stop - rows.start) * width, channels)


@dataclass(frozen=True)
class _Pulled:
    """What is summed over a sample's rows on the way back.

    Attributes:
        over_patches: Σ_c w·γ·r·m, (K, P); where the sample's gradient is asked for.
        answers: A, (C, K); where that of a filter or of γ or β is.
        total: S, (C,).
        agreement: Σ g·p, (C,), which stands for A where that is not asked for.
    """

    over_patches: Tensor | None
    answers: Tensor | None
    total: Tensor
    agreement: Tensor

    @classmethod
    def of(cls, sample: _Sample, near: tuple[Tensor, Tensor], space: Tensor, over_x: bool, learns: bool) -> _Pulled:
        """From p and g, (H/2, W/2, C); ``space`` for :meth:`_Sample.map`."""
        pooled, slope = near
        channels, centred = slope.shape[2], sample.patches[:-1]
        filters = sample.filters[:-1] / 4  # (K, C)
        over_patches = torch.empty_like(centred) if over_x else None
        answers = centred.new_zeros(channels, len(centred)) if learns else None
        total, agreement = centred.new_zeros(channels), centred.new_zeros(channels)
        stop = 0
        for rows in pooled_rows(2 * slope.shape[0], sample.width, channels):
            pixels = sample.pixels(rows)
            g, stop = slope[rows], pixels.stop
            y = sample.map(rows, space)  # (rows, 2, W, C)
            mask_(y, g)
            m = y.view(-1, channels)  # 4·m, (pixels, C)
            total += m.sum(0)
            if over_patches is not None:
                torch.mm(filters, m.t(), out=over_patches[:, pixels])
            if answers is None:
                agreement += (g * pooled[rows]).sum((0, 1))
            else:
                answers.addmm_(m.t(), centred[:, pixels].t())
        if over_patches is not None:
            over_patches[:, stop:] = 0  # an odd last row is not pooled
        return cls(over_patches, None if answers is None else answers / 4, total / 4, agreement)


class _FirstBlock(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *args: Any) -> Tensor:
        *layers, eps, padding = args
        weight = layers[0]
        height, width = (x.shape[2 + i] + 2 * padding[i] - weight.shape[2 + i] + 1 for i in range(2))
        pooled = x.new_empty(len(x), height // 2, width // 2, len(weight))  # (B, H/2, W/2, C)
        space = _space(pooled, width)
        for one, found in zip(x, pooled, strict=True):
            sample = _Sample.of(one, layers, eps, padding)
            for rows in pooled_rows(height, width, len(weight)):
                found[rows] = halved(F.relu_(sample.map(rows, space)))
        result = pooled.permute(0, 3, 1, 2)
        ctx.save_for_backward(x, *layers, result)
        ctx.eps, ctx.padding = eps, padding
        return result

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor | None, ...]:
        *inputs, pooled = ctx.saved_tensors
        asked = ctx.needs_input_grad[:5]
        if torch.is_grad_enabled():
            x, weight, shift, gamma, beta = inputs
            y = F.group_norm(F.conv2d(x, weight, shift, padding=ctx.padding), len(gamma), gamma, beta, ctx.eps)
            return *differentiable(F.avg_pool2d(F.relu(y), 2), inputs, asked, slopes[0]), None, None
        found = _gradients(inputs, (pooled, slopes[0]), (ctx.eps, ctx.padding), asked[0], any(asked[1:]))
        return *(each if needed else None for each, needed in zip(found, asked, strict=True)), None, None


def _gradients(
    inputs: Sequence[Tensor], near: tuple[Tensor, Tensor], how: tuple[float, Sequence[int]], over_x: bool, learns: bool
) -> list[Tensor]:
    """∂x, ∂w, that of the convolution's bias, ∂γ, ∂β; ``near`` p and g (B, C, H/2, W/2), ``how`` ε and the padding."""
    (x, weight, _, gamma, beta), (eps, padding) = inputs, how
    found = [torch.empty_like(x), *(torch.zeros_like(t) for t in inputs[1:])]
    w = weight.flatten(1)  # (C, K)
    pooled, slope = (t.permute(0, 2, 3, 1) for t in near)  # (B, H/2, W/2, C)
    space = _space(pooled, x.shape[3] + 2 * padding[1] - weight.shape[3] + 1)
    for i in range(len(x)):
        sample = _Sample.of(x[i], inputs[1:], eps, padding)
        pulled = _Pulled.of(sample, (pooled[i], slope[i]), space, over_x, learns)
        S, A, r, n = pulled.total, pulled.answers, sample.rstd, sample.patches.shape[1]
        T = (pulled.agreement - beta * S) / gamma if A is None else r * (A * w).sum(1)  # (C,)
        if A is not None:
            over_w = (gamma * r)[:, None] * (A - (r * T)[:, None] * (w @ sample.covariance))  # (C, K)
            for place, each in ((1, over_w.view_as(weight)), (3, T), (4, S)):
                found[place] += each
        if pulled.over_patches is not None:
            # By u − ū, and by the ones: (K, K + 1).
            shared = sample.filters[:-1] @ torch.cat([w * (r * T)[:, None], S[:, None]], 1) / n
            over_patches = pulled.over_patches.addmm_(shared, sample.patches, alpha=-1)  # (K, P)
            found[0][i] = _folded(over_patches, x.shape[1:], weight.shape[2:], padding)
    return found
