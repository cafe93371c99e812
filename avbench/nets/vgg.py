"""VGG11: Simonyan & Zisserman 2015, configuration A, its convolutions only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.nets.layers import Stacked, normalisation
from avbench.options import option

#: Filters of each convolution; 0 stands for max pooling by 2.
_PLAN = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0)
_SMALLEST = 4


@dataclass(frozen=True)
class VGGConfig:
    """Options of ``vgg11``."""

    norm: Literal["instance", "batch", "none"] = option(
        "instance", "normalisation after each convolution; instance is what the field evaluates with"
    )


class VGG11Architecture(Architecture):
    """VGG11: eight convolutions, averaged to a 512-d embedding; pooling stops where a side has become 1."""

    Config = VGGConfig
    config: VGGConfig

    def build(self, dataset: StoreInfo, modality: str) -> Stacked:
        channels, height, width = dataset.shape(modality)
        if min(height, width) < _SMALLEST:
            raise RequestError(
                f"vgg11 needs at least {_SMALLEST} × {_SMALLEST}; {modality!r} of {dataset.name} is {height} × {width}."
            )
        layers: list[nn.Module] = []
        sides = (height, width)
        for filters in _PLAN:
            if filters:
                layers.append(nn.Conv2d(channels, filters, 3, padding=1))
                # A map of one pixel has no spread of its own to normalise by.
                if self.config.norm == "batch" or max(sides) > 1:
                    layers += normalisation(self.config.norm, filters)
                layers.append(nn.ReLU())
                channels = filters
                continue
            by = tuple(2 if side > 1 else 1 for side in sides)
            layers.append(nn.MaxPool2d(by, by))
            sides = (max(1, sides[0] // 2), max(1, sides[1] // 2))
        layers.append(nn.AdaptiveAvgPool2d(1))  # (B, 512, 1, 1)
        return Stacked(nn.Sequential(*layers), channels, channels, self.config.norm)
