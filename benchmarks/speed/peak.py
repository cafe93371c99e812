"""The hardware's limits in torch: FLOP/s of a large matrix product and of ConvNet's convolution, bytes/s of a copy.

Command: ``python benchmarks/speed/peak.py [--device cuda]``. Against the product's FLOP/s the other scripts' figures
can be read; against the copy's bytes/s those of what moves memory and hardly computes, such as normalising, ReLU and
pooling a feature map. Best of the rounds: a limit is what was once reached. The last line says what normalising, ReLU
and pooling of plain layers take beside the convolution before them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from comparing import Figure, Report, Run, in_turn, main, seconds
from torch import nn

GIGA = 1e9


@dataclass(frozen=True)
class Sizes:
    """Side of the matrices, samples and side of the convolution's feature map, filters, MiB that are copied."""

    matrix: int
    samples: int
    side: int
    filters: int
    copied_mib: int


SIZES: Mapping[tuple[str, str], Sizes] = {
    ("paper", "cpu"): Sizes(2048, 4, 112, 128, 256),
    ("paper", "cuda"): Sizes(8192, 64, 112, 128, 4096),
    ("small", "cpu"): Sizes(256, 2, 16, 8, 8),
    ("small", "cuda"): Sizes(256, 2, 16, 8, 8),
}


@torch.no_grad()
def measure(run: Run) -> Report:
    """Each limit, the best of the rounds."""
    sizes = SIZES[run.size, run.device]
    dtype = getattr(torch, run.precision)
    a, b = (torch.randn(sizes.matrix, sizes.matrix, device=run.at, dtype=dtype) for _ in range(2))
    convolution = nn.Conv2d(sizes.filters, sizes.filters, 3, padding=1).to(run.at, dtype)
    x = torch.randn(sizes.samples, sizes.filters, sizes.side, sizes.side, device=run.at, dtype=dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    source = torch.ones(sizes.copied_mib * 2**18, device=run.at)
    copy = torch.empty_like(source)
    norm, pool = nn.GroupNorm(sizes.filters, sizes.filters).to(run.at, dtype), nn.AvgPool2d(2)
    ways: dict[str, Callable[[int], object]] = {
        "matrix product": lambda k: a @ b,
        "convolution 3 × 3": lambda k: convolution(x),
        "convolution 3 × 3, channels last": lambda k: convolution(last),
        "copy": lambda k: copy.copy_(source),
        "GroupNorm, ReLU, AvgPool2d, forward": lambda k: pool(torch.relu(norm(x))),
    }
    best = {name: min(seconds(times, run)) for name, times in in_turn(ways, run).items()}
    work = 2.0 * 9 * sizes.filters**2 * x.shape[0] * sizes.side**2
    figures = (
        Figure("matrix product", 2.0 * sizes.matrix**3 / best["matrix product"] / GIGA, "GFLOP/s"),
        Figure("convolution 3 × 3", work / best["convolution 3 × 3"] / GIGA, "GFLOP/s"),
        Figure("convolution 3 × 3, channels last", work / best["convolution 3 × 3, channels last"] / GIGA, "GFLOP/s"),
        Figure("copy, read and written", 2.0 * source.numel() * 4 / best["copy"] / GIGA, "GB/s"),
        Figure(
            "GroupNorm, ReLU, AvgPool2d, forward: share of the convolution's time",
            best["GroupNorm, ReLU, AvgPool2d, forward"] / best["convolution 3 × 3"],
            "",
        ),
    )
    return Report("The hardware's limits", figures)


def limit(run: Run) -> float:
    """GFLOP/s of the fastest of the products and convolutions, in float32."""
    found = measure(replace(run, rounds=5, precision="float32"))
    return max(figure.value for figure in found.figures if figure.unit == "GFLOP/s")


if __name__ == "__main__":
    main(measure, __doc__)
