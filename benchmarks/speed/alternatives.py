"""What was tried for a large ConvNet on a CPU and not kept: torch.compile, and Winograd's convolution of products.

Command: ``python benchmarks/speed/alternatives.py``; needs a C++ compiler, for torch.compile. The frames' network of
the paper, 128 wide, on 8 frames of 224 × 224, its weights frozen as distribution matching has them.

*Compiled*: plain layers, channels-last, as one graph by torch.compile; the seconds of compiling are told, and count in
no ratio. *Winograd*: F(4 × 4, 3 × 3) of Lavin and Gray (CVPR 2016, arXiv:1509.09308), a quarter of the
multiplications: its transforms are products with Kronecker products of Bᵀ and Aᵀ, between them a batched product over
the 36 places of a tile, a sample at a time. Its error is that against float64, beside that of PyTorch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from comparing import Figure, Report, Run, in_turn, main, ratio
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nets.convnet import ConvNet

#: Samples, side of the frames, filters, depth, and the sides of the maps that Winograd's convolution is tried on.
SIZES: Mapping[str, tuple[int, int, int, int, tuple[int, ...]]] = {
    "paper": (8, 224, 128, 5, (112, 56, 28)),
    "small": (2, 32, 8, 2, (16,)),
}
_B = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
      (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))  # fmt: skip
_A = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
_G = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
      (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip


class Layers(nn.Module):
    """The blocks of a ConvNet as plain functions, channels-last, for the compiler to join as it likes."""

    def __init__(self, network: ConvNet) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        layers = list(self.network.layers)
        for convolution, norm in zip(layers[0::4], layers[1::4], strict=True):
            y = convolution(x)  # (B, width, H, W)
            variance, mean = torch.var_mean(y, (2, 3), correction=0, keepdim=True)  # (B, width, 1, 1)
            scale = torch.rsqrt(variance + norm.eps) * norm.weight[:, None, None]
            x = F.avg_pool2d(F.relu((y - mean) * scale + norm.bias[:, None, None]), 2)  # (B, width, H/2, W/2)
        return x.flatten(1)


def winograd_filters(weight: Tensor) -> Tensor:
    """U = G·g·Gᵀ (36, channels in, channels out) of g (out, in, 3, 3)."""
    G = torch.tensor(_G, dtype=torch.float64)
    return torch.einsum("ij,ocjk,lk->ilco", G, weight.double(), G).flatten(0, 1).to(weight.dtype).contiguous()


def winograd(x: Tensor, filters: Tensor) -> Tensor:
    """Convolution 3 × 3 with padding 1 of x (B, H, W, C), H and W multiples of 4, in tiles of 4 × 4."""
    batch, height, width, channels = x.shape
    down, across = height // 4, width // 4
    to_tile, from_tile = (torch.kron(m, m).to(x.dtype) for m in (torch.tensor(_B), torch.tensor(_A)))
    result = x.new_empty(batch, height, width, filters.shape[2])
    for i in range(batch):
        p = F.pad(x[i], (0, 0, 1, 1, 1, 1))  # (H + 2, W + 2, C)
        row, column, _ = p.stride()
        tiles = p.as_strided((6, 6, down, across, channels), (row, column, 4 * row, 4 * column, 1)).reshape(36, -1)
        V = torch.mm(to_tile, tiles).view(36, down * across, channels)
        M = torch.bmm(V, filters).view(36, -1)
        Y = torch.mm(from_tile, M).view(4, 4, down, across, -1)
        result[i] = Y.permute(2, 0, 3, 1, 4).reshape(height, width, -1)
    return result


def compiled(run: Run) -> tuple[list[Figure], str]:
    """A forward pass, and one with the gradient of the frames, against avbench's."""
    samples, side, width, depth, _ = SIZES[run.size]
    x, halved = torch.randn(samples, 3, side, side), side >> depth
    ours = ConvNet((3, side, side), width, depth, (halved, halved)).requires_grad_(False)
    theirs = ConvNet((3, side, side), width, depth, (halved, halved)).requires_grad_(False)
    theirs.load_state_dict(ours.state_dict())
    began = time.perf_counter()
    joined: Callable[[Tensor], Tensor] = torch.compile(Layers(theirs))

    @torch.no_grad()
    def forward(network: Callable[[Tensor], Tensor]) -> Tensor:
        return network(x)

    def gradient(network: Callable[[Tensor], Tensor]) -> Tensor:
        frames = x.clone().requires_grad_(True)
        (found,) = torch.autograd.grad(network(frames).square().sum(), frames)
        return found

    figures = [Figure("compiled: embeddings apart", float((forward(joined) - forward(ours)).abs().max()), "")]
    gradient(joined)
    compiling_s = time.perf_counter() - began
    for what, act in (("forward", forward), ("forward and gradient", gradient)):
        times = in_turn({"avbench": lambda k, act=act: act(ours), "compiled": lambda k, act=act: act(joined)}, run)
        figures.append(ratio(f"{what}: avbench / compiled", times["avbench"], times["compiled"], run))
    return figures, f"Compiling both took {compiling_s:.0f} s, in every worker."


@torch.no_grad()
def by_tiles(side: int, run: Run) -> list[Figure]:
    """PyTorch's convolution, channels-last, against Winograd's, on maps of one side."""
    samples, _, width, _, _ = SIZES[run.size]
    x, weight = torch.randn(samples, side, side, width), torch.randn(width, width, 3, 3) * 0.05
    last, filters = weight.contiguous(memory_format=torch.channels_last), winograd_filters(weight)

    def direct() -> Tensor:
        return F.conv2d(x.permute(0, 3, 1, 2), last, padding=1).permute(0, 2, 3, 1)

    exact = F.conv2d(x.permute(0, 3, 1, 2).double(), weight.double(), padding=1).permute(0, 2, 3, 1)
    times = in_turn({"direct": lambda k: direct(), "winograd": lambda k: winograd(x, filters)}, run)
    errors = {name: float((y - exact).norm() / exact.norm()) for name, y in
              (("direct", direct()), ("winograd", winograd(x, filters)))}  # fmt: skip
    return [
        ratio(f"{side} × {side}: direct / winograd", times["direct"], times["winograd"], run),
        *(Figure(f"{side} × {side}: error of {name}", error, "") for name, error in errors.items()),
    ]


def measure(run: Run) -> Report:
    """All that was tried."""
    figures, note = compiled(run)
    for side in SIZES[run.size][-1]:
        figures += by_tiles(side, run)
    return Report("Tried for large ConvNets on a CPU", tuple(figures), (note,))


if __name__ == "__main__":
    main(measure, __doc__)
