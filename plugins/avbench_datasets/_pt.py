"""Opens torch's ``.pt`` files without running anything in them and, where it can be, without reading them."""

from __future__ import annotations

import mmap
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avbench.api import RequestError
from avbench_datasets import _memory
from avbench_datasets._faults import fail

_ZIP = b"PK\x03\x04"
#: What stands at the beginning of a file that is no data at all, and what to do about it.
_IMPOSTORS = {
    b"version https://git-lfs": ("a Git LFS pointer, not the data it stands for", "fetch the data with git lfs pull"),
    b"<": ("a web page", "the download failed: fetch the file again"),
}
#: A level that the published transform can't give: its floor is -100 dB, its loudest full-scale sine about 40 dB.
_LOWEST_DB, _HIGHEST_DB = -100.5, 120.0
#: Frames that are looked at to tell 0..1 from 0..255; they are spread over the file.
_PROBES = 64
#: What torch says when the system maps no file of this size.
_NO_ROOM = "unable to mmap"


@dataclass(frozen=True)
class TensorFile:
    """The dictionary in a file. Tensors of a ``mapped`` file lie on disk until they are looked at."""

    path: Path
    values: Mapping[str, Any]
    mapped: bool

    def tensor(self, key: str) -> Tensor:
        """The tensor under ``key``.

        Raises:
            RequestError: there is none, or it is no plain tensor.
        """
        if key not in self.values:
            known = ", ".join(sorted(map(str, self.values))) or "nothing"
            raise fail(self.path, f"has no key {key!r} (it has: {known})", "see docs/datasets/release.md for the keys")
        value = self.values[key]
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_quantized or value.is_complex():
            found = f"{key!r} is {type(value).__name__}, not a plain tensor of numbers"
            raise fail(self.path, found, "save tensors with torch.save")
        return value.detach()


def open_file(path: Path, say: Callable[[str], None]) -> TensorFile:
    """Open a file that holds a dictionary of tensors.

    Args:
        say: is told when the file has to be read whole, with the memory that this takes.

    Raises:
        RequestError: absent, broken, compressed, more than tensors, or an old format that memory can't hold.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise fail(path, f"can't be read ({error.strerror})", "check --source") from None
    for start, (found, advice) in _IMPOSTORS.items():
        if head.lstrip().startswith(start):
            raise fail(path, f"is {found}", advice)
    mapped = head.startswith(_ZIP)
    if mapped:
        _check_stored(path)
    else:
        _check_memory(path, say)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the pickle protocol; what can't be read is refused below
            values = _map(path) if mapped else _load(path)
    except pickle.UnpicklingError as error:
        raise _unsafe(path, str(error)) from None
    except PermissionError:
        advice = "let it be written to (nothing is): only then can it be mapped, being larger than memory"
        raise fail(path, "is read-only", advice) from None
    except Exception as error:  # on a damaged file torch raises almost anything
        raise fail(path, f"can't be read ({_first_line(error)})", "it may be cut short: fetch the file again") from None
    if not isinstance(values, dict):
        raise fail(path, f"holds a {type(values).__name__}", "expected a dictionary of tensors")
    return TensorFile(path, values, mapped)


def _load(path: Path, mapped: bool = False) -> Any:
    # weights_only: nothing but tensors and plain containers is ever built from the file.
    return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)


def _map(path: Path) -> Any:
    try:
        return _load(path, mapped=True)
    except RuntimeError as error:
        if _NO_ROOM not in str(error):
            raise
    # Linux refuses to map a file larger than memory privately, as torch does: its pages might be written. A shared
    # map takes no memory, yet must be opened for writing; nothing is written here.
    if not os.access(path, os.W_OK):
        raise PermissionError
    with torch.serialization.set_default_mmap_options(mmap.MAP_SHARED):
        return _load(path, mapped=True)


def _check_stored(path: Path) -> None:
    """A compressed archive can't be mapped, and torch would take its compressed bytes for numbers."""
    try:
        with zipfile.ZipFile(path) as archive:
            compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, EOFError, ValueError):
        raise fail(path, "is cut short or damaged", "fetch the file again") from None
    if compressed:
        raise fail(path, "is a compressed archive, not a file of torch.save", "unpack it, and give what was in it")


def _check_memory(path: Path, say: Callable[[str], None]) -> None:
    size_bytes = path.stat().st_size
    need = f"{size_bytes / 1e9:.1f} GB of memory"
    available = _memory.available_bytes()
    if available is not None and size_bytes > available:
        rewrite = f"torch.save(torch.load({path.name!r}, weights_only=True), 'new.pt')"
        found = f"is in torch's old format, which takes {need}, and {available / 1e9:.1f} GB are available"
        raise fail(path, found, f"write it anew on a larger machine: {rewrite}")
    say(f"{path.name} is in torch's old format: reading it whole takes {need}")


