"""Fusions: how the embeddings of both modalities become class predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nets.base import draw_default
from avbench.plugin import Plugin

#: Standard deviation of the heads' initial weights (AVDD's code).
HEAD_STD = 1e-4


@dataclass(frozen=True)
class Embedding:
    """How large a modality's embedding is: ``dim`` numbers, which flatten ``channels`` feature maps."""

    dim: int
    channels: int


class FusionHead(nn.Module, ABC):
    """The trainable part of a fusion. ``embeddings`` maps ``"a"`` and/or ``"v"`` to (B, D)."""

    @abstractmethod
    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        """The scalar training loss; ``labels`` (B,) are class indices."""

    @abstractmethod
    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Class probabilities (B, C) of each modality that this fusion can score: ``"a"``, ``"v"``, ``"av"``."""

    def own(self, modality: str) -> list[nn.Parameter]:
        """The parameters that serve one modality alone; none where the head joins them."""
        return []


class Fusion(Plugin, ABC):
    """Builds the head for given embedding sizes; those of the two modalities need not agree."""

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> FusionHead:
        """A head for the embeddings of one or both modalities."""

    def draw(self, head: FusionHead, stream: Callable[[str], np.random.Generator]) -> None:
        """Draw the head's weights, each child module's from the stream of its name.

        The child ``head`` is the classifier; others, such as projections, start as PyTorch's layers do.
        """
        for name, part in head.named_children():
            (draw_head if name == "head" else draw_default)(part, stream(name))


def draw_head(module: nn.Module, rng: np.random.Generator) -> None:
    """Linear weights N(0, 1e-4²), biases as PyTorch draws them."""
    draw_default(module, rng)
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            values = rng.standard_normal(layer.weight.numel(), dtype=np.float32) * np.float32(HEAD_STD)
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(values).view(layer.weight.shape))


class EnsembleHead(FusionHead):
    """One linear classifier per modality; trained by CE_a + CE_v, fused by the mean of both softmaxes."""

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(each.dim, classes) for name, each in embeddings.items()})

    def own(self, modality: str) -> list[nn.Parameter]:
        return list(self.heads[modality].parameters())

    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        losses = [F.cross_entropy(self.heads[name](z), labels) for name, z in embeddings.items()]
        return torch.stack(losses).sum()

    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: self.heads[name](z).softmax(dim=1) for name, z in embeddings.items()}  # (B, C)
        if len(found) == 2:
            found["av"] = (found["a"] + found["v"]) / 2
        return found


class Ensemble(Fusion):
    """A classifier per modality, predictions averaged (AVDD, appendix D)."""

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> EnsembleHead:
        return EnsembleHead(embeddings, classes)

    def draw(self, head: FusionHead, stream: Callable[[str], np.random.Generator]) -> None:
        """A modality's classifier starts alike whether or not the other modality is there."""
        assert isinstance(head, EnsembleHead)
        for name, linear in head.heads.items():
            draw_head(linear, stream(name))
