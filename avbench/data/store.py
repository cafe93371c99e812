"""The dataset store: memory-mapped arrays sorted by class, with what is known of them and a fingerprint.

Layout of ``<data>/<name>/``::

    store.json              what StoreInfo holds, with the fingerprint
    <split>/audio.npy       (N, 1, mels, frames) float32 log-mel in dB
    <split>/frames.npy      (N, channels, height, width) uint8
    <split>/samples.csv     video id and second of each row

Rows are sorted by class, so labels follow from the counts and are not stored again.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avbench.data.description import check_description
from avbench.errors import StoreError, nearest

#: Raise it when the layout above changes; older stores are then refused with a request to prepare them again.
STORE_FORMAT = 1
SPLITS = ("train", "val", "test")
_HASH_CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class StoreInfo:
    """What a dataset is: everything a run needs to know of it without reading a sample.

    Shapes: audio (1, mels, frames), frames (channels, height, width). ``visual_depth`` and ``audio_depth`` are the
    numbers of ConvNet blocks, ``grid`` the (height, width) on which both embeddings meet.
    """

    name: str
    dataset: str
    dataset_version: int
    classes: tuple[str, ...]
    counts: Mapping[str, tuple[int, ...]]
    audio_shape: tuple[int, int, int]
    frame_shape: tuple[int, int, int]
    audio_mean: float
    audio_std: float
    frame_mean: tuple[float, ...]
    frame_std: tuple[float, ...]
    visual_depth: int
    audio_depth: int
    grid: tuple[int, int]
    preset: str
    sample_rate_hz: int
    audio_transform: Mapping[str, Any]
    licence: str
    citation: str
    options: Mapping[str, Any] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fingerprint: str = ""

    def size(self, split: str) -> int:
        return sum(self.counts.get(split, ()))

    def shape(self, modality: str) -> tuple[int, int, int]:
        """The input shape of modality ``"a"`` or ``"v"``."""
        return self.audio_shape if modality == "a" else self.frame_shape

    def depth(self, modality: str) -> int:
        return self.audio_depth if modality == "a" else self.visual_depth

    def as_json(self) -> dict[str, Any]:
        return {"format": STORE_FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> StoreInfo:
        plain = {key: value for key, value in values.items() if key != "format"}
        for name in ("classes", "audio_shape", "frame_shape", "frame_mean", "frame_std", "grid", "notes"):
            plain[name] = tuple(plain[name])
        plain["counts"] = {split: tuple(counts) for split, counts in plain["counts"].items()}
        return cls(**plain)


@dataclass(frozen=True)
class Store:
    """An opened store: its info and read-only memory maps."""

    folder: Path
    info: StoreInfo
    audio: Mapping[str, npt.NDArray[np.float32]]
    frames: Mapping[str, npt.NDArray[np.uint8]]

    def samples(self, split: str) -> list[tuple[str, str]]:
        """(video id, second) of each row of a split."""
        with (self.folder / split / "samples.csv").open(newline="", encoding="utf-8") as file:
            rows = csv.reader(file)
            next(rows)
            return [(row[0], row[1]) for row in rows]

    def recompute_fingerprint(self) -> str:
        """The fingerprint of what lies on disk now; reads every byte."""
        return fingerprint_of(self.folder, self.info)


def available(data: Path) -> list[str]:
    """Names of the stores under the data folder."""
    if not data.is_dir():
        return []
    return sorted(p.name for p in data.iterdir() if (p / "store.json").is_file() and p.name[0] != ".")


def read_info(data: Path, name: str) -> StoreInfo:
    """The info of a store, without opening its arrays.

    Raises:
        StoreError: absent, unreadable, or of another format version.
    """
    path = data / name / "store.json"
    if name not in available(data):  # names come from sets of others too: one folder below, and nowhere else
        raise StoreError(f"no store {name!r} under {data}/; {nearest(name, available(data))}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = values["format"]
        if found == STORE_FORMAT:
            info = StoreInfo.from_json(values)
            check_description(info, SPLITS)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(f"{path} is not a store description ({error}); prepare {name!r} again.") from None
    if found != STORE_FORMAT:
        raise StoreError(
            f"{path} has store format {found!r}, this avbench reads format {STORE_FORMAT}; prepare {name!r} again."
        )
    if info.name != name:
        raise StoreError(f"{path} describes {info.name!r}: a store is found by its folder, give it that name again.")
    return info


def open_store(data: Path, name: str) -> Store:
    """Open a store by name and check that its arrays are whole.

    Raises:
        StoreError: absent, of another format version, or an array that is missing, truncated or misshapen.
    """
    while True:
        info = read_info(data, name)
        try:
            found, broken = _open(data / name, info), None
        except StoreError as error:
            broken = error
        if read_info(data, name).fingerprint == info.fingerprint:
            break  # else it was prepared anew while it was being opened
    if broken is not None:
        raise broken
    return found


def _open(folder: Path, info: StoreInfo) -> Store:
    """Map the arrays that ``info`` promises.

    Raises:
        StoreError: see :func:`open_store`.
    """
    name, audio, frames = info.name, {}, {}
    for split in info.counts:
        n = info.size(split)
        audio[split] = _map(folder / split / "audio.npy", (n, *info.audio_shape), np.dtype(np.float32), name)
        frames[split] = _map(folder / split / "frames.npy", (n, *info.frame_shape), np.dtype(np.uint8), name)
        if not (folder / split / "samples.csv").is_file():
            raise StoreError(f"{folder / split / 'samples.csv'} is missing; prepare {name!r} again.")
    return Store(folder, info, audio, frames)


def _map(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> npt.NDArray[Any]:
    try:
        if 0 in shape:
            return np.zeros(shape, dtype)
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # on a damaged header numpy's parser raises almost anything
        raise StoreError(f"{path} can't be read ({error}); prepare {name!r} again.") from None
    if array.shape != shape or array.dtype != dtype:
        raise StoreError(
            f"{path} holds {array.dtype} {array.shape}, store.json promises {dtype} {shape}; prepare {name!r} again."
        )
    return array


def fingerprint_of(folder: Path, info: StoreInfo) -> str:
    """SHA-256 over what a result depends on: classes, sizes, normalisation, network plan, every sample's bytes."""
    facts = {
        "format": STORE_FORMAT,
        "classes": info.classes,
        "counts": info.counts,
        "shapes": [info.audio_shape, info.frame_shape],
        "normalisation": [info.audio_mean, info.audio_std, info.frame_mean, info.frame_std],
        "networks": [info.visual_depth, info.audio_depth, info.grid],
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for split in sorted(info.counts):
        for name in ("audio.npy", "frames.npy", "samples.csv"):
            path = folder / split / name
            if path.is_file():
                digest.update(f"{split}/{name}".encode())
                with path.open("rb") as file:
                    while chunk := file.read(_HASH_CHUNK_BYTES):
                        digest.update(chunk)
    return digest.hexdigest()


def class_offsets(counts: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """(first row, one past the last row) of each class."""
    start = 0
    for count in counts:
        yield start, start + count
        start += count
