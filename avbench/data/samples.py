"""Samples as networks see them: normalised tensors on the device, gathered by row.

A batch is a mapping from modality to tensor: ``"a"`` (B, 1, mels, frames), ``"v"`` (B, channels, height, width).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avbench.data.store import Store, StoreInfo, class_offsets

Rows = npt.NDArray[np.int64]
Batch = dict[str, Tensor]

#: A split stays on the GPU as bytes when it takes at most this share of the free memory.
_RESIDENT_SHARE = 0.4


class Samples(ABC):
    """Labelled samples that can be gathered by row."""

    labels: Tensor  # (N,) int64 on the CPU

    def __len__(self) -> int:
        return int(self.labels.numel())

    @abstractmethod
    def batch(self, rows: Rows, modality: str) -> Batch:
        """The samples of ``rows`` in the modalities named by the letters of ``modality``."""


class StoreSplit(Samples):
    """One split of a store. Memory does not grow with the data: rows are read from the memory map on demand.

    On a GPU the split's bytes live on the device when they fit there, and are normalised on the fly.
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
                self._resident[name] = torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def class_rows(self, cls: int) -> Rows:
        """The rows of one class, in order."""
        return np.arange(*self._ranges[cls], dtype=np.int64)

    def batch(self, rows: Rows, modality: str) -> Batch:
        found: Batch = {}
        for name in modality:
            if name in self._resident:
                raw = self._resident[name][torch.from_numpy(rows).to(self.device)]
            else:
                raw = torch.from_numpy(np.ascontiguousarray(self._arrays[name][rows])).to(self.device)
            found[name] = self._normalise(name, raw)
        return found

    def _normalise(self, name: str, raw: Tensor) -> Tensor:
        if name == "a":
            return (raw.to(self.dtype) - self.info.audio_mean) / self.info.audio_std
        return (raw.to(self.dtype) / 255 - self._frame_mean) / self._frame_std


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
