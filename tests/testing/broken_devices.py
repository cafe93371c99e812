"""Plugins that work on the processor and not on another device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from broken_methods import Means
from broken_others import Brief, Flat, FlatEncoder, Mean, MeanHead
from torch import Tensor
from torch.nn import functional as F

from avbench.api import LearnedSet, State
from avbench.protocols.recognition import RecognitionEvaluation


class Homebound(Means):
    """Noise on the processor, wherever the items are."""

    def noise(self, name: str, k: int) -> Tensor:
        return super().noise(name, k).cpu()


class Returning(Means):
    """Items that end on the processor."""

    def distilled(self) -> LearnedSet:
        made = super().distilled()
        return replace(made, items={name: tensor.cpu() for name, tensor in made.items.items()})


class Unpacked(Means):
    """Reads its items with numpy."""

    def step(self, k: int) -> Mapping[str, float]:
        super().step(k)
        return {"size": float(sum(np.abs(x.numpy()).sum() for x in self.items.values()))}


class Backpacking(Means):
    """Remembers its momentum on the processor."""

    def state(self) -> State:
        return {**super().state(), "velocity": {name: x.cpu() for name, x in self.velocity.items()}}


class Unlike(Means):
    """Goes another way on another device."""

    def noise(self, name: str, k: int) -> Tensor:
        return super().noise(name, k) * (1.0 if self.context.device.type == "cpu" else 2.0)


class Vanishing(Means):
    """Items that are no numbers on another device."""

    def distilled(self) -> LearnedSet:
        made = super().distilled()
        here = self.context.device.type == "cpu"
        return made if here else replace(made, items={name: tensor * math.nan for name, tensor in made.items.items()})


class RootedEncoder(FlatEncoder):
    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__(shape)
        self.scale = torch.ones(8)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale.to(x.dtype)


class Rooted(Flat):
    """A tensor that is no buffer."""

    encoder = RootedEncoder


class RootedHead(MeanHead):
    def loss(self, embeddings: Mapping[str, Tensor], labels: Tensor) -> Tensor:
        logits = self.logits(embeddings)
        return F.cross_entropy(logits + torch.zeros(logits.shape[1]), labels)


class RootedMean(Mean):
    """A tensor on the processor, wherever the embeddings are."""

    made = RootedHead


class Homely(Brief):
    """Weights its loss on the processor."""

    class judge(RecognitionEvaluation):  # noqa: N801
        def step(self, k: int) -> Mapping[str, float]:
            weight = torch.ones(2) @ torch.ones(2, device=self.context.device)
            return {name: value * float(weight) / 2 for name, value in super().step(k).items()}


#: By the check that must catch it, first, all the checks that fail.
BROKEN: list[tuple[Any, tuple[str, ...], str]] = [
    (Homebound, ("device",), "beside"),
    (Returning, ("device",), "items on the processor"),
    (Unpacked, ("device",), "numpy"),
    (Backpacking, ("device",), "beside"),
    (Unlike, ("device",), "as on the processor"),
    (Vanishing, ("device",), "finite on one of them alone"),
    (Rooted, ("moves",), "beside"),
    (RootedMean, ("moves",), "beside"),
    (Homely, ("device",), "beside"),
]
