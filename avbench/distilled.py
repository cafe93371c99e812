"""Distilled sets: learned pairs as safetensors, selected ones by reference, both with a JSON description.

Nothing is ever unpickled. A folder holds ``distilled.json`` and ``distilled.safetensors``::

    learned   a (N, 1, mels, frames), v (N, channels, height, width) float32 in network input space, labels;
              the learned step sizes are numbers in the JSON
    selected  rows of the training split, labels: nobody's videos are redistributed
"""

from __future__ import annotations

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from avbench.data.samples import Batch, ChosenRows, Rows, Samples, TensorSamples, TrainSet
from avbench.data.store import StoreInfo, open_store
from avbench.distill.factor import decode, decode_rows
from avbench.errors import RequestError
from avbench.results import write_atomically
from avbench.tensor_files import save_tensors_atomically

FORMAT = 1
#: Beyond this the samples of packed items are decoded as they are asked for.
_DECODE_AT_ONCE_BYTES = 1 << 30
#: A learned step size is stored to train on: one float32.
STEP_SIZE_BYTES = 4
_JSON, _TENSORS = "distilled.json", "distilled.safetensors"
#: What a damaged or hostile pair of files makes their readers raise; KeyError: a dtype that PyTorch lacks.
_UNREADABLE = (OSError, ValueError, RecursionError, KeyError, AttributeError, MemoryError, SafetensorError)


@dataclass(frozen=True)
class DistilledSet(ABC):
    """What a method gives: items with labels, and how training samples come out of them.

    Attributes:
        dataset: the description of the dataset it was made from.
        modality: ``"a"``, ``"v"`` or ``"av"``.
        labels: (N,) class indices.
        notes: what a reader should know, such as that a selection wrapped around.
    """

    dataset: StoreInfo
    modality: str
    labels: Tensor
    notes: tuple[str, ...] = field(default=(), kw_only=True)

    kind: ClassVar[str]

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """What is written to disk, by name."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What besides the tensors determines the training samples."""

    @abstractmethod
    def storage_bytes(self) -> int:
        """Bytes that must be stored to train on this set: audio, frames, labels and learned step sizes."""

    @abstractmethod
    def samples(self, train: TrainSet) -> Samples:
        """The training samples, decoded and normalised, on the device of ``train``."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of all that training on this set depends on."""
        facts = {"kind": self.kind, "fingerprint": self.dataset.fingerprint, "modality": self.modality}
        digest = hashlib.sha256(json.dumps(facts | self.facts(), sort_keys=True).encode())
        for name, tensor in sorted(self.tensors().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, Any]:
        """The JSON description."""
        info = self.dataset
        return {
            "format": FORMAT,
            "kind": self.kind,
            "dataset": info.name,
            "fingerprint": info.fingerprint,
            "classes": list(info.classes),
            "modality": self.modality,
            "items": int(self.labels.numel()),
            "normalisation": {
                "audio": [info.audio_mean, info.audio_std],
                "frames": [list(info.frame_mean), list(info.frame_std)],
            },
            "storage_bytes": self.storage_bytes(),
            "content_hash": self.content_hash,
            "notes": list(self.notes),
            **self.facts(),
        }

    def save(self, folder: Path) -> None:
        """Write the description and the tensors into ``folder``: a set that lies there may be read meanwhile."""
        save_tensors_atomically(folder / _TENSORS, self.tensors())
        text = json.dumps({**self.describe(), "dataset_info": self.dataset.as_json()}, indent=2)
        write_atomically(folder / _JSON, text + "\n")

    def as_torch(
        self, *, decode: bool = True, data: str | Path = "data"
    ) -> TorchDataset[tuple[dict[str, Tensor], int]]:
        """A map-style dataset of ({"a": (1, mels, frames), "v": (channels, height, width)}, label).

        Args:
            decode: cut factor-packed items into their training samples; otherwise the stored items.
            data: the folder of stores, needed by selected sets alone.
        """
        return _AsTorch(self, decode, Path(data))


def label_dtype(classes: int) -> torch.dtype:
    """The smallest dtype that holds the labels."""
    return torch.uint8 if classes <= 256 else torch.int16


@dataclass(frozen=True)
class LearnedSet(DistilledSet):
    """Synthetic pairs in network input space.

    Attributes:
        items: by modality, (N, …) float tensors; with ``factor`` l > 1 each item packs l² training samples.
        step_size: by modality, the learning rate that was learned with the items and is to train on them.
    """

    items: Mapping[str, Tensor]
    factor: int = 1
    step_size: Mapping[str, float] | None = None

    kind = "learned"

    def __post_init__(self) -> None:
        for name, value in (self.step_size or {}).items():
            if name not in self.items:
                raise RequestError(f"a step size is given for modality {name!r}, the items are {sorted(self.items)}.")
            number = isinstance(value, float | int) and not isinstance(value, bool)
            if not number or not math.isfinite(value) or value <= 0:
                raise RequestError(f"the step size of {name!r} is {value!r}: expected a finite number above 0.")

    def tensors(self) -> dict[str, Tensor]:
        labels = self.labels.to(label_dtype(len(self.dataset.classes)))
        return {**{name: t.detach() for name, t in self.items.items()}, "labels": labels}

    def facts(self) -> dict[str, Any]:
        # Only where there is one: the hashes of sets without are those of before step sizes were learned.
        learned = {"step_size": {name: float(v) for name, v in self.step_size.items()}} if self.step_size else {}
        return {"factor": self.factor, **learned}

    def storage_bytes(self) -> int:
        tensors = sum(t.numel() * t.element_size() for t in self.tensors().values())
        return tensors + STEP_SIZE_BYTES * len(self.step_size or {})

    def samples(self, train: TrainSet) -> Samples:
        return self._decoded(train.device, train.dtype, decoded=True)

    def _decoded(self, device: torch.device, dtype: torch.dtype, decoded: bool) -> TensorSamples:
        factor = self.factor if decoded else 1
        items = {name: tensor.detach().to(device, dtype) for name, tensor in self.items.items()}
        labels = self.labels.repeat_interleave(factor**2)
        if factor > 1 and factor**2 * sum(t.nbytes for t in items.values()) > _DECODE_AT_ONCE_BYTES:
            return _Packed(items, labels, factor)
        return TensorSamples({name: decode(tensor, factor) for name, tensor in items.items()}, labels)


