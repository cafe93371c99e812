"""Batches that are read while the one before is embedded, against batches that are read when they are needed.

Command: ``python benchmarks/speed/streaming.py --clips 4000 --folder /somewhere/on/the/disk``. A store at the paper's
sizes is generated; each of several rounds draws the real side of dm for a few steps, in turn with and without reading
ahead, from a cold page cache (the store's files are dropped from it) and from a warm one. Times are of one step; those
of the processor hold on a busy machine as well: what reading ahead takes off the stepping thread is its gain where a
core is free, and what it adds to all threads its cost.
Where a batch is read from a network or a slow disk, or embedded on a GPU, the difference is larger than on a CPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from memory import CLASSES, NAME, write
from tabulate import tabulate

from avbench.api import Context, RealSide, Setting, Store, Streams, TrainSet, open_store
from avbench.data.samples import Rows
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig


class Unhinted(TrainSet):
    """A training split that reads nothing ahead."""

    def prefetch(self, rows: Rows, modality: str) -> None:
        pass


def drop(folder: Path) -> None:
    """Make the kernel forget the files, so that they are read from the disk again."""
    for path in folder.rglob("*.npy"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def side(store: Store, train: TrainSet, device: torch.device, width: int) -> RealSide:
    """The real side of dm on visual and audio, 32 real samples a class."""
    context = Context(
        setting=Setting(store.info, 1, "av", "paper"),
        train=train,
        streams=Streams(0),
        architecture=ConvNetArchitecture(ConvNetConfig(width=width)),
        prerequisites={},
        device=device,
        dtype=torch.float32,
        micro_batch=64,
        classes=tuple(range(CLASSES)),
    )
    return RealSide(context, 32, "color_crop_cutout_flip_scale_rotate", False)


def step_s(
    folder: Path, hinted: bool, cold: bool, first: int, steps: int, device: torch.device, width: int
) -> tuple[float, float, float]:
    """Seconds of one step: on the clock, of the stepping thread, of all threads.

    Every run asks for rows of its own, which are cold unless the cache is warmed first.
    """
    if cold:
        drop(folder)
    store = open_store(folder, NAME)  # maps anew: pages that are mapped are never dropped
    train = (TrainSet if hinted else Unhinted)(store, device)
    train._resident.clear()  # on a GPU this small store would live there
    if not cold:
        for array in train._arrays.values():
            for start in range(0, len(array), 256):
                np.asarray(array[start : start + 256]).max()
    drawn = side(store, train, device, width)
    clocks = (time.perf_counter, time.thread_time, time.process_time)
    began = [clock() for clock in clocks]
    for k in range(first, first + steps):
        drawn.at(k).means["v"].sum().item()
    clock_s, stepping_s, all_s = ((clock() - start) / steps for clock, start in zip(clocks, began, strict=True))
    return clock_s, stepping_s, all_s


def main() -> None:
    """Time both ways, cold and warm, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=4000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--width", type=int, default=4, help="of the ConvNet: narrow ones let reading weigh more")
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = Path(tempfile.mkdtemp(dir=given.folder))
    times: dict[tuple[bool, bool], list[tuple[float, float, float]]] = {
        (cold, hint): [] for cold in (True, False) for hint in (True, False)
    }
    try:
        write(folder, given.clips)
        for turn in range(given.rounds):
            for (cold, hint), found in times.items():
                found.append(step_s(folder, hint, cold, turn * given.steps, given.steps, device, given.width))
            print(f"round {turn + 1} of {given.rounds}", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for cold in (True, False):
        for hint in (True, False):
            way = f"{'cold' if cold else 'warm'}, {'read ahead' if hint else 'read in turn'}"
            found = list(zip(*times[cold, hint], strict=True))
            rows.append([way, *(statistics.median(each) for each in found), min(found[0]), max(found[0])])
    print(f"{device}, ConvNet {given.width} wide, {CLASSES * 32} real samples a step, {given.rounds} rounds")
    print(tabulate(rows, ["", "clock, s", "stepping thread, s", "all threads, s", "least", "most"], floatfmt=".3f"))


if __name__ == "__main__":
    main()