def _unsafe(path: Path, reason: str) -> RequestError:
    named = re.search(r"GLOBAL (\S+)", reason)
    if named is None:
        return fail(path, "is not a file of torch.save, or is damaged", "fetch the file again")
    found = f"holds {named[1]}, and only tensors are ever read, since other objects could run code"
    return fail(path, found, "use the authors' own file, or save its tensors alone")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]


class FrameReader:
    """The frames of a file as bytes, one at a time, whatever they are stored as."""

    def __init__(self, path: Path, key: str, tensor: Tensor) -> None:
        if tensor.ndim != 4 or tensor.shape[1] != 3 or tensor.dtype == torch.bool:
            raise fail(path, f"{key!r} is {tensor.dtype} {tuple(tensor.shape)}", "expected (N, 3, height, width)")
        self._path, self._key, self._tensor = path, key, tensor
        self.is_float = tensor.is_floating_point()
        self.unit = self.is_float and len(tensor) > 0 and self._looks_unit()
        #: The largest change by rounding so far, of 255.
        self.rounded_by = 0.0

    def _looks_unit(self) -> bool:
        rows = np.unique(np.linspace(0, len(self._tensor) - 1, _PROBES).astype(int)).tolist()
        highest = max(float(self._tensor[row].max()) for row in rows)
        return 0.0 < highest <= 1.0

    def __call__(self, row: int) -> npt.NDArray[np.uint8]:
        """One frame (3, height, width).

        Raises:
            RequestError: its values are not 0 to 255, or to 1 in a file whose others are.
        """
        frame = self._tensor[row]
        if frame.dtype == torch.uint8:
            return np.ascontiguousarray(frame.numpy())
        values = frame.double().numpy()
        top = 1.0 if self.unit else 255.0
        low, high = float(values.min()), float(values.max())
        if not (low >= 0.0 and high <= top):  # NaN fails too
            found = f"{self._key}[{row}] runs from {low:.4g} to {high:.4g}, where 0 to {top:.0f} was expected"
            raise fail(self._path, found, "give images before normalisation, on one scale: 0 to 255, or 0 to 1")
        values = values * (255.0 / top)
        rounded = values.round()
        self.rounded_by = max(self.rounded_by, float(np.abs(values - rounded).max()))
        return rounded.astype(np.uint8)

    def note(self) -> str:
        """How the frames became bytes; empty where they were."""
        if not self.is_float:
            return ""
        scale = "0 to 1" if self.unit else "0 to 255"
        return f"float images on {scale}, rounded to bytes (by at most {self.rounded_by:.2g} of 255)"


class SoundReader:
    """The log-mels of a file, one at a time, as float32 decibels."""

    def __init__(self, path: Path, key: str, tensor: Tensor) -> None:
        if tensor.ndim != 4 or tensor.shape[1] != 1 or not tensor.is_floating_point():
            found = f"{key!r} is {tensor.dtype} {tuple(tensor.shape)}"
            raise fail(path, found, "expected decibels as float (N, 1, mels, frames)")
        self._path, self._key, self._tensor = path, key, tensor

    def __call__(self, row: int) -> npt.NDArray[np.float32]:
        """One log-mel (1, mels, frames).

        Raises:
            RequestError: it holds NaN or infinity, or levels that the published transform can't give.
        """
        values: npt.NDArray[np.float32] = self._tensor[row].float().numpy()
        low, high = float(values.min()), float(values.max())
        if not (low >= _LOWEST_DB and high <= _HIGHEST_DB):  # NaN fails too
            found = f"{self._key}[{row}] runs from {low:.4g} to {high:.4g}, which is no log-mel in dB"
            raise fail(self._path, found, "expected raw decibels from -100 dB on, not normalised ones")
        return values


def read_labels(path: Path, key: str, file: TensorFile) -> npt.NDArray[np.int64]:
    """(N,) class numbers, from a tensor or a list of whole numbers.

    Raises:
        RequestError: something else.
    """
    value = file.values.get(key)
    if isinstance(value, list) and all(type(v) is int for v in value):
        return np.array(value, np.int64)
    tensor = file.tensor(key)
    if tensor.ndim == 2 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    labels = tensor.to(torch.int64)
    if tensor.ndim != 1 or tensor.dtype == torch.bool or not torch.equal(labels.to(tensor.dtype), tensor):
        raise fail(path, f"{key!r} is {tensor.dtype} {tuple(tensor.shape)}", "expected (N,) whole numbers")
    if len(labels) and int(labels.min()) < 0:
        raise fail(path, f"{key!r} holds {int(labels.min())}", "classes are numbered from 0")
    return labels.numpy()
