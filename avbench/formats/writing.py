"""What every layout that is written has in common: the samples of a set, one at a time, with what is known of them."""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchvision.io import encode_png

from avbench.data.store import StoreInfo
from avbench.distilled import DistilledSet, LearnedSet

#: What the modalities are called in files.
NAMES = {"a": "audio", "v": "frame"}
_PNG_CHANNELS = (1, 3)
_NAME_LENGTH = 60


@dataclass(frozen=True)
class Sample:
    """One training sample, or one stored item.

    Attributes:
        key: its number, padded so that names sort as numbers do.
        item: the stored item that it comes from.
        cell: which cell of a factor-packed item it was; 0 elsewhere.
        inputs: by modality, float32 in network input space.
    """

    key: str
    label: int
    item: int
    cell: int
    inputs: Mapping[str, Tensor]


@dataclass(frozen=True)
class Contents:
    """A distilled set that is being exported.

    Attributes:
        decoded: training samples; otherwise stored items.
        data: the folder of stores; selected sets take their samples from there.
        made: what the record of the run says of how the set was made; empty where none lies beside it.
        videos: of a selected set, (video id, second) of each item; ``None`` where the store is not at hand.
    """

    set: DistilledSet
    decoded: bool
    data: Path
    made: Mapping[str, Any]
    videos: tuple[tuple[str, str], ...] | None = None

    @property
    def info(self) -> StoreInfo:
        return self.set.dataset

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(name for name in NAMES if name in self.set.modality)

    @property
    def items(self) -> int:
        return int(self.set.labels.numel())

    @property
    def factor(self) -> int:
        """l of the set itself."""
        return self.set.factor if isinstance(self.set, LearnedSet) else 1

    @property
    def factor_left(self) -> int:
        """l by which whoever loads the export still has to decode."""
        return 1 if self.decoded else self.factor

    @property
    def step_size(self) -> Mapping[str, float]:
        found = self.set.step_size if isinstance(self.set, LearnedSet) else None
        return found or {}

    @property
    def count(self) -> int:
        return self.items * self._cells

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample's float32 inputs."""
        return sum(4 * torch.Size(self.info.shape(name)).numel() for name in self.modalities)

    @property
    def _cells(self) -> int:
        return self.factor**2 if self.decoded else 1

    @cached_property
    def labels(self) -> Tensor:
        """(count,) class numbers."""
        return self.set.labels.repeat_interleave(self._cells)

    def samples(self) -> Iterator[Sample]:
        """The samples in order, bit for bit those that networks are trained on."""
        source = self.set.as_torch(decode=self.decoded, data=self.data)
        width = max(6, len(str(self.count - 1)))
        for number in range(self.count):
            inputs, label = source[number]
            item, cell = divmod(number, self._cells)
            yield Sample(f"{number:0{width}}", label, item, cell, inputs)

    def shares(self, limit_bytes: int) -> list[int]:
        """How many samples go into each of several files, so that none holds much more than so many bytes."""
        files = ceil(self.count * self.sample_bytes / limit_bytes)
        cuts = [number * self.count // files for number in range(files + 1)]
        return [end - start for start, end in pairwise(cuts)]

    def row(self, sample: Sample) -> dict[str, Any]:
        """What a table says of a sample."""
        about = {"key": sample.key, "label": sample.label, "class": self.info.classes[sample.label]}
        about |= {"item": sample.item, "cell": sample.cell}
        if self.videos is not None:
            about |= dict(zip(("video", "second"), self.videos[sample.item], strict=True))
        return about


class Writer(ABC):
    """One layout that distilled sets are written in.

    Class attributes:
        name: as the command line has it.
        layout: the layout in a few words.
        holds_samples: whether it holds the samples themselves, and not only says which they are.
    """

    name: ClassVar[str]
    layout: ClassVar[str]
    holds_samples: ClassVar[bool] = True

    def check(self, contents: Contents) -> None:
        """Refuse what this layout can't hold, before anything is written.

        Raises:
            RequestError: something is missing, or the set does not fit.
        """

    @abstractmethod
    def write(self, contents: Contents, folder: Path) -> None:
        """Write the files of the layout, without the card, into an empty folder."""

    @abstractmethod
    def explain(self, contents: Contents) -> str:
        """For the card: the files, and how they are loaded. Markdown."""

    def header(self, contents: Contents) -> str:
        """What the card opens with, where the layout wants something there."""
        return ""


def preview(info: StoreInfo, frame: Tensor) -> bytes | None:
    """A frame in network input space as PNG, rounded to 8 bits; ``None`` where PNG has no such channels.

    Of a real frame these are the very pixels of the store.
    """
    if frame.shape[0] not in _PNG_CHANNELS:
        return None
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (info.frame_mean, info.frame_std))
    pixels = ((frame * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)  # (channels, height, width)
    return bytes(encode_png(pixels.contiguous()).numpy())


def class_folder(label: int, name: str, classes: int) -> str:
    """A folder's name for a class: its number, so that folders sort as labels do, and what is harmless of its name.

    Class names come from files that others wrote: no sign that means something in a path is let through.
    """
    plain = "".join(ch if ch.isalnum() else "_" for ch in unicodedata.normalize("NFC", name))
    plain = re.sub("_+", "_", plain).strip("_")[:_NAME_LENGTH].strip("_")
    number = f"{label:0{max(3, len(str(classes - 1)))}}"
    return f"{number}_{plain}" if plain else number
