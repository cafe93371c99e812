"""Average pooling by 2 on one CPU thread: avbench's two vectorised sums against torch's avg_pool2d.

Command: ``python benchmarks/speed/pooling.py``. Medians of 20 runs, the two alternating, forward and with backward.
Run it as workers run, with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ at 4294967296.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.nets.convnet import Halving

SHAPES = [(32, 16, 36, 60), (32, 16, 32, 32), (256, 16, 36, 60), (4, 128, 112, 112)]


def milliseconds(act: Callable[[], object]) -> float:
    """How long one call takes."""
    began = time.perf_counter()
    act()
    return 1e3 * (time.perf_counter() - began)


def forward_and_backward(pool: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Pool x (B, C, H, W) and send a gradient of ones back."""
    pool(x).sum().backward()  # type: ignore[no-untyped-call]


def main() -> None:
    """Print a line for each input size."""
    torch.set_num_threads(1)
    ways: dict[str, Callable[[Tensor], Tensor]] = {"ours": Halving(), "torch": lambda x: F.avg_pool2d(x, 2)}
    for shape in SHAPES:
        x = torch.randn(shape, requires_grad=True)  # (B, C, H, W)
        times: dict[str, list[float]] = {f"{way} {part}": [] for way in ways for part in ("forward", "both")}
        for _ in range(20):
            for name, pool in ways.items():
                with torch.no_grad():
                    times[f"{name} forward"].append(milliseconds(partial(pool, x)))
                times[f"{name} both"].append(milliseconds(partial(forward_and_backward, pool, x)))
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(shape, "  ".join(f"{name} {value:.2f} ms" for name, value in medians.items()))


if __name__ == "__main__":
    main()
