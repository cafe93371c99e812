"""Fusions whose classifier sees one vector of both modalities (AVDD, appendix D).

They score the pair alone: no part of them says what the sound or the picture would be by itself. Given one modality,
all of them are a linear classifier on it. Parameters at the paper's sizes (C = 10 classes, D = 6272, 128 channels),
beside its Table 10: docs/protocols.md.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.nets.fusion import Embedding, Fusion, FusionHead


class JointHead(FusionHead):
    """A linear classifier on the fused vector; ``head`` is made by :meth:`classify`."""

    head: nn.Linear

    def classify(self, dim: int, classes: int) -> None:
        """Make the classifier for fused vectors of ``dim`` numbers."""
        self.head = nn.Linear(dim, classes)

    @abstractmethod
    def fuse(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """By modality (B, D) → f^av (B, ``dim``)."""

    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.fuse(embeddings)), labels)

    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        scored = "".join(sorted(embeddings))  # "a", "v" or "av"
        return {scored: self.head(self.fuse(embeddings)).softmax(dim=1)}  # (B, C)


class ConcatenationHead(JointHead):
    """f^av = [f^a; f^v]."""

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__()
        self.classify(sum(each.dim for each in embeddings.values()), classes)

    def fuse(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        return torch.cat([embeddings[name] for name in sorted(embeddings)], dim=1)  # (B, D_a + D_v)


class Concatenation(Fusion):
    """Both embeddings side by side, one classifier (AVDD, appendix D)."""

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> ConcatenationHead:
        return ConcatenationHead(embeddings, classes)


class SumHead(JointHead):
    """f^av = f^a + f^v; where their sizes differ the larger is first projected onto the smaller's."""

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__()
        dim = min(each.dim for each in embeddings.values())
        self.projections = nn.ModuleDict(
            {name: nn.Linear(each.dim, dim, bias=False) for name, each in embeddings.items() if each.dim > dim}
        )
        self.classify(dim, classes)

    def fuse(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        parts = [self.projections[name](z) if name in self.projections else z for name, z in embeddings.items()]
        return torch.stack(parts).sum(dim=0)  # (B, D)


class Sum(Fusion):
    """Both embeddings added, one classifier (AVDD, appendix D)."""

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> SumHead:
        return SumHead(embeddings, classes)


class AttentionHead(JointHead):
    """Audio-guided visual attention on pooled features (AVDD, appendix D).

    Score^m = tanh(f^m W^m), w = softmax(Score^a ⊙ Score^v), f^av = tanh(f^a U^a) + tanh((f^v ⊙ w) U^v), with f^m the
    mean of each feature map. On the flattened 6272-d embeddings the four matrices would have 157 million parameters;
    Table 10's count shows that the authors' were 128 wide.
    """

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int) -> None:
        super().__init__()
        self.sizes = dict(embeddings)
        names = sorted(embeddings)
        width = embeddings[names[-1]].channels  # the visual one's where there are both: w weighs its features
        if len(names) == 2:
            for part in "WU":
                layers = {name: nn.Linear(embeddings[name].channels, width) for name in names}
                setattr(self, part, nn.ModuleDict(layers))
        self.classify(width, classes)

    def fuse(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        pooled = {
            name: z.view(len(z), self.sizes[name].channels, -1).mean(dim=2)  # (B, channels)
            for name, z in embeddings.items()
        }
        if len(pooled) == 1:
            return next(iter(pooled.values()))
        W, U = self.get_submodule("W"), self.get_submodule("U")
        assert isinstance(W, nn.ModuleDict) and isinstance(U, nn.ModuleDict)
        scores = [torch.tanh(W[name](f)) for name, f in pooled.items()]  # (B, width) each
        weights = (scores[0] * scores[1]).softmax(dim=1)  # (B, width)
        return torch.tanh(U["a"](pooled["a"])) + torch.tanh(U["v"](pooled["v"] * weights))  # (B, width)


class Attention(Fusion):
    """Audio-guided attention over visual features (AVDD, appendix D)."""

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> AttentionHead:
        return AttentionHead(embeddings, classes)
