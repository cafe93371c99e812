"""A room of the exhibition: one distilled set, what is at hand to show it, what hangs there and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avbench.data.samples import Rows, TestSet, TrainSet
from avbench.data.store import Store, StoreInfo, available, open_store
from avbench.distill.factor import decode
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet
from avbench.errors import AvbenchError
from avbench.randomness import Streams
from avbench.show.style import Picture, save
from avbench.show.subject import Subject, chosen_classes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AbsentError(AvbenchError):
    """Something can't be shown, with the reason; the rest can."""


@dataclass(frozen=True)
class Options:
    """What to show and how.

    Attributes:
        classes: names; none for all (embeddings and retrieval: the first few).
        per_class: the most items of a class in a grid, and sounds of a class.
        networks: what embeddings are taken from: ``"random"``, ``"trained"``.
        seed: of the choice of real samples, random networks, t-SNE and the phases of Griffin-Lim.
        data: the folder of stores.
        dpi: of the PNG files.
    """

    data: Path
    classes: tuple[str, ...] = ()
    per_class: int = 10
    networks: tuple[str, ...] = ("random",)
    seed: int = 0
    device: str = "cpu"
    dpi: int = 200


@dataclass(frozen=True)
class Clip:
    """A sound on the page: its file, relative to the page, and what it is."""

    file: str
    label: str


@dataclass(frozen=True)
class Exhibit:
    """Pictures or sounds that belong together, with a caption that says what made them."""

    kind: str
    title: str
    caption: str
    pictures: tuple[Picture, ...] = ()
    clips: tuple[tuple[str, tuple[Clip, ...]], ...] = ()


@dataclass(frozen=True)
class Missing:
    """What is not shown, and why."""

    kind: str
    reason: str


@dataclass
class Room:
    """Where the exhibits of one subject are made; ``folder`` takes their files."""

    subject: Subject
    options: Options
    folder: Path
    exhibits: list[Exhibit] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)

    @property
    def info(self) -> StoreInfo:
        return self.subject.set.dataset

    @property
    def modality(self) -> str:
        return self.subject.set.modality

    @property
    def device(self) -> torch.device:
        return torch.device(self.options.device)

    @property
    def streams(self) -> Streams:
        return Streams(self.options.seed)

    @cached_property
    def classes(self) -> tuple[int, ...]:
        """The numbers of the classes that were asked for."""
        return chosen_classes(self.info, self.options.classes)

    def first_classes(self, most: int) -> tuple[int, ...]:
        """The classes that were asked for, or the first few of the dataset where none was."""
        return self.classes if self.options.classes else self.classes[:most]

    def names(self, classes: Sequence[int]) -> list[str]:
        return [self.info.classes[cls] for cls in classes]

    @cached_property
    def store(self) -> Store:
        """The set's store.

        Raises:
            AbsentError: it is not under the data folder, or is another one.
        """
        data, info = self.options.data, self.info
        if info.name not in available(data):
            raise AbsentError(
                f"it needs the store {info.name!r}, which is not under {data}/: give its folder with --data"
            )
        found = open_store(data, info.name)
        if found.info.fingerprint != info.fingerprint:
            raise AbsentError(
                f"it needs the store {info.name!r} with fingerprint {info.fingerprint[:12]}, the one under {data}/ has "
                f"{found.info.fingerprint[:12]}"
            )
        return found

    def train_set(self, device: torch.device | None = None) -> TrainSet:
        return TrainSet(self.store, device or self.device, self.subject.dtype)

    def test_set(self) -> TestSet:
        """The test split.

        Raises:
            AbsentError: the store has none.
        """
        if not self.store.info.size("test"):
            raise AbsentError(f"the store {self.info.name!r} has no test samples")
        return TestSet(self.store, self.device, self.subject.dtype)

    def items(self, given: DistilledSet, cls: int, most: int, *, decoded: bool) -> dict[str, Tensor]:
        """The first items of a class in network input space, by modality (n, channels, height, width).

        Args:
            most: the most stored items; decoded they are l² times as many samples.
        """
        chosen = (given.labels == cls).nonzero().flatten()[:most]
        if isinstance(given, LearnedSet):
            factor = given.factor if decoded else 1
            return {name: decode(tensor.detach()[chosen], factor).cpu() for name, tensor in given.items.items()}
        assert isinstance(given, SelectedSet)
        rows = given.rows[chosen].numpy().astype(np.int64)
        return self.train_set(torch.device("cpu")).batch(rows, given.modality)

    def real_rows(self, cls: int, most: int) -> Rows:
        """Rows of real training samples of a class, drawn at random by the seed; fewer are a prefix of more."""
        rows = self.train_set(torch.device("cpu")).class_rows(cls)
        return self.streams("shown real samples", cls=cls).permutation(rows)[:most]

    def hang(self, kind: str, title: str, caption: str, figures: Sequence[Figure], stem: str) -> None:
        """Save figures and put them on the page."""
        several = len(figures) > 1
        pictures = tuple(
            save(figure, self.folder, f"{stem}-{number}" if several else stem, self.options.dpi, title)
            for number, figure in enumerate(figures, 1)
        )
        self.exhibits.append(Exhibit(kind, title, caption, pictures))

    def miss(self, kind: str, reason: str) -> None:
        self.missing.append(Missing(kind, reason))
