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
from avbench.errors import RequestError
from avbench.nets.base import Architecture
from avbench.nets.fusion import Fusion
from avbench.plugin import Plugin, Setting
from avbench.prerequisite import Product
from avbench.randomness import Streams
from avbench.work import Work

Weights = Mapping[str, Tensor]


def _none_given(key: str) -> Weights:
    raise RequestError(f"there are no given weights {key} here: --init-weights FILE brings them.")


@dataclass(frozen=True)
class EvaluationContext:
    """What an evaluation is given.

    Attributes:
        samples: the training samples that come out of the distilled set.
        test: the test split.
        networks: how many networks to train, each from its own initialisation.
        step_size: by modality, the step size that was learned with the samples; ``None`` where there is none.
        recall, keep: look up and store the trained weights of network i; used where the set is the whole data.
        given: the weights that the user gave for networks to start from, by their key (``a.…``, ``v.…``).
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
    step_size: Mapping[str, float] | None = None
    recall: Callable[[int], Weights | None] = lambda _: None
    keep: Callable[[int, Weights], None] = lambda _index, _weights: None
    given: Callable[[str], Weights] = _none_given


class Evaluation(Work, ABC):
    """An evaluation in progress."""

    @abstractmethod
    def result(self) -> dict[str, Any]:
        """After the last step: ``{"networks": [{"index": i, metric: {modality: value}}, …]}``."""


@dataclass(frozen=True)
class Metric:
    """What a protocol measures. ``share``: from 0 to 1, shown in percent; otherwise a plain number."""

    name: str
    share: bool = True


class Protocol(Plugin, ABC):
    """Given a distilled set's samples and a dataset, yields metrics.

    Class attributes:
        metrics: all that it measures. A board ranks by the first, which is a share: the higher the better.
    """

    metrics: ClassVar[tuple[Metric, ...]] = (Metric("accuracy"),)

    def __init__(self, config: Any) -> None:
        self.config = config

    @classmethod
    def check(cls, config: Any, setting: Setting) -> None:
        """Refuse, with a RequestError, a configuration that cannot work in this setting."""

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
