"""The contract of an architecture plugin, and drawing network weights from a stream."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.plugin import Plugin

_first_order = ContextVar("_first_order", default=False)


@contextmanager
def first_order() -> Iterator[None]:
    """Say of this thread's forward passes in here that their gradients will not be differentiated again.

    A network may then take ways whose second derivative would cost twice (:func:`is_first_order`); its values and
    gradients must be the same up to rounding.
    """
    before = _first_order.set(True)
    try:
        yield
    finally:
        _first_order.reset(before)


def is_first_order() -> bool:
    """Whether this is inside :func:`first_order`: what a network may ask that has a faster way there."""
    return _first_order.get()


class Encoder(nn.Module, ABC):
    """A network from one modality's input to an embedding.

    Attributes:
        embedding_dim: D, the size of the flattened embedding.
        channels: how many feature maps it flattens, each D / channels long; 0 where it has none.
        per_sample: true where a sample's embedding does not depend on the others of its batch (no batch norm).
    """

    embedding_dim: int
    channels: int = 0
    per_sample: bool = True

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, D)."""


class Architecture(Plugin, ABC):
    """Builds the encoder of each modality for a dataset's input sizes."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def build(self, dataset: StoreInfo, modality: str) -> Encoder:
        """An encoder for modality ``"a"`` or ``"v"``; its weights are drawn afterwards.

        Raises:
            RequestError: the architecture does not accept this input size.
        """

    def draw(self, encoder: Encoder, rng: np.random.Generator) -> None:
        """Draw all weights anew, in place, from ``rng``; by default as PyTorch initialises its layers."""
        draw_default(encoder, rng)


def draw_default(network: nn.Module, rng: np.random.Generator) -> None:
    """PyTorch's default initialisation of convolutions, linear layers and norms, from our own stream.

    Convolution and linear weights and biases are U(-1/√fan_in, 1/√fan_in); norms start as the identity.

    Raises:
        RequestError: the network has parameters of another kind of layer.
    """
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        if not own:
            continue
        if isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            for parameter in own:
                _uniform(parameter, bound, rng)
        elif isinstance(module, nn.GroupNorm | nn.LayerNorm | nn.modules.batchnorm._BatchNorm):
            module.reset_parameters()
        else:
            raise RequestError(
                f"{type(module).__name__} has parameters of its own: its architecture must override Architecture.draw."
            )


def _uniform(parameter: Tensor, bound: float, rng: np.random.Generator) -> None:
    values = rng.random(parameter.numel(), dtype=np.float32)
    values *= np.float32(2 * bound)
    values -= np.float32(bound)
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(values).view(parameter.shape))
