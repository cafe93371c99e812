"""The network that a protocol trains: an encoder per modality and a fusion head, drawn from the run's streams."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from avbench.data.store import StoreInfo
from avbench.nets.base import Architecture
from avbench.nets.fusion import Embedding, Fusion
from avbench.protocols.base import Weights
from avbench.randomness import Streams


class Network:
    """Encoders and a fusion head, drawn from the run's streams.

    Weights of network ``index`` depend on the run seed, the index and the modality's name alone.
    """

    def __init__(
        self,
        dataset: StoreInfo,
        modality: str,
        architecture: Architecture,
        fusion: Fusion,
        streams: Streams,
        index: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.encoders = {name: architecture.build(dataset, name) for name in modality}
        sizes = {name: Embedding(e.embedding_dim, e.channels or e.embedding_dim) for name, e in self.encoders.items()}
        self.head = fusion.build(sizes, len(dataset.classes))
        for name, encoder in self.encoders.items():
            architecture.draw(encoder, streams(f"evaluation encoder {name}", step=index))
        fusion.draw(self.head, lambda part: streams(f"evaluation head {part}", step=index))
        for module in (*self.encoders.values(), self.head):
            module.to(device, dtype)

    @property
    def per_sample(self) -> bool:
        return all(encoder.per_sample for encoder in self.encoders.values())

    def embed(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By modality (B, channels, height, width) → (B, D)."""
        return {name: encoder(batch[name]) for name, encoder in self.encoders.items()}

    def train(self, on: bool) -> None:
        for module in (*self.encoders.values(), self.head):
            module.train(on)

    def weights(self) -> dict[str, Tensor]:
        parts = {**self.encoders, "head": self.head}
        return {f"{part}.{k}": t for part, m in parts.items() for k, t in m.state_dict().items()}

    def load_weights(self, weights: Weights) -> None:
        for part, module in {**self.encoders, "head": self.head}.items():
            prefix = f"{part}."
            module.load_state_dict({k.removeprefix(prefix): t for k, t in weights.items() if k.startswith(prefix)})

    def start_from(self, weights: Weights) -> str:
        """Put given weights into the encoders; the head stays as drawn, since classes differ.

        Returns:
            The letters of the modalities that the weights are of.
        """
        started = ""
        for name, encoder in self.encoders.items():
            own = {k.removeprefix(f"{name}."): t for k, t in weights.items() if k.startswith(f"{name}.")}
            if own:
                encoder.load_state_dict(own)
                started += name
        return started
