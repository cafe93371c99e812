"""The factor technique: one stored item holds l × l mini-examples (IDC, arXiv:2205.14959; AVDD, appendix B).

Cells are numbered column by column: for l = 2 top-left, bottom-left, top-right, bottom-right. A side that l does
not divide is cut as evenly as whole pixels allow.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.errors import RequestError


def check_fits(factor: int, shape: tuple[int, int, int]) -> None:
    """Refuse a factor for which a cell would have no pixel."""
    if not 1 <= factor <= min(shape[-2:]):
        raise RequestError(f"factor = {factor}: an input of {shape} holds 1 to {min(shape[-2:])} cells a side.")


def _cells(shape: tuple[int, int], factor: int) -> Iterator[tuple[slice, slice]]:
    rows = [round(i * shape[0] / factor) for i in range(factor + 1)]
    columns = [round(i * shape[1] / factor) for i in range(factor + 1)]
    for x in range(factor):
        for y in range(factor):
            yield slice(rows[y], rows[y + 1]), slice(columns[x], columns[x + 1])


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def pack(samples: Tensor, factor: int) -> Tensor:
    """Pack (l²·n, C, H, W) into (n, C, H, W); sample q·n + i goes to cell q of item i."""
    if factor == 1:
        return samples.clone()
    count = samples.shape[0] // factor**2
    height, width = samples.shape[-2:]
    packed = samples.new_empty((count, *samples.shape[1:]))
    for q, (rows, columns) in enumerate(_cells((height, width), factor)):
        part = samples[q * count : (q + 1) * count]
        packed[..., rows, columns] = _resize(part, (rows.stop - rows.start, columns.stop - columns.start))
    return packed


def decode_rows(items: Tensor, factor: int, rows: Tensor) -> Tensor:
    """The samples ``rows`` of what :func:`decode` gives, without decoding the others: (len(rows), C, H, W)."""
    size = (items.shape[-2], items.shape[-1])
    found = torch.empty((len(rows), *items.shape[1:]), dtype=items.dtype, device=items.device)
    for number, (lines, columns) in enumerate(_cells(size, factor)):
        mine = (rows % factor**2 == number).nonzero().flatten()
        if len(mine):
            found[mine] = _resize(items[rows[mine] // factor**2][..., lines, columns], size)
    return found


def decode(items: Tensor, factor: int) -> Tensor:
    """Cut (n, C, H, W) into cells and enlarge each: (n·l², C, H, W), an item's cells side by side."""
    if factor == 1:
        return items
    size = (items.shape[-2], items.shape[-1])
    cells = [_resize(items[..., rows, columns], size) for rows, columns in _cells(size, factor)]
    return torch.stack(cells, dim=1).flatten(0, 1)  # (n·l², C, H, W)
