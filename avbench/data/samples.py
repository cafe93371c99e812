"""Samples as networks see them: normalised tensors on the device, gathered by row.

A batch is a mapping from modality to tensor: ``"a"`` (B, 1, mels, frames), ``"v"`` (B, channels, height, width).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avbench.data.store import Store, StoreInfo, class_offsets

Rows = npt.NDArray[np.int64]
Batch = dict[str, Tensor]
_Request = tuple[str, bytes]

#: A split stays on the GPU as bytes when it takes at most this share of the free memory.
_RESIDENT_SHARE = 0.4
_LOADED_AT_ONCE = 256


def batches(order: Rows, size: int, per_sample: bool) -> list[Rows]:
    """Cut an order of training samples into batches of ``size``, the last one shorter where it must.

    Args:
        per_sample: whether the network treats each sample by itself. Batch norm does not, and has no variance for a
            leftover batch of one: it joins the batch before it.
    """
    cuts = list(range(size, len(order), size))
    if cuts and len(order) - cuts[-1] == 1 and not per_sample:
        cuts.pop()
    return np.split(order, cuts)


class Samples(ABC):
    """Labelled samples that can be gathered by row."""

    labels: Tensor  # (N,) int64 on the CPU

    def __len__(self) -> int:
        return int(self.labels.numel())

    @abstractmethod
    def batch(self, rows: Rows, modality: str) -> Batch:
        """The samples of ``rows`` in the modalities named by the letters of ``modality``."""

    def prefetch(self, rows: Rows, modality: str) -> None:
        """Say what :meth:`batch` will be asked for next, so that it can be read meanwhile. It changes no result."""


class StoreSplit(Samples):
    """One split of a store. Memory does not grow with the data: rows are read from the memory map on demand.

    On a GPU the split's bytes live on the device when they fit there, and are normalised on the fly. Where they do
    not live there, one batch can be read ahead in a thread, see :meth:`prefetch`.
    """

    split = ""

    def __init__(self, store: Store, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.info: StoreInfo = store.info
        self.device, self.dtype = device, dtype
        counts = store.info.counts[self.split]
        self.labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        self._ranges = list(class_offsets(counts))
        self._arrays: dict[str, npt.NDArray[Any]] = {"a": store.audio[self.split], "v": store.frames[self.split]}
        self._resident: Batch = {}
        self._reader: ThreadPoolExecutor | None = None
        self._ahead: tuple[_Request, Future[Batch]] | None = None
        channels = store.info.frame_shape[0]
        as_channels = (1, channels, 1, 1)
        self._frame_mean = torch.tensor(store.info.frame_mean, dtype=dtype, device=device).view(as_channels)
        self._frame_std = torch.tensor(store.info.frame_std, dtype=dtype, device=device).view(as_channels)
        if device.type == "cuda":
            self._settle()

    def _settle(self) -> None:
        free_bytes, _ = torch.cuda.mem_get_info(self.device)
        if sum(array.nbytes for array in self._arrays.values()) <= _RESIDENT_SHARE * free_bytes:
            for name, array in self._arrays.items():
                self._resident[name] = _loaded(array, self.device)

    def class_rows(self, cls: int) -> Rows:
        """The rows of one class, in order."""
        return np.arange(*self._ranges[cls], dtype=np.int64)

    def batch(self, rows: Rows, modality: str) -> Batch:
        if self._resident:
            index = torch.from_numpy(rows).to(self.device)
            return {name: self._normalise(name, self._resident[name][index]) for name in modality}
        # From pinned memory the copy need not be waited for; from other memory torch waits all the same.
        raw = self._read_ahead(rows, modality) or self._read(rows, modality)
        return {name: self._normalise(name, values.to(self.device, non_blocking=True)) for name, values in raw.items()}

    def prefetch(self, rows: Rows, modality: str) -> None:
        if self._resident:
            return
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1, "prefetch")
        if self._ahead is not None:  # one batch at most: what is not asked for is dropped
            self._ahead[1].cancel()
        self._ahead = (modality, rows.tobytes()), self._reader.submit(self._read, rows.copy(), modality)

    def _read_ahead(self, rows: Rows, modality: str) -> Batch | None:
        """What was read ahead, if it is what is asked for now."""
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        request, reading = ahead
        if request == (modality, rows.tobytes()):
            return reading.result()
        reading.cancel()
        return None

    def _read(self, rows: Rows, modality: str) -> Batch:
        """Rows as they are on disk, in memory of their own: pinned where they go to a GPU."""
        raw = {name: torch.from_numpy(self._arrays[name][rows]) for name in modality}
        return {name: values.pin_memory() for name, values in raw.items()} if self.device.type == "cuda" else raw

    def _normalise(self, name: str, raw: Tensor) -> Tensor:
        if name == "a":
            return (raw.to(self.dtype) - self.info.audio_mean) / self.info.audio_std
        return (raw.to(self.dtype) / 255 - self._frame_mean) / self._frame_std


def _loaded(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on the device; on the way there little of it is in memory at once."""
    loaded = torch.empty(array.shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype, device=device)
    for start in range(0, len(array), _LOADED_AT_ONCE):
        rows = slice(start, start + _LOADED_AT_ONCE)
        loaded[rows] = torch.from_numpy(array[rows].copy())
    return loaded


class TrainSet(StoreSplit):
    """The training split: all that a method is ever given."""

    split = "train"


class ValSet(StoreSplit):
    """The validation split: for choosing hyper-parameters, never for reporting."""

    split = "val"


class TestSet(StoreSplit):
    """The test split: for protocols alone."""

    __test__ = False  # not a pytest class
    split = "test"


class TensorSamples(Samples):
    """Samples held in memory, already normalised: a decoded distilled set."""

    def __init__(self, tensors: Batch, labels: Tensor) -> None:
        self.tensors = tensors
        self.labels = labels.to("cpu", torch.int64)

    def batch(self, rows: Rows, modality: str) -> Batch:
        index = torch.from_numpy(rows)
        return {name: self.tensors[name][index.to(self.tensors[name].device)] for name in modality}


class ChosenRows(Samples):
    """Some rows of the training split, read on demand: a selected distilled set."""

    def __init__(self, train: TrainSet, rows: Rows) -> None:
        self._train, self._rows = train, rows
        self.labels = train.labels[torch.from_numpy(rows)]

    def batch(self, rows: Rows, modality: str) -> Batch:
        return self._train.batch(self._rows[rows], modality)
