"""Pooling by 2, and its way back, a few rows of a channels-last map at a time, so that they stay in the L2 cache.

All see a sample's map as (rows, 2, W, C), ``rows`` those of the pooled map, of which an odd last one of H or W is none.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

#: Rows made at once: two or three such pieces, and what is computed of them, lie in an L2 cache of 2 MiB.
_BYTES = 512 << 10


def pooled_rows(height: int, width: int, channels: int) -> Iterator[slice]:
    """The pooled rows of a map (H, W, C) of four-byte numbers, a cacheful at a time."""
    whole = height // 2
    step = max(1, _BYTES // (2 * width * channels * 4))
    for start in range(0, whole, step):
        yield slice(start, min(start + step, whole))


def halved(y: Tensor) -> Tensor:
    """(rows, 2, W, C) → (rows, ⌊W/2⌋, C), the means of two by two."""
    rows, _, width, channels = y.shape
    # The batch of one must be there before the layout turns, or PyTorch takes it for contiguous, and is slow.
    pooled = F.avg_pool2d(y.view(1, 2 * rows, width, channels).permute(0, 3, 1, 2), 2)  # (1, C, rows, W/2)
    return pooled[0].permute(1, 2, 0)


def mask_(y: Tensor, slope: Tensor) -> None:
    """Make y 4·m, m = 1[y > 0] · unpool(g): y (rows, 2, W, C), g (rows, ⌊W/2⌋, C)."""
    half = slope.shape[1]
    if 2 * half < y.shape[2]:
        y[:, :, 2 * half :] = 0
    pooled = y[:, :, : 2 * half].view(*y.shape[:2], half, 2, -1)  # (rows, 2, W/2, 2, C)
    slopes = slope[:, None, :, None].expand_as(pooled)
    torch.ops.aten.threshold_backward.grad_input(slopes, pooled, 0, grad_input=pooled)
