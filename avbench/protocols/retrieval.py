"""Retrieval: sounds found by pictures and pictures by sounds, by class (AVDD, section 4.2 and appendix E).

Audio and visual encoder are trained on the distilled set with one shared classifier and ArcFace's margin loss
(Deng et al., CVPR 2019, arXiv:1801.07698), an audio batch and a visual batch in turn. On test pairs drawn once a
class, each embedding of one modality ranks all embeddings of the other by cosine similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import cos, sin
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.data.samples import Rows, StoreSplit
from avbench.dataset import NoOptions
from avbench.errors import RequestError
from avbench.nets.base import first_order
from avbench.nets.fusion import Embedding, Fusion, FusionHead
from avbench.options import option
from avbench.plugin import Setting
from avbench.protocols.base import EvaluationContext, Metric
from avbench.protocols.network import Network
from avbench.protocols.recognition import (
    QuickConfig,
    Recognition,
    RecognitionConfig,
    RecognitionEvaluation,
    Training,
)
from avbench.randomness import Streams

#: Below this the root of 1 − cos² has no usable gradient.
_TINY = 1e-12


@dataclass(frozen=True)
class RetrievalConfig(RecognitionConfig):
    """Options of ``retrieval``; training is as in ``recognition-code`` but for the loss."""

    scale: float = option(3.0, "s: what cosines are multiplied by (AVDD, appendix E)")
    margin: float = option(0.2, "m: added to the angle of the true class, in radians")
    pairs: int = option(5, "test pairs a class")
    pairs_seed: int = option(0, "seed of their choice: the same pairs for every method and run seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale <= 0 or not 0 <= self.margin < 1 or self.pairs < 1:
            raise ValueError("scale > 0, 0 ≤ margin < 1 and pairs ≥ 1 are required")


@dataclass(frozen=True)
class RetrievalQuickConfig(QuickConfig, RetrievalConfig):
    """Options of ``retrieval-quick``: the settings of ``recognition-quick``."""


def arcface(embeddings: Tensor, classes: Tensor, labels: Tensor, scale: float, margin: float) -> Tensor:
    """ArcFace's loss (AVDD, Eq. 16): the true class must win although its angle counts for more than it is.

    Args:
        embeddings: (B, D). classes: (C, D) class vectors. labels: (B,).
    """
    cosines = F.normalize(embeddings) @ F.normalize(classes).T  # cos θ_j (B, C)
    own = cosines.gather(1, labels[:, None])  # cos θ_y (B, 1)
    sines = (1 - own.square()).clamp_min(_TINY).sqrt()
    with_margin = own * cos(margin) - sines * sin(margin)  # cos(θ_y + m)
    logits = cosines.scatter(1, labels[:, None], with_margin)
    return F.cross_entropy(scale * logits, labels)


class SharedClassifierHead(FusionHead):
    """One vector a class for both modalities; an embedding that is larger than the other's is projected first."""

    def __init__(self, embeddings: Mapping[str, Embedding], classes: int, scale: float, margin: float) -> None:
        super().__init__()
        self.scale, self.margin = scale, margin
        dim = min(each.dim for each in embeddings.values())
        self.projections = nn.ModuleDict(
            {name: nn.Linear(each.dim, dim, bias=False) for name, each in embeddings.items() if each.dim > dim}
        )
        self.classes = nn.Linear(dim, classes, bias=False)  # class vectors; only their directions count

    def common(self, name: str, z: Tensor) -> Tensor:
        """(B, D) of a modality → its place in the common space (B, dim)."""
        found: Tensor = self.projections[name](z) if name in self.projections else z
        return found

    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        losses = [
            arcface(self.common(name, z), self.classes.weight, labels, self.scale, self.margin)
            for name, z in embeddings.items()
        ]
        return torch.stack(losses).sum()

    def predict(self, embeddings: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Directions in the common space (B, dim), not probabilities: what retrieval compares."""
        return {name: F.normalize(self.common(name, z)) for name, z in embeddings.items()}


class SharedClassifier(Fusion):
    """The head of retrieval, in the place of a fusion."""

    def __init__(self, scale: float, margin: float) -> None:
        super().__init__(NoOptions())
        self.scale, self.margin = scale, margin

    def build(self, embeddings: Mapping[str, Embedding], classes: int) -> SharedClassifierHead:
        return SharedClassifierHead(embeddings, classes, self.scale, self.margin)


class RetrievalTraining(Training):
    """An epoch a step; each batch moves the audio encoder, then the visual one."""

    def _update(self, rows: Rows, rng: np.random.Generator) -> float:
        batch = self.samples.batch(rows, "".join(self.network.encoders))  # a (B, 1, mels, frames), v (B, C, H, W)
        transform = self._augmentation.per_sample(rng, len(rows))
        labels = self.samples.labels[torch.from_numpy(rows)]
        total = 0.0
        for name, x in batch.items():
            with first_order():
                z = self.network.encoders[name](transform(x))  # (B, D)
            loss = self.network.head.loss({name: z}, labels.to(z.device))
            self._optimisers.zero_grad()  # to none: what this modality does not touch is not moved
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimisers.step()
            total += float(loss.detach())
        return total


class RetrievalEvaluation(RecognitionEvaluation):
    """All networks, one after the other, on the same test pairs."""

    config: RetrievalConfig

    def __init__(self, config: RetrievalConfig, context: EvaluationContext) -> None:
        super().__init__(config, replace(context, fusion=SharedClassifier(config.scale, config.margin)))
        self._rows = test_pairs(context.test, config.pairs, config.pairs_seed)

    def _train(self, network: Network) -> Training:
        c = self.context
        return RetrievalTraining(self.config, c.samples, network, c.streams, self._index, self._step_size)

    @torch.no_grad()
    def _score(self, network: Network) -> dict[str, dict[str, float]]:
        network.train(False)
        test, step = self.context.test, self.context.micro_batch
        parts = [
            network.head.predict(network.embed(test.batch(self._rows[start : start + step], "av")))
            for start in range(0, len(self._rows), step)
        ]
        a, v = (torch.cat([part[name] for part in parts]).double().cpu() for name in "av")  # (pairs, dim)
        labels = test.labels[torch.from_numpy(self._rows)]
        ranks = {"a→v": class_ranks(a @ v.T, labels), "v→a": class_ranks(v @ a.T, labels)}
        return {
            "R@1": _each(ranks, lambda r: float((r <= 1).double().mean())),
            "R@5": _each(ranks, lambda r: float((r <= 5).double().mean())),
            "median rank": _each(ranks, lambda r: float(np.median(r.numpy()))),
        }

    def result(self) -> dict[str, Any]:
        return {**super().result(), "test_rows": self._rows.tolist()}


def _each(ranks: Mapping[str, Tensor], measure: Callable[[Tensor], float]) -> dict[str, float]:
    return {direction: measure(of) for direction, of in ranks.items()}


def class_ranks(similarity: Tensor, labels: Tensor) -> Tensor:
    """The rank, from 1, at which each query first meets its own class.

    Args:
        similarity: (Q, Q), queries by gallery. labels: (Q,), of both.

    Returns:
        (Q,) ranks. Of equal similarities the other classes' come first: a network that maps all to one point
        finds nothing.
    """
    same = labels[:, None] == labels[None, :]  # (Q, Q)
    best = similarity.masked_fill(~same, -torch.inf).max(dim=1, keepdim=True).values
    return 1 + ((similarity >= best) & ~same).sum(dim=1)


def test_pairs(test: StoreSplit, pairs: int, seed: int) -> Rows:
    """``pairs`` rows of each class of the test split, or all where it has fewer."""
    streams = Streams(seed)
    chosen = []
    for cls in range(len(test.info.classes)):
        rows = test.class_rows(cls)
        chosen.append(np.sort(streams("retrieval test pairs", cls=cls).permutation(rows)[:pairs]))
    return np.concatenate(chosen)


class Retrieval(Recognition):
    """Class-wise retrieval between sounds and pictures (AVDD, appendix E)."""

    Config = RetrievalConfig
    config: RetrievalConfig
    metrics = (Metric("R@1"), Metric("R@5"), Metric("median rank", share=False))

    @classmethod
    def check(cls, config: Any, setting: Setting) -> None:
        if setting.modality != "av":
            raise RequestError(f"retrieval compares both modalities, not {setting.modality!r}: use --modality av.")

    def evaluation(self, context: EvaluationContext) -> RetrievalEvaluation:
        return RetrievalEvaluation(self.config, context)


class RetrievalQuick(Retrieval):
    """Retrieval in minutes on a CPU: at least 150 updates a set; not comparable with the paper."""

    Config = RetrievalQuickConfig
