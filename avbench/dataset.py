"""The contract of a dataset plugin: what it is, and how a user's raw copy becomes a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from avbench.data.store import Store


@dataclass(frozen=True)
class NoOptions:
    """A configuration without options."""


@dataclass(frozen=True)
class PrepareContext:
    """What a preparation is given.

    Attributes:
        data: the folder that holds the stores.
        name: the name under which the store will be known.
        source: the user's file or folder; ``None`` for an embedded dataset.
        progress: call it with (done, total, what) as work goes on.
        workers: how many processes may decode at once.
        strict: whether anything that the source promises and lacks is an error.
    """

    data: Path
    name: str
    source: Path | None
    progress: Callable[[int, int, str], None]
    workers: int = 1
    strict: bool = False


class Dataset(ABC):
    """A dataset plugin. Variants of a dataset are options of its ``Config``, not further plugins.

    Class attributes:
        version: raise it when the samples that ``prepare`` writes change.
        embedded: true where ``prepare`` needs no source, so that ``avbench run`` may call it by itself.
        Config: a frozen dataclass of options, see :mod:`avbench.options`.
    """

    version: ClassVar[int] = 1
    embedded: ClassVar[bool] = False
    Config: ClassVar[type[Any]] = NoOptions

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    def prepare(self, context: PrepareContext) -> Store:
        """Write the store with a :class:`avbench.api.StoreWriter` and return it opened.

        Raises:
            RequestError: the source is absent or is not what this dataset reads.
        """
