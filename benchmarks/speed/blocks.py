"""From which size on a ConvNet's blocks pay on a CPU: avbench's own passes against the plain layers they stand for.

Command: ``python benchmarks/speed/blocks.py``. One network of 128 filters, frozen, as distribution matching has it, on
8 frames of each size; forward, and forward with the gradient of the frames. *Own*: ``avbench/nets/first_block.py`` and
``fused.py``, whatever their threshold says. *Plain*: the layers one after another. The threshold in ``fused.py`` is of
a sample's first feature map, whose size is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from comparing import Figure, Report, Run, in_turn, main, ratio, seconds_figure
from torch import Tensor

from avbench.api import first_order
from avbench.nets import fused
from avbench.nets.convnet import ConvNet

#: Samples, filters, and the sides of the frames.
SIZES: Mapping[str, tuple[int, int, tuple[int, ...]]] = {
    "paper": (8, 128, (32, 64, 128, 224)),
    "small": (2, 64, (32,)),
}
_DEEPEST = 5


def of_side(side: int, run: Run) -> list[Figure]:
    """Times of both ways on frames of one side, and how many times the plain ones take."""
    samples, width, _ = SIZES[run.size]
    depth = min(_DEEPEST, side.bit_length() - 3)  # 224 → 7 and 32 → 4 pixels a side at the end
    network = ConvNet((3, side, side), width, depth, (side >> depth, side >> depth)).requires_grad_(False)
    x = torch.randn(samples, 3, side, side)

    @torch.no_grad()
    def forward(of: Callable[[Tensor], Tensor]) -> Tensor:
        return of(x)

    def gradient(of: Callable[[Tensor], Tensor]) -> Tensor:
        frames = x.clone().requires_grad_(True)
        with first_order():
            (found,) = torch.autograd.grad(of(frames).square().sum(), frames)
        return found

    def own(frames: Tensor) -> Tensor:
        least, fused._LEAST_BYTES = fused._LEAST_BYTES, 0
        try:
            return network(frames)
        finally:
            fused._LEAST_BYTES = least

    def plain(frames: Tensor) -> Tensor:
        return network.layers(frames).flatten(1)

    name = f"{side} × {side}, {4 * width * side**2 / 2**20:.3g} MiB a map"
    figures = [Figure(f"{name}: largest difference", float((forward(own) - forward(plain)).abs().max()), "")]
    for what, act in (("forward", forward), ("with gradient", gradient)):
        times = in_turn({"own": lambda k, act=act: act(own), "plain": lambda k, act=act: act(plain)}, run)
        figures += [seconds_figure(f"{name}, {what}: {way}", times[way], run) for way in times]
        figures.append(ratio(f"{name}, {what}: plain / own", times["plain"], times["own"], run))
    return figures


def measure(run: Run) -> Report:
    """All sizes."""
    found = [figure for side in SIZES[run.size][2] for figure in of_side(side, run)]
    return Report("Blocks of a ConvNet on a CPU", tuple(found))


if __name__ == "__main__":
    main(measure, __doc__)
