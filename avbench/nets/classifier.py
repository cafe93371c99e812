"""A classifier of one modality, an encoder and a linear layer, called with parameters from outside.

Gradient and trajectory matching differentiate through gradients and through training, so the parameters are plain
tensors: by name (:data:`Parameters`) or as one flat vector (P,), never hidden state of the module.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from avbench.data.store import StoreInfo
from avbench.nets.base import Architecture, draw_default
from avbench.randomness import Streams

#: Parameters by name, in the order of the module's own.
Parameters = dict[str, Tensor]


class Classifier(nn.Module):
    """Encoder → linear layer, one output a class.

    The linear layer starts as PyTorch's default has it, as in the published code of DC, DSA and MTT. With the heads
    of the evaluation (weights of 1e-4) the encoder's gradients would vanish beside the ε of DC's cosine distance.
    """

    def __init__(self, architecture: Architecture, dataset: StoreInfo, modality: str) -> None:
        super().__init__()
        self._architecture, self.modality = architecture, modality
        self.encoder = architecture.build(dataset, modality)
        self.head = nn.Linear(self.encoder.embedding_dim, len(dataset.classes))
        self._shapes = {name: tuple(p.shape) for name, p in self.named_parameters()}

    @property
    def per_sample(self) -> bool:
        """Whether a sample's output depends on it alone (no batch norm)."""
        return self.encoder.per_sample

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, height, width) → logits (B, classes)."""
        return cast(Tensor, self.head(self.encoder(x)))

    def draw(self, streams: Streams, purpose: str, step: int) -> Parameters:
        """Fresh parameters; they depend on the run seed, the purpose, the step and the modality alone.

        The encoder's come from the stream ``"{purpose} {modality}"``, so distribution matching and gradient matching
        meet the same encoders under one purpose.
        """
        self._architecture.draw(self.encoder, streams(f"{purpose} {self.modality}", step=step))
        draw_default(self.head, streams(f"{purpose} head {self.modality}", step=step))
        return {name: p.detach().clone() for name, p in self.named_parameters()}

    def logits(self, parameters: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """(B, channels, height, width) → (B, classes), differentiable in both arguments as often as one likes."""
        return cast(Tensor, functional_call(self, dict(parameters), (x,)))

    def flatten(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Parameters by name → one vector (P,)."""
        return torch.cat([parameters[name].reshape(-1) for name in self._shapes])

    def unflatten(self, flat: Tensor) -> Parameters:
        """One vector (P,) → parameters by name: views of it, so gradients flow back."""
        sizes = [torch.Size(shape).numel() for shape in self._shapes.values()]
        parts = torch.split(flat, sizes)
        return {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
