"""Plain arrays: ``audio`` (N, 1, mels, frames), ``frames`` (N, channels, height, width), ``labels`` (N,).

Of what else a file may hold, ``factor`` and the learned ``step_size_a`` and ``step_size_v`` are used, as
``avbench export`` writes them; the rest, such as names of classes, is for other readers.
"""

from __future__ import annotations

import zipfile
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.executors.memory import available_bytes
from avbench.formats.base import Format, Found, Reading, learned_set

_KEYS = {"a": ("audio", "a"), "v": ("frames", "images", "v")}
_STEP_SIZE = "step_size_"
#: What is read of a file at all.
_READ = {"labels", "factor", *(n for names in _KEYS.values() for n in names), *(_STEP_SIZE + name for name in _KEYS)}


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
        factor = reading.factor or _whole(path, _number(path, arrays, "factor", 1.0))
        found = learned_set(str(path), info, items, arrays["labels"], reading, factor)
        learned = {name: _number(path, arrays, _STEP_SIZE + name) for name in items if _STEP_SIZE + name in arrays}
        return [Found(replace(found, step_size=learned) if learned else found, reading.seed)]


def _number(path: Path, arrays: Mapping[str, Tensor], name: str, default: float = 0.0) -> float:
    """A single number of a file."""
    if name not in arrays:
        return default
    if arrays[name].numel() != 1 or arrays[name].is_complex():
        raise RequestError(f"{path}: {name!r} has shape {tuple(arrays[name].shape)}, expected a single number.")
    return float(arrays[name].item())


def _whole(path: Path, factor: float) -> int:
    if not factor.is_integer():
        raise RequestError(f"{path}: 'factor' is {factor}, expected a whole number.")
    return int(factor)


def _stem(member: str) -> str:
    return member.removesuffix(".npy")


def _check_memory(path: Path, declared_bytes: list[int]) -> None:
    """Refuse an archive that unpacks to more than memory holds; no reader takes more from it than it declares."""
    available = available_bytes()
    if available is not None and sum(declared_bytes) > available:
        raise RequestError(
            f"{path} unpacks to {sum(declared_bytes) / 1e9:.1f} GB, {available / 1e9:.1f} GB of memory are available: "
            "check where it is from, or read it on a larger machine."
        )


class Npz(_Plain):
    """``.npz`` with the three arrays."""

    name, suffix = "npz", ".npz"
    layout = "a .npz with audio, frames, labels"

    def arrays(self, path: Path) -> Mapping[str, Tensor]:
        # NumPy's own words for such a file advise to unpickle it.
        if path.is_file() and not zipfile.is_zipfile(path):
            raise RequestError(f"{path} can't be read as .npz: it is no archive of arrays, or it was cut off.")
        try:
            with np.load(path, allow_pickle=False) as file:
                wanted = [name for name in file.files if name in _READ]
                _check_memory(path, [each.file_size for each in file.zip.infolist() if _stem(each.filename) in _READ])
                arrays = {name: file[name] for name in wanted}
            # Text has no tensor, and nothing is read from it.
            numbers = {name: array for name, array in arrays.items() if array.dtype.kind not in "SU"}
            return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in numbers.items()}
        except RequestError:
            raise
        except Exception as error:  # on a damaged archive its readers raise almost anything
            raise RequestError(f"{path} can't be read as .npz: {error}.") from None


class Safetensors(_Plain):
    """``.safetensors`` with the three tensors."""

    name, suffix = "safetensors", ".safetensors"
    layout = "a .safetensors with the same"

    def arrays(self, path: Path) -> Mapping[str, Tensor]:
        try:
            found: Mapping[str, Tensor] = load_file(path)
        except (OSError, ValueError, KeyError, AttributeError, SafetensorError, MemoryError) as error:
            raise RequestError(f"{path} can't be read as safetensors: {error}.") from None
        return found
