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
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avbench.data.description import check_description
from avbench.errors import RequestError, StoreError, nearest

#: Raise it when the layout above changes; older stores are then refused with a request to prepare them again.
STORE_FORMAT = 1
SPLITS = ("train", "val", "test")
_HASH_CHUNK_BYTES = 1 << 24
#: Names that no folder can have on Windows.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(10))}


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
        return _fingerprint(self.folder, self.info)


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
    info = read_info(data, name)
    folder = data / name
    audio, frames = {}, {}
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


class StoreWriter:
    """Fills a store row by row and puts it in place only when it is whole.

    Rows may arrive in any order; row ``r`` of a split belongs to the class that ``info.counts`` implies.
    """

    def __init__(self, data: Path, info: StoreInfo) -> None:
        check_name(info.name)
        self.info = info
        self.target = data / info.name
        self.folder = data / f".{info.name}.building-{os.getpid()}"
        shutil.rmtree(self.folder, ignore_errors=True)
        self._maps: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]] = {}
        self._ids: dict[str, list[tuple[str, str] | None]] = {}
        for split in info.counts:
            n = info.size(split)
            (self.folder / split).mkdir(parents=True)
            self._ids[split] = [None] * n
            if n:
                audio = _create(self.folder / split / "audio.npy", np.float32, (n, *info.audio_shape))
                frames = _create(self.folder / split / "frames.npy", np.uint8, (n, *info.frame_shape))
                self._maps[split] = (audio, frames)

    def put(
        self,
        split: str,
        row: int,
        audio: npt.NDArray[np.float32],
        frame: npt.NDArray[np.uint8],
        video: str,
        second: str = "",
    ) -> None:
        """Write one sample: audio (1, mels, frames) in dB, frame (channels, height, width)."""
        maps = self._maps[split]
        maps[0][row], maps[1][row] = audio, frame
        self._ids[split][row] = (video, second)

    def finish(self) -> Store:
        """Compute the fingerprint, put the store in place and open it.

        Raises:
            StoreError: a row was never written.
        """
        rows = {split: [row for row in ids if row is not None] for split, ids in self._ids.items()}
        for split, written in rows.items():
            if len(written) < self.info.size(split):
                raise StoreError(
                    f"{self.info.name}: {len(written)} of {self.info.size(split)} rows of {split} were "
                    "written; the dataset plugin must put every row before finish()."
                )
        for audio, frames in self._maps.values():
            audio.flush()  # type: ignore[attr-defined]
            frames.flush()  # type: ignore[attr-defined]
        self._maps.clear()
        for split, ids in rows.items():
            with (self.folder / split / "samples.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([("video", "second"), *ids])
        info = replace(self.info, fingerprint=_fingerprint(self.folder, self.info))
        text = json.dumps(info.as_json(), indent=2, ensure_ascii=False)
        (self.folder / "store.json").write_text(text + "\n", encoding="utf-8")
        aside = self.target.with_name(f".{info.name}.old-{os.getpid()}")
        if self.target.exists():
            self.target.rename(aside)
        self.folder.rename(self.target)
        shutil.rmtree(aside, ignore_errors=True)
        return open_store(self.target.parent, info.name)

    def discard(self) -> None:
        """Remove what was written so far."""
        self._maps.clear()
        shutil.rmtree(self.folder, ignore_errors=True)


def _create(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)


def check_name(name: str) -> None:
    """Refuse what can't name the folder of a store on every system.

    Raises:
        RequestError: signs that mean something in a path, or the name of a device of Windows.
    """
    if name.partition(".")[0].lower() in _DEVICES:
        raise RequestError(f"dataset name {name!r}: on Windows this is a device; use another name.")
    allowed = name and name[0].isalnum() and all(ch.isalnum() or ch in "-_." for ch in name)
    if not (allowed and name.isascii() and len(name) <= 64):
        raise RequestError(
            f"dataset name {name!r}: use up to 64 ASCII letters, digits, '-', '_' and '.', the first one no sign."
        )


def _fingerprint(folder: Path, info: StoreInfo) -> str:
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
