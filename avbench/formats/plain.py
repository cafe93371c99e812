"""Plain arrays: ``audio`` (N, 1, mels, frames), ``frames`` (N, channels, height, width), ``labels`` (N,)."""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.formats.base import Format, Found, Reading, learned_set

_KEYS = {"a": ("audio", "a"), "v": ("frames", "images", "v")}


class _Plain(Format):
    suffix: str

    def reads(self, path: Path) -> bool:
        return path.is_file() and path.suffix == self.suffix

    @abstractmethod
    def arrays(self, path: Path) -> Mapping[str, Tensor]:
        """All arrays of a file, by name."""

    def read(self, path: Path, info: StoreInfo, reading: Reading) -> list[Found]:
        arrays = self.arrays(path)
        if "labels" not in arrays:
            raise RequestError(f"{path} has no array 'labels'; found {', '.join(sorted(arrays)) or 'none'}.")
        items = {}
        for modality, names in _KEYS.items():
            present = [name for name in names if name in arrays]
            if present:
                items[modality] = arrays[present[0]]
        factor = reading.factor or 1
        return [Found(learned_set(str(path), info, items, arrays["labels"], reading, factor), reading.seed)]


class Npz(_Plain):
    """``.npz`` with the three arrays."""

    name, suffix = "npz", ".npz"
    layout = "a .npz with audio, frames, labels"

    def arrays(self, path: Path) -> Mapping[str, Tensor]:
        try:
            with np.load(path, allow_pickle=False) as file:
                return {name: torch.from_numpy(np.ascontiguousarray(file[name])) for name in file.files}
        except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            raise RequestError(f"{path} can't be read as .npz: {error}.") from None


class Safetensors(_Plain):
    """``.safetensors`` with the three tensors."""

    name, suffix = "safetensors", ".safetensors"
    layout = "a .safetensors with the same"

    def arrays(self, path: Path) -> Mapping[str, Tensor]:
        try:
            found: Mapping[str, Tensor] = load_file(path)
        except (OSError, SafetensorError, MemoryError) as error:
            raise RequestError(f"{path} can't be read as safetensors: {error}.") from None
        return found
