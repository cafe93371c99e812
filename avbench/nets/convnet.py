"""ConvNet: the field's standard small network, for both modalities and any input size.

Blocks of conv 3×3 → GroupNorm with one group per channel → ReLU → average pooling by 2 (DC, arXiv:2006.05929;
AVDD, appendix C). At the paper's sizes: 297,216 parameters for audio, 595,200 for visual, 6272-d embeddings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.nets.base import Architecture, Encoder, is_first_order
from avbench.nets.first_block import first_block, suits_first
from avbench.nets.fused import is_large, norm_relu_pool, suits
from avbench.options import option, sourced
from avbench.plugin import Setting

#: Below, GroupNorm of channels-last maps is ten to eighty times as slow as of others, with one channel a group.
_LEAST_PIXELS = 1024
_Block = tuple[nn.Conv2d, nn.GroupNorm, nn.ReLU, nn.Module]


@dataclass(frozen=True)
class ConvNetConfig:
    """Options of ``convnet``."""

    width: int = option(128, "filters per convolution")
    visual_depth: int | None = option(None, "blocks of the visual network; none: the dataset's")
    audio_depth: int | None = option(None, "blocks of the audio network; none: the dataset's")

    def __post_init__(self) -> None:
        if self.width < 1 or any(d is not None and d < 1 for d in (self.visual_depth, self.audio_depth)):
            raise ValueError("width and depths must be at least 1")


class Halving(nn.Module):
    """Average pooling by 2; an odd last row or column is dropped."""

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return F.avg_pool2d(x, 2)
        # Two vectorised sums: on a CPU 5 times as fast as avg_pool2d, with the backward twice (benchmarks/speed).
        height, width = x.shape[-2] // 2 * 2, x.shape[-1] // 2 * 2
        rows = x[..., 0:height:2, :] + x[..., 1:height:2, :]  # (B, C, H/2, W)
        return (rows[..., 0:width:2] + rows[..., 1:width:2]) * 0.25  # (B, C, H/2, W/2)


class ConvNet(Encoder):
    """Stacked blocks whose last pooling meets the dataset's grid; adaptive where pooling by 2 would miss it.

    Shape:
        input (B, channels, height, width), output (B, width · grid height · grid width).
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        width: int,
        depth: int,
        grid: tuple[int, int],
        first_padding: int = 1,
    ) -> None:
        super().__init__()
        channels, height, column_count = shape
        layers: list[nn.Module] = []
        for block in range(depth):
            padding = first_padding if block == 0 else 1
            layers += [
                nn.Conv2d(channels, width, 3, padding=padding),
                nn.GroupNorm(width, width),
                nn.ReLU(),
            ]
            height, column_count = height + 2 * (padding - 1), column_count + 2 * (padding - 1)
            halved = (height // 2, column_count // 2)
            if block == depth - 1 and halved != grid:
                layers.append(nn.AdaptiveAvgPool2d(grid))
            else:
                layers.append(Halving())
            channels, (height, column_count) = width, halved
            if min(halved) < 1:
                raise RequestError(f"convnet: {depth} blocks do not fit an input of {shape}; lower the depth.")
        self.layers = nn.Sequential(*layers)
        self.embedding_dim = width * grid[0] * grid[1]
        self.channels = width

    def forward(self, x: Tensor) -> Tensor:
        # Where weights learn, nothing that is promised rests on a single sample's bits. Where their gradient may be
        # differentiated again, a pass of our own would cost twice.
        learns = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if x.shape[0] == 1 and not learns:
            # PyTorch convolves a single small sample by other kernels, with other bits: send it twice.
            return self.forward(x.expand(2, -1, -1, -1))[:1]
        if is_large(x, self.channels) and (is_first_order() or not learns):
            return self._blocks(x).flatten(1)  # (B, D)
        pooled: Tensor = self.layers(x)  # (B, width, grid height, grid width)
        return pooled.flatten(1)  # (B, D)

    def _blocks(self, x: Tensor) -> Tensor:
        """What ``layers`` give, a block at a time and channels-last where that is faster."""
        blocks = cast(Sequence[_Block], [self.layers[i : i + 4] for i in range(0, len(self.layers), 4)])
        if all(suits(norm.weight, norm.bias) for _, norm, _, _ in blocks):
            x = x.contiguous(memory_format=torch.channels_last)
            for number, (convolution, norm, relu, pool) in enumerate(blocks):
                if number == 0 and isinstance(pool, Halving) and suits_first(x, convolution, norm):
                    x = first_block(x, convolution, norm)  # (B, width, H/2, W/2)
                    continue
                x = convolution(x)  # (B, width, H, W)
                if isinstance(pool, Halving) and x.shape[-2] * x.shape[-1] >= _LEAST_PIXELS:
                    x = norm_relu_pool(x, norm.weight, norm.bias, norm.eps)  # (B, width, H/2, W/2)
                else:
                    x = pool(relu(norm(x.contiguous())))  # (B, width, H/2, W/2), at last the grid
            return x.contiguous()
        pooled: Tensor = self.layers(x)
        return pooled


class ConvNetArchitecture(Architecture):
    """ConvNet with instance normalisation, the field's standard small network."""

    Config = ConvNetConfig
    config: ConvNetConfig

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        return sourced("preset quick", width=16) if setting.preset == "quick" else {}

    def build(self, dataset: StoreInfo, modality: str) -> ConvNet:
        own = self.config.audio_depth if modality == "a" else self.config.visual_depth
        return ConvNet(
            dataset.shape(modality),
            self.config.width,
            own or dataset.depth(modality),
            dataset.grid,
            # The published audio network pads its first convolution by 3.
            first_padding=3 if modality == "a" else 1,
        )
