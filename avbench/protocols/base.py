"""The contract of a protocol plugin: how a distilled set is judged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from avbench.data.samples import Samples, TestSet
from avbench.data.store import StoreInfo
from avbench.nets.base import Architecture
from avbench.nets.fusion import Fusion
from avbench.plugin import Plugin
from avbench.prerequisite import Product
from avbench.randomness import Streams
from avbench.work import Work

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation is given.

    Attributes:
        samples: the training samples that come out of the distilled set.
        test: the test split.
        networks: how many networks to train, each from its own initialisation.
        recall, keep: look up and store the trained weights of network i; used where the set is the whole data.
    """

    dataset: StoreInfo
    samples: Samples
    test: TestSet
    modality: str
    architecture: Architecture
    fusion: Fusion
    streams: Streams
    networks: int
    device: torch.device
    dtype: torch.dtype
    micro_batch: int
    recall: Callable[[int], Weights | None] = lambda _: None
    keep: Callable[[int, Weights], None] = lambda _index, _weights: None


class Evaluation(Work, ABC):
    """An evaluation in progress."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """After the last step: ``{"networks": [{"index": i, metric: {modality: value}}, …]}``."""


class Protocol(Plugin, ABC):
    """Given a distilled set's samples and a dataset, yields metrics.

    Class attributes:
        primary: the metric that a board shows and ranks by; the higher the better, from 0 to 1.
    """

    primary: ClassVar[str] = "accuracy"

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def evaluation(self, context: EvaluationContext) -> Evaluation:
        """Start judging."""

    @abstractmethod
    def train_on(
        self,
        samples: Samples,
        *,
        index: int,
        modality: str,
        dataset: StoreInfo,
        architecture: Architecture,
        fusion: Fusion,
        streams: Streams,
        device: torch.device,
        dtype: torch.dtype,
    ) -> Product:
        """Start training network ``index`` on ``samples``, as an evaluation would."""
