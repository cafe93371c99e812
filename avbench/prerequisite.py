"""What a method needs built before it starts, such as a network trained on the whole data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from avbench.data.samples import TrainSet
from avbench.jobs import DEPENDENCIES
from avbench.nets.base import Architecture
from avbench.nets.fusion import Fusion
from avbench.randomness import Streams
from avbench.work import Work

if TYPE_CHECKING:
    from avbench.protocols.base import Protocol

#: The seed of the streams of a prerequisite that all run seeds share; no run has it.
SHARED_SEED = -1


@dataclass(frozen=True)
class PrerequisiteContext:
    """What building a prerequisite is given; ``protocol`` and ``fusion`` are the preset's defaults.

    What the prerequisite does not depend on is withheld: ``modality`` is ``""`` then, ``protocol`` and ``fusion``
    refuse to be used, and ``streams`` are those of :data:`SHARED_SEED`.
    """

    train: TrainSet
    modality: str
    streams: Streams
    architecture: Architecture
    protocol: Protocol
    fusion: Fusion
    device: torch.device
    dtype: torch.dtype
    micro_batch: int


class Product(Work, ABC):
    """The work of building a prerequisite, and the tensors it ends with."""

    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """What is handed to the methods that require it."""


@dataclass(frozen=True)
class Prerequisite(ABC):
    """A frozen dataclass: its fields, with the dataset and what it depends on, are its identity.

    Two cells that require equal prerequisites share one.

    Class attributes:
        kind, version: part of the identity; raise the version when results change.
        depends_on: what else of a cell it is built from, out of :data:`avbench.jobs.DEPENDENCIES`. What is left
            out it is shared over: without ``"seed"`` all seeds use one, and so on. Dataset and precision always count.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    depends_on: ClassVar[frozenset[str]] = DEPENDENCIES

    @abstractmethod
    def build(self, context: PrerequisiteContext) -> Product:
        """Start building it."""

    def identity(self) -> dict[str, Any]:
        """What its key is made of, besides the context."""
        return {"kind": self.kind, "version": self.version, **asdict(self)}


@dataclass(frozen=True)
class TrainedNetwork(Prerequisite):
    """A network trained on the whole training split, as the protocol trains its evaluation network ``index``.

    Its tensors are named ``a.…``, ``v.…`` (encoders) and ``head.…``. The method ``whole`` evaluates these very
    networks, so each is trained once.
    """

    index: int = 0

    kind = "trained-network"

    def build(self, context: PrerequisiteContext) -> Product:
        return context.protocol.train_on(
            context.train,
            index=self.index,
            modality=context.modality,
            dataset=context.train.info,
            architecture=context.architecture,
            fusion=context.fusion,
            streams=context.streams,
            device=context.device,
            dtype=context.dtype,
        )
