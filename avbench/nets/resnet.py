"""ResNet18: He et al. 2016, with the small stem that the field uses below 64 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.nets.layers import Norm, Stacked, normalisation
from avbench.options import option

LARGE_FROM = 64
_SMALLEST = 9
_WIDTHS = (64, 128, 256, 512)


@dataclass(frozen=True)
class ResNetConfig:
    """Options of ``resnet18``."""

    norm: Literal["instance", "batch", "none"] = option(
        "instance", "normalisation after each convolution; instance is what the field evaluates with"
    )
    stem: Literal["auto", "large", "small"] = option(
        "auto", f"large: 7 × 7 by 2 and pooling by 2, as published; small: 3 × 3 by 1; auto: large from {LARGE_FROM}"
    )


class Block(nn.Module):
    """Two 3 × 3 convolutions beside an identity, or beside a 1 × 1 convolution where the shape changes."""

    def __init__(self, channels: int, filters: int, stride: int, norm: Norm) -> None:
        super().__init__()
        bias = norm == "none"
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=bias),
            *normalisation(norm, filters),
            nn.ReLU(),
            nn.Conv2d(filters, filters, 3, padding=1, bias=bias),
            *normalisation(norm, filters),
        )
        self.beside: nn.Module = nn.Identity()
        if stride > 1 or channels != filters:
            self.beside = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride=stride, bias=bias), *normalisation(norm, filters)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.beside(x))  # (B, filters, H/stride, W/stride)


class ResNet18Architecture(Architecture):
    """ResNet18: eight residual blocks, averaged to a 512-d embedding."""

    Config = ResNetConfig
    config: ResNetConfig

    def build(self, dataset: StoreInfo, modality: str) -> Stacked:
        channels, height, width = dataset.shape(modality)
        smallest, norm = min(height, width), self.config.norm
        large = self.config.stem == "large" or (self.config.stem == "auto" and smallest >= LARGE_FROM)
        needed = 4 * _SMALLEST if large else _SMALLEST  # the last map must keep more than one pixel to normalise by
        if smallest < needed:
            raise RequestError(
                f"resnet18 with this stem needs at least {needed} × {needed}; {modality!r} of {dataset.name} is "
                f"{height} × {width}."
            )
        kernel, stride = (7, 2) if large else (3, 1)
        layers: list[nn.Module] = [
            nn.Conv2d(channels, 64, kernel, stride=stride, padding=kernel // 2, bias=norm == "none"),
            *normalisation(norm, 64),
            nn.ReLU(),
        ]
        if large:
            layers.append(nn.MaxPool2d(3, 2, padding=1))  # (B, 64, H/4, W/4)
        channels = 64
        for stage, filters in enumerate(_WIDTHS):
            for block in range(2):
                layers.append(Block(channels, filters, 2 if stage and not block else 1, norm))
                channels = filters
        layers.append(nn.AdaptiveAvgPool2d(1))  # (B, 512, 1, 1)
        return Stacked(nn.Sequential(*layers), channels, channels, norm)
