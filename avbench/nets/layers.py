"""Pieces that several architectures share: normalisation by name, and an encoder around a stack of layers."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from avbench.nets.base import Encoder

Norm = Literal["instance", "batch", "none"]


def normalisation(norm: Norm, channels: int) -> list[nn.Module]:
    """The layers of a normalisation; ``instance`` is GroupNorm with a group per channel, as in ConvNet."""
    if norm == "none":
        return []
    return [nn.BatchNorm2d(channels) if norm == "batch" else nn.GroupNorm(channels, channels)]


class Stacked(Encoder):
    """Layers in a row, their last feature map flattened.

    Shape:
        input (B, channels, height, width), output (B, embedding_dim).
    """

    def __init__(self, layers: nn.Module, embedding_dim: int, channels: int, norm: Norm = "none") -> None:
        super().__init__()
        self.layers = layers
        self.embedding_dim = embedding_dim
        self.channels = channels
        self.per_sample = norm != "batch"

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.layers(x).flatten(1)  # (B, D)
        return found
