"""Differentiable augmentation, Siamese (DSA, arXiv:2102.08259) or per sample.

A :class:`Transform` is drawn once and then applied to any number of batches: real and synthetic, audio and visual,
all classes. Its parameters are drawn as unit numbers, so one transform fits inputs of any size and a micro-batch
takes its own rows of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.errors import RequestError, nearest

#: Strengths published with DSA.
FLIP_PROBABILITY = 0.5
SCALE_RATIO = 1.2
ROTATE_DEGREES = 15.0
CROP_PAD = 0.125
CUTOUT_RATIO = 0.5
BRIGHTNESS, SATURATION, CONTRAST = 1.0, 2.0, 0.5

#: Unit numbers per sample: enough for the op that needs most of them (color: brightness, saturation, contrast).
_UNITS = 3
#: Rounding may lift a unit number to 1, which would shift a crop too far.
_BELOW_ONE = np.nextafter(np.float32(1), np.float32(0))


def _column(units: Tensor, index: int) -> Tensor:
    """Unit number ``index`` of each sample, shaped to broadcast over (B, C, H, W)."""
    return units[:, index].view(-1, 1, 1, 1)


def _color(x: Tensor, units: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast. On one channel saturation is the identity."""
    x = x + (_column(units, 0) - 0.5) * BRIGHTNESS
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (_column(units, 1) * SATURATION) + grey if x.shape[1] > 1 else x
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    return (x - mean) * (_column(units, 2) + CONTRAST) + mean


def _crop(x: Tensor, units: Tensor) -> Tensor:
    """Shift by up to ``CROP_PAD`` of the size, filling with zeros."""
    height, width = x.shape[-2:]
    rows = _shift(units[:, 0], int(height * CROP_PAD + 0.5), height)  # (B, H)
    columns = _shift(units[:, 1], int(width * CROP_PAD + 0.5), width)  # (B, W)
    padded = F.pad(x, (1, 1, 1, 1))  # index 0 and the last one hold zeros
    index = rows[:, :, None] * (width + 2) + columns[:, None, :]  # (B, H, W)
    flat = padded.flatten(2)  # (B, C, (H+2)(W+2))
    index = index.flatten(1)[:, None, :].expand(x.shape[0], x.shape[1], -1)
    return flat.gather(2, index).view_as(x)


def _shift(unit: Tensor, reach: int, size: int) -> Tensor:
    """Source indices (B, size) into an axis padded by one, for a shift drawn from -reach…reach."""
    offset = (unit * (2 * reach + 1)).floor().long() - reach
    positions = torch.arange(size, device=unit.device)[None, :] + offset[:, None] + 1
    return positions.clamp(0, size + 1)


def _cutout(x: Tensor, units: Tensor) -> Tensor:
    """Zero a rectangle of ``CUTOUT_RATIO`` of each side, centred anywhere."""
    inside = [_span(units[:, axis], int(size * CUTOUT_RATIO + 0.5), size) for axis, size in enumerate(x.shape[-2:])]
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]  # (B, 1, H, W)
    return x.masked_fill(hole, 0.0)


def _span(unit: Tensor, length: int, size: int) -> Tensor:
    """Whether each index (B, size) lies in a span of ``length`` around a drawn centre."""
    centre = (unit * (size + (1 - length % 2))).floor().long()
    index = torch.arange(size, device=unit.device)[None, :]
    first = (centre - length // 2)[:, None]
    return (index >= first) & (index < first + length)


def _flip(x: Tensor, units: Tensor) -> Tensor:
    """Mirror left and right with probability one half."""
    return torch.where(_column(units, 0) < FLIP_PROBABILITY, x.flip(3), x)


def _scale(x: Tensor, units: Tensor) -> Tensor:
    """Stretch each axis by a factor from 1/``SCALE_RATIO`` to ``SCALE_RATIO``."""
    low = 1.0 / SCALE_RATIO
    factors = units[:, :2] * (SCALE_RATIO - low) + low  # (B, 2)
    zero = torch.zeros_like(factors[:, 0])
    top = torch.stack([factors[:, 0], zero, zero], dim=1)
    bottom = torch.stack([zero, factors[:, 1], zero], dim=1)
    return _warp(x, torch.stack([top, bottom], dim=1))


def _rotate(x: Tensor, units: Tensor) -> Tensor:
    """Turn by up to ``ROTATE_DEGREES`` either way."""
    angle = (units[:, 0] - 0.5) * 2 * math.radians(ROTATE_DEGREES)
    zero = torch.zeros_like(angle)
    top = torch.stack([angle.cos(), -angle.sin(), zero], dim=1)
    bottom = torch.stack([angle.sin(), angle.cos(), zero], dim=1)
    return _warp(x, torch.stack([top, bottom], dim=1))


def _warp(x: Tensor, theta: Tensor) -> Tensor:
    """Sample ``x`` through the affine maps ``theta`` (B, 2, 3); zeros outside."""
    grid = F.affine_grid(theta.to(x.dtype), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)


_OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _color,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}


@dataclass(frozen=True)
class Transform:
    """One drawn op with its parameters.

    Attributes:
        op: the op's name; "" does nothing.
        units: unit numbers (1, 3), shared by every sample, or (B, 3), one row a sample.
    """

    op: str
    units: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Apply to (B, C, H, W), differentiably."""
        if not self.op:
            return x
        units = self.units.to(device=x.device, dtype=x.dtype)
        return _OPS[self.op](x, units.expand(x.shape[0], -1))

    def rows(self, start: int, stop: int) -> Transform:
        """The transform of some of the samples: a micro-batch's part."""
        return self if self.units.shape[0] == 1 else Transform(self.op, self.units[start:stop])


@dataclass(frozen=True)
class Augmentation:
    """A strategy: op names joined by ``_``, one of them drawn each time; "none" draws nothing.

    Raises:
        RequestError: an unknown op.
    """

    strategy: str

    def __post_init__(self) -> None:
        for name in self.ops:
            if name not in _OPS:
                raise RequestError(f"augment = {self.strategy!r}: unknown op {name!r}; {nearest(name, _OPS)}")

    @property
    def ops(self) -> tuple[str, ...]:
        return () if self.strategy in ("", "none") else tuple(self.strategy.split("_"))

    def siamese(self, rng: np.random.Generator) -> Transform:
        """One op and one set of parameters for all samples (DSA, Eq. 3)."""
        return self.per_sample(rng, 1)

    def per_sample(self, rng: np.random.Generator, count: int) -> Transform:
        """One op for the batch, parameters for each of ``count`` samples."""
        if not self.ops:
            return Transform("", torch.zeros(1, _UNITS))
        op = self.ops[int(rng.integers(len(self.ops)))]
        # In float32 whatever the precision of the run, so that all precisions meet the same transform.
        units = rng.random((count, _UNITS)).astype(np.float32)
        return Transform(op, torch.from_numpy(np.minimum(units, _BELOW_ONE)))
