"""Writing a dataset store: sample by sample beside its place, and there only when it is whole."""

from __future__ import annotations

import csv
import json
import math
import os
import shutil
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avbench.data.description import check_name
from avbench.data.placing import NO_ROOM, building_folder, put_in_place, remove, reserve
from avbench.data.store import Store, StoreInfo, fingerprint_of, open_store
from avbench.errors import RequestError, StoreError


class StoreWriter:
    """Fills a store row by row and puts it in place only when it is whole.

    Rows may arrive in any order; row ``r`` of a split belongs to the class that ``info.counts`` implies. A writer that
    is given up, by :meth:`discard` or an error that ends the program, leaves nothing.

    Raises:
        RequestError: the name can't be a folder's, or there is no room for the store.
    """

    def __init__(self, data: Path, info: StoreInfo) -> None:
        check_name(info.name)
        self.info = info
        self.target = data / info.name
        self.folder = building_folder(self.target)
        self._remove = weakref.finalize(self, _remove_own, self.folder, os.getpid())
        self._maps: dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]] = {}
        self._ids: dict[str, list[tuple[str, str] | None]] = {}
        try:
            for split in info.counts:
                self._begin(split, info.size(split))
        except OSError as error:
            self.discard()
            if error.errno not in NO_ROOM:
                raise
            raise _no_room(info, data, error) from None

    def _begin(self, split: str, count: int) -> None:
        (self.folder / split).mkdir(parents=True)
        self._ids[split] = [None] * count
        if count:
            audio = _create(self.folder / split / "audio.npy", np.float32, (count, *self.info.audio_shape))
            frames = _create(self.folder / split / "frames.npy", np.uint8, (count, *self.info.frame_shape))
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
        info = replace(self.info, fingerprint=fingerprint_of(self.folder, self.info))
        text = json.dumps(info.as_json(), indent=2, ensure_ascii=False)
        (self.folder / "store.json").write_text(text + "\n", encoding="utf-8")
        put_in_place(self.folder, self.target)
        self._remove.detach()
        return open_store(self.target.parent, info.name)

    def discard(self) -> None:
        """Remove what was written so far."""
        self._maps.clear()
        self._remove()


def _remove_own(folder: Path, process: int) -> None:
    """Not what a process has inherited: it would take its parent's store away."""
    if os.getpid() == process:
        remove(folder)


def _no_room(info: StoreInfo, data: Path, error: OSError) -> RequestError:
    sample_bytes = 4 * math.prod(info.audio_shape) + math.prod(info.frame_shape)
    needed_bytes = sample_bytes * sum(map(info.size, info.counts))
    free_bytes = shutil.disk_usage(data).free
    return RequestError(
        f"the store {info.name!r} needs {needed_bytes / 1e6:.1f} MB under {data}/, {free_bytes / 1e6:.1f} MB are free "
        f"({error.strerror}); make room and run the same command again."
    )


def _create(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    found = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    reserve(path, path.stat().st_size)
    return found