@dataclass(frozen=True)
class SelectedSet(DistilledSet):
    """Real samples by reference.

    Attributes:
        rows: (N,) rows of the training split of the store with ``dataset.fingerprint``.
    """

    rows: Tensor

    kind = "selected"

    def tensors(self) -> dict[str, Tensor]:
        return {"rows": self.rows.to(torch.int32), "labels": self.labels.to(torch.int16)}

    def facts(self) -> dict[str, Any]:
        return {}

    def storage_bytes(self) -> int:
        """Frames count as uint8 and log-mel as float32, as the store holds them."""
        label_bytes = label_dtype(len(self.dataset.classes)).itemsize
        audio_bytes = 4 * int(np.prod(self.dataset.audio_shape)) if "a" in self.modality else 0
        frame_bytes = int(np.prod(self.dataset.frame_shape)) if "v" in self.modality else 0
        return int(self.labels.numel()) * (label_bytes + audio_bytes + frame_bytes)

    def samples(self, train: TrainSet) -> Samples:
        if train.info.fingerprint != self.dataset.fingerprint:
            raise RequestError(
                f"this set refers to rows of dataset {self.dataset.name!r} with fingerprint "
                f"{self.dataset.fingerprint[:12]}, the store at hand has {train.info.fingerprint[:12]}."
            )
        return ChosenRows(train, self.rows.numpy().astype(np.int64))


class _Packed(TensorSamples):
    """Packed items whose samples are decoded batch by batch: together they would take l² times the memory."""

    def __init__(self, items: dict[str, Tensor], labels: Tensor, factor: int) -> None:
        super().__init__(items, labels)
        self._factor = factor

    def batch(self, rows: Rows, modality: str) -> Batch:
        chosen = torch.from_numpy(rows)
        return {
            name: decode_rows(self.tensors[name], self._factor, chosen.to(self.tensors[name].device))
            for name in modality
        }


class _AsTorch(TorchDataset[tuple[dict[str, Tensor], int]]):
    def __init__(self, source: DistilledSet, decoded: bool, data: Path) -> None:
        self._modality = source.modality
        if isinstance(source, LearnedSet):
            cpu = torch.device("cpu")
            self._samples: Samples = source._decoded(cpu, torch.float32, decoded)
        else:
            store = open_store(data, source.dataset.name)
            self._samples = source.samples(TrainSet(store, torch.device("cpu")))

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        batch = self._samples.batch(np.array([index], dtype=np.int64), self._modality)
        return {name: tensor[0] for name, tensor in batch.items()}, int(self._samples.labels[index])


def load(path: str | Path) -> DistilledSet:
    """Read a distilled set from the folder that holds ``distilled.json`` (``RUNS/distil/KEY``).

    Raises:
        RequestError: no such set, a truncated or altered file, or an unknown format.
    """
    folder = Path(path)
    try:
        about = json.loads((folder / _JSON).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS)
    except _UNREADABLE as error:
        raise RequestError(f"{folder} holds no readable distilled set: {error}") from None
    if not isinstance(about, dict):
        raise RequestError(f"{folder}: {_JSON} holds no description.")
    if about.get("format") != FORMAT:
        raise RequestError(f"{folder}: distilled-set format {about.get('format')}, expected {FORMAT}.")
    found = _assemble(about, tensors, folder)
    try:
        content_hash = found.content_hash
    except (TypeError, ValueError, RuntimeError) as error:  # NumPy knows no such numbers, or JSON no such text
        raise RequestError(f"{folder}: its contents can't be hashed ({error}).") from None
    if content_hash != about.get("content_hash"):
        raise RequestError(f"{folder}: the tensors do not match the description's content hash.")
    return found


def _assemble(about: Mapping[str, Any], tensors: dict[str, Tensor], folder: Path) -> DistilledSet:
    try:
        info = StoreInfo.from_json(about["dataset_info"])
        labels = _whole_numbers("labels", tensors.pop("labels"), folder)
        modality, notes = about["modality"], tuple(about["notes"])
        if about["kind"] == SelectedSet.kind:
            rows = _whole_numbers("rows", tensors["rows"], folder)
            return SelectedSet(info, modality, labels, rows, notes=notes)
        if set(tensors) != set(modality):
            raise RequestError(f"{folder}: tensors {sorted(tensors)} for modality {modality!r}.")
        step_size = about.get("step_size")
        if step_size is not None and not (isinstance(step_size, dict) and step_size):
            raise RequestError(f"{folder}: the step sizes are {step_size!r}, expected one a modality.")
        return LearnedSet(info, modality, labels, tensors, about["factor"], step_size, notes=notes)
    except (KeyError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise RequestError(f"{folder}: the description lacks or garbles {error}.") from None


def _whole_numbers(name: str, tensor: Tensor, folder: Path) -> Tensor:
    if tensor.is_floating_point() or tensor.is_complex():
        raise RequestError(f"{folder}: the {name} are of type {str(tensor.dtype)[6:]}, expected whole numbers.")
    return tensor.to(torch.int64)
