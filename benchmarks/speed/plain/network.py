"""ConvNet of plain torch layers (AVDD, appendix C), with the classifier that distribution matching never uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from avbench.api import StoreInfo


@dataclass(frozen=True)
class Form:
    """The sizes of one modality's network.

    Attributes:
        shape: (channels, height, width) of a sample.
        grid: what the last pooling gives.
        first_padding: of the first convolution; 3 for audio, as published.
        head_std: standard deviation of the classifier's weights; ``None``: as torch draws them.
    """

    shape: tuple[int, int, int]
    width: int
    depth: int
    grid: tuple[int, int]
    classes: int
    first_padding: int = 1
    head_std: float | None = None


def form_of(info: StoreInfo, modality: str, width: int, head_std: float | None = None) -> Form:
    """The published form of a modality's network for a dataset."""
    padding = 3 if modality == "a" else 1
    classes = len(info.classes)
    return Form(info.shape(modality), width, info.depth(modality), info.grid, classes, padding, head_std)


class PlainNetwork(nn.Module):
    """Blocks of Conv2d, GroupNorm with a group per channel, ReLU and AvgPool2d, then a Linear.

    Shape:
        input (B, channels, height, width); :meth:`embed` (B, D), :meth:`forward` (B, classes).
    """

    def __init__(self, form: Form) -> None:
        super().__init__()
        channels, height, width = form.shape
        layers: list[nn.Module] = []
        for block in range(form.depth):
            padding = form.first_padding if block == 0 else 1
            height, width = (height + 2 * padding - 2) // 2, (width + 2 * padding - 2) // 2
            layers += [
                nn.Conv2d(channels, form.width, 3, padding=padding),
                nn.GroupNorm(form.width, form.width),
                nn.ReLU(),
            ]
            last = block == form.depth - 1 and (height, width) != form.grid
            layers.append(nn.AdaptiveAvgPool2d(form.grid) if last else nn.AvgPool2d(2))
            channels = form.width
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(form.width * form.grid[0] * form.grid[1], form.classes)
        if form.head_std is not None:
            nn.init.normal_(self.classifier.weight, std=form.head_std)

    def embed(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, D)."""
        return cast(Tensor, self.features(x)).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, classes)."""
        return cast(Tensor, self.classifier(self.embed(x)))

    @torch.no_grad()
    def copy(self, values: Sequence[Tensor]) -> None:
        """Take over parameters in their order: the blocks', then the classifier's where they are given, too."""
        for own, value in zip(self.parameters(), values, strict=False):
            own.copy_(value)


def forward_flop(form: Form) -> float:
    """Floating-point operations of the convolutions of one sample's forward pass."""
    channels, height, width = form.shape
    total = 0.0
    for block in range(form.depth):
        padding = form.first_padding if block == 0 else 1
        height, width = height + 2 * padding - 2, width + 2 * padding - 2
        total += 2.0 * 9 * channels * form.width * height * width
        channels, height, width = form.width, height // 2, width // 2
    return total


def training_flop(form: Form) -> float:
    """Those of a sample that gives a gradient of the weights: forwards, then as much again twice.

    Each convolution gives gradients of its weights and of its input, the first of its weights alone.
    """
    return 3 * forward_flop(form) - forward_flop(replace(form, depth=1))


def matched_flop(form: Form) -> float:
    """Those of a synthetic sample whose gradient of the weights is differentiated by the sample.

    Beside those of training, the adjoint of a convolution's two gradients takes three more and that of its forward pass
    one; the first has no gradient of its input, whose adjoint takes one of the three.
    """
    return training_flop(form) + 4 * forward_flop(form) - forward_flop(replace(form, depth=1))
