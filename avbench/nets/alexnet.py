"""AlexNet: Krizhevsky et al. 2012, without dropout and hidden linear layers, as the field evaluates with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.nets.layers import Stacked
from avbench.options import option

#: From this side on the original stem is used: convolution 11 × 11 by 4, overlapping pooling.
LARGE_FROM = 64
_SMALLEST = 8
_OUT = 192


@dataclass(frozen=True)
class AlexNetConfig:
    """Options of ``alexnet``."""

    stem: Literal["auto", "large", "small"] = option(
        "auto",
        f"large: 11 × 11 by 4 and pooling 3 by 2, as published; small: 5 × 5 by 1; auto: large from {LARGE_FROM}",
    )


class AlexNetArchitecture(Architecture):
    """AlexNet: five convolutions; the last map is averaged onto the dataset's grid."""

    Config = AlexNetConfig
    config: AlexNetConfig

    def build(self, dataset: StoreInfo, modality: str) -> Stacked:
        channels, height, width = dataset.shape(modality)
        smallest = min(height, width)
        large = self.config.stem == "large" or (self.config.stem == "auto" and smallest >= LARGE_FROM)
        needed = LARGE_FROM if large else _SMALLEST
        if smallest < needed:
            raise RequestError(
                f"alexnet with this stem needs at least {needed} × {needed}; {modality!r} of {dataset.name} is "
                f"{height} × {width}."
            )
        window = 3 if large else 2
        layers = nn.Sequential(
            nn.Conv2d(channels, 96, 11, stride=4, padding=2) if large else nn.Conv2d(channels, 96, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(window, 2),
            nn.Conv2d(96, 256, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(window, 2),
            nn.Conv2d(256, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 384, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, _OUT, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(dataset.grid),  # (B, 192, grid height, grid width)
        )
        return Stacked(layers, _OUT * dataset.grid[0] * dataset.grid[1], _OUT)
