"""What every layout has in common: options of reading, holding a set to its dataset, finding out its number range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor

from avbench.data.store import StoreInfo
from avbench.distill.factor import check_fits
from avbench.distilled import DistilledSet, LearnedSet
from avbench.errors import RequestError

FrameSpace = Literal["auto", "network", "pixels"]
AudioSpace = Literal["network", "raw"]
_SLACK = 1e-3


@dataclass(frozen=True)
class Reading:
    """How to read what a file itself does not say.

    Attributes:
        factor: l of factor-packed items; ``None``: 1, and 2 for the AVDD authors' sets.
        frames: ``network``: already normalised; ``pixels``: to be normalised, from 0 to 1 or to 255; ``auto``: found
            out by their range.
        audio: ``network``: as networks take it; ``raw``: log-mel in dB, to be normalised as the dataset's.
        iteration: of several kept ones; ``None``: the last.
        seed: of the first set; others follow.
    """

    factor: int | None = None
    frames: FrameSpace = "auto"
    audio: AudioSpace = "network"
    iteration: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Found:
    """A distilled set, and under which seed it counts."""

    set: DistilledSet
    seed: int


class Format(ABC):
    """One layout on disk.

    Class attributes:
        name: as the command line has it.
        layout: the layout in a few words.
    """

    name: ClassVar[str]
    layout: ClassVar[str]

    @abstractmethod
    def reads(self, path: Path) -> bool:
        """Whether the path looks like this layout, by its names alone."""

    @abstractmethod
    def read(self, path: Path, info: StoreInfo, reading: Reading) -> list[Found]:
        """The sets in it.

        Raises:
            RequestError: unreadable, incomplete, or not of this dataset.
        """


def learned_set(
    where: str, info: StoreInfo, items: Mapping[str, Tensor], labels: Tensor, reading: Reading, factor: int
) -> LearnedSet:
    """A set from plain tensors, held to its dataset and brought into network input space.

    Args:
        where: what to call it in errors.
        items: by modality, (N, channels, height, width).
        labels: (N,).
    """
    _check(where, info, items, labels, factor)
    notes = []
    ready = {}
    for name, tensor in items.items():
        ready[name], note = _frames(info, tensor, reading) if name == "v" else _audio(info, tensor, reading)
        notes += [note] if note else []
    modality = "".join(name for name in "av" if name in ready)
    return LearnedSet(info, modality, labels.to(torch.int64), ready, factor, notes=tuple(notes))


def _check(where: str, info: StoreInfo, items: Mapping[str, Tensor], labels: Tensor, factor: int) -> None:
    if not items:
        raise RequestError(f"{where} holds neither audio nor frames.")
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise RequestError(
            f"{where}: labels have shape {tuple(labels.shape)} and type {labels.dtype}, expected class "
            "numbers (N,); soft labels are not read."
        )
    labels = labels.to(torch.int64)  # unsigned ones have no smallest and largest in PyTorch
    classes = len(info.classes)
    if labels.numel() == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        span = f"from {int(labels.min())} to {int(labels.max())}" if labels.numel() else "empty"
        raise RequestError(f"{where}: labels are {span}, {info.name} has classes 0 to {classes - 1}.")
    counts = torch.bincount(labels, minlength=classes)
    if int(counts.min()) != int(counts.max()):
        raise RequestError(
            f"{where}: classes have {int(counts.min())} to {int(counts.max())} items; a board compares sets with the "
            "same number for each class."
        )
    for name, tensor in items.items():
        expected = (labels.numel(), *info.shape(name))
        if tuple(tensor.shape) != expected:
            raise RequestError(f"{where}: {name!r} has shape {tuple(tensor.shape)}, {info.name} needs {expected}.")
        if tensor.is_complex() or not bool(torch.isfinite(tensor.float()).all()):
            raise RequestError(f"{where}: {name!r} holds values that are not finite numbers.")
        check_fits(factor, info.shape(name))


def _audio(info: StoreInfo, tensor: Tensor, reading: Reading) -> tuple[Tensor, str]:
    found = tensor.to(torch.float32)
    if reading.audio == "network":
        return found, ""
    return (found - info.audio_mean) / info.audio_std, "audio was read as raw dB and normalised as the dataset's"


def _frames(info: StoreInfo, tensor: Tensor, reading: Reading) -> tuple[Tensor, str]:
    found = tensor.to(torch.float32)
    scale = pixel_scale(tensor) if reading.frames != "network" else None
    if reading.frames == "pixels" and scale is None:
        low, high = float(found.min()), float(found.max())
        raise RequestError(f"frames from {low:.3g} to {high:.3g} are no pixels: leave --frames auto, or say network.")
    if scale is None:
        return found, ""
    channels = (1, len(info.frame_mean), 1, 1)
    mean, std = (torch.tensor(values).view(channels) for values in (info.frame_mean, info.frame_std))
    return (found / scale - mean) / std, f"frames were pixels from 0 to {scale} and were normalised as the dataset's"


def pixel_scale(frames: Tensor) -> int | None:
    """1 or 255 where values look like pixels of that range; ``None`` where they look normalised."""
    low, high = float(frames.float().min()), float(frames.float().max())
    if frames.dtype == torch.uint8:
        return 255
    if low < -_SLACK or high > 255 + _SLACK:
        return None
    return 1 if high <= 1 + _SLACK else 255
