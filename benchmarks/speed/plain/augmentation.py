"""The six ops of DSA (arXiv:2102.08259) as its code does them, and the factor's decoding, in plain torch.

Each op takes x (B, C, H, W) and unit numbers (B, 3), whose first ones it scales to its published strengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def _brighten(x: Tensor, units: Tensor) -> Tensor:
    brightness, saturation, contrast = (units[:, i].view(-1, 1, 1, 1) for i in range(3))
    x = x + (brightness - 0.5)
    grey = x.mean(dim=1, keepdim=True)
    x = (x - grey) * (saturation * 2) + grey if x.shape[1] > 1 else x
    mean = x.mean(dim=[1, 2, 3], keepdim=True)
    return (x - mean) * (contrast + 0.5) + mean


def _grid(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    count, _, height, width = x.shape
    sizes = (torch.arange(n, device=x.device) for n in (count, height, width))
    batch, rows, columns = torch.meshgrid(*sizes, indexing="ij")  # (B, H, W) each
    return batch, rows, columns


def _crop(x: Tensor, units: Tensor) -> Tensor:
    height, width = x.shape[2:]
    shifts = []
    for axis, size in enumerate((height, width)):
        reach = int(size * 0.125 + 0.5)
        shifts.append(((units[:, axis] * (2 * reach + 1)).floor().long() - reach).view(-1, 1, 1))
    batch, rows, columns = _grid(x)
    rows = torch.clamp(rows + shifts[0] + 1, 0, height + 1)
    columns = torch.clamp(columns + shifts[1] + 1, 0, width + 1)
    padded = F.pad(x, [1, 1, 1, 1])
    return padded.permute(0, 2, 3, 1).contiguous()[batch, rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, units: Tensor) -> Tensor:
    height, width = x.shape[2:]
    hole, centres = [], []
    for axis, size in enumerate((height, width)):
        hole.append(int(size * 0.5 + 0.5))
        centres.append((units[:, axis] * (size + (1 - hole[axis] % 2))).floor().long().view(-1, 1, 1))
    sizes = (torch.arange(n, device=x.device) for n in (x.shape[0], hole[0], hole[1]))
    batch, rows, columns = torch.meshgrid(*sizes, indexing="ij")
    rows, columns = rows + centres[0] - hole[0] // 2, columns + centres[1] - hole[1] // 2
    # What falls outside is sent to a row and column that are cut off again.
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    rows = torch.where(inside, rows, torch.full_like(rows, height))
    columns = torch.where(inside, columns, torch.full_like(columns, width))
    mask = torch.ones(x.shape[0], height + 1, width + 1, dtype=x.dtype, device=x.device)
    mask[batch, rows, columns] = 0
    return x * mask[:, :height, :width].unsqueeze(1)


def _flip(x: Tensor, units: Tensor) -> Tensor:
    return torch.where((units[:, 0] < 0.5).view(-1, 1, 1, 1), x.flip(3), x)


def _warped(x: Tensor, theta: list[list[Tensor]]) -> Tensor:
    maps = torch.stack([torch.stack(row, dim=1) for row in theta], dim=1)  # (B, 2, 3)
    return F.grid_sample(x, F.affine_grid(maps, list(x.shape), align_corners=False), align_corners=False)


def _scale(x: Tensor, units: Tensor) -> Tensor:
    least, zero = 1 / 1.2, torch.zeros_like(units[:, 0])
    along_x, along_y = (units[:, i] * (1.2 - least) + least for i in range(2))
    return _warped(x, [[along_x, zero, zero], [zero, along_y, zero]])


def _rotate(x: Tensor, units: Tensor) -> Tensor:
    angle = (units[:, 0] - 0.5) * 2 * math.radians(15.0)
    zero = torch.zeros_like(angle)
    return _warped(x, [[angle.cos(), -angle.sin(), zero], [angle.sin(), angle.cos(), zero]])


OPS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "color": _brighten,
    "crop": _crop,
    "cutout": _cutout,
    "flip": _flip,
    "scale": _scale,
    "rotate": _rotate,
}


def augmented(x: Tensor, op: str, units: Tensor) -> Tensor:
    """x (B, C, H, W) under an op; "" does nothing. ``units`` is (B, 3), or (1, 3) for all samples."""
    return OPS[op](x, units.to(x.device, x.dtype).expand(x.shape[0], 3)) if op else x


def decoded(items: Tensor, factor: int) -> Tensor:
    """Each item's l² cells enlarged to its size: (n·l², C, H, W), all items' first cells first."""
    if factor == 1:
        return items
    height, width = items.shape[-2:]
    cells = []
    for column in range(factor):
        left, right = round(column * width / factor), round((column + 1) * width / factor)
        for row in range(factor):
            top, bottom = round(row * height / factor), round((row + 1) * height / factor)
            cell = items[:, :, top:bottom, left:right]
            cells.append(F.interpolate(cell, size=(height, width), mode="bilinear", align_corners=False))
    return torch.cat(cells)
