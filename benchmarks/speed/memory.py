"""Anonymous memory of writing, reading, auditing and distilling a store, as the number of clips grows.

Command: ``python benchmarks/speed/memory.py --clips 4000,8000,16000 --folder /somewhere/with/space``. Each store is
generated at the paper's sizes (frames 3x224x224, log-mel 1x128x56: 0.18 MB a clip), used and removed before the next.
Each use runs in a process of its own, whose RssAnon is sampled every 5 ms. What is mapped from files does not count:
the kernel takes it back when others need it. "Per 1,000" is the slope of a straight line through the peaks; the
highest peak and that slope, where it rises, give the expectation for 165,000 clips, about the size of VGGSound. The
aim is at most 2 GiB. Peaks of the same work differ by some 100 MiB with what the allocator keeps.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from tabulate import tabulate

from avbench.api import Context, Setting, Store, StoreInfo, StoreWriter, Streams, TrainSet, open_store
from avbench.data.audit import audit
from avbench.executors.memory import anonymous_mib
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.options import resolve
from avbench_methods.dm import DistributionMatching

VGGSOUND_CLIPS = 165_000
AIM_MIB = 2048
CLASSES = 20
NAME = "generated"
PHASES = ("write", "read", "audit", "distil")


@contextmanager
def peak() -> Iterator[list[float]]:
    """Anonymous memory in MiB while the block runs: [before, peak]."""
    found, ended = [anonymous_mib(os.getpid())] * 2, threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            found[1] = max(found[1], anonymous_mib(os.getpid()))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def info_of(clips: int) -> StoreInfo:
    """Twenty classes at the paper's sizes, 80 % train."""
    test = clips // (10 * CLASSES)
    return StoreInfo(
        name=NAME,
        dataset=NAME,
        dataset_version=1,
        classes=tuple(f"class {i}" for i in range(CLASSES)),
        counts={"train": (clips // CLASSES - 2 * test,) * CLASSES, "val": (test,) * CLASSES, "test": (test,) * CLASSES},
        audio_shape=(1, 128, 56),
        frame_shape=(3, 224, 224),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.425, 0.396, 0.370),
        frame_std=(0.229, 0.224, 0.221),
        visual_depth=5,
        audio_depth=3,
        grid=(7, 7),
        preset="paper",
        sample_rate_hz=11_000,
        audio_transform={},
        licence="",
        citation="",
    )


def write(data: Path, clips: int) -> None:
    """Fill a store, in which no two clips are equal, and finish it: fingerprint included."""
    info = info_of(clips)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (64, *info.frame_shape), np.uint8)
    audio = rng.uniform(-100, 20, (64, *info.audio_shape)).astype(np.float32)
    writer = StoreWriter(data, info)
    number = 0
    for split in info.counts:
        for row in range(info.size(split)):
            turn = np.uint8(number // 64 % 256)
            writer.put(
                split, row, audio[number % 64] - number / 64, frames[number % 64] ^ turn, f"video{number:09d}", "4"
            )
            number += 1
    writer.finish()


def read(store: Store) -> None:
    """Every class of train once, in batches of 128, the next one read ahead."""
    train = TrainSet(store, torch.device("cpu"))
    for cls in range(CLASSES):
        rows = train.class_rows(cls)
        batches = [rows[start : start + 128] for start in range(0, len(rows), 128)]
        for batch, following in zip(batches, [*batches[1:], batches[0]], strict=True):
            train.batch(batch, "av")
            train.prefetch(following, "av")


def check(store: Store) -> None:
    """The whole audit."""
    audit(store, lambda done, total, what: None)


def distil(store: Store, steps: int = 3) -> None:
    """A few steps of dm on both modalities."""
    setting = Setting(store.info, 1, "av", "paper")
    device = torch.device("cpu")
    context = Context(
        setting=setting,
        train=TrainSet(store, device),
        streams=Streams(0),
        architecture=ConvNetArchitecture(ConvNetConfig(width=8)),
        prerequisites={},
        device=device,
        dtype=torch.float32,
        micro_batch=64,
        classes=tuple(range(CLASSES)),
    )
    layers = [(DistributionMatching.defaults(setting), "published"), ({"batch_real": 8, "init": "random"}, "here")]
    method = DistributionMatching(resolve(DistributionMatching.Config, "dm", layers).config, context)
    for k in range(steps):
        method.step(k)


def act(phase: str, data: Path, clips: int) -> None:
    """One use in this process; prints memory before and at its peak in MiB, and seconds."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    with peak() as found:
        if phase == "write":
            write(data, clips)
        else:
            store = open_store(data, NAME)
            acts: dict[str, Callable[[Store], object]] = {"read": read, "distil": distil, "audit": check}
            acts[phase](store)
    print(found[0], found[1], time.perf_counter() - began)


def measure(folder: Path, sizes: list[int]) -> dict[str, list[tuple[float, float, float]]]:
    """(before, peak, seconds) of each phase at each size."""
    found: dict[str, list[tuple[float, float, float]]] = {phase: [] for phase in PHASES}
    for clips in sizes:
        data = Path(tempfile.mkdtemp(dir=folder))
        try:
            for phase in PHASES:
                command = [sys.executable, __file__, "--phase", phase, "--clips", str(clips), "--folder", str(data)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                before, highest, seconds = map(float, done.stdout.split())
                found[phase].append((before, highest, seconds))
                print(f"{clips} clips, {phase}: {highest:.0f} MiB, {seconds:.0f} s", file=sys.stderr, flush=True)
        finally:
            shutil.rmtree(data, ignore_errors=True)
    return found


def main() -> None:
    """Measure every use at every size and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", default="4000,8000,16000", help="sizes, separated by commas")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="where stores may lie")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = [int(part) for part in given.clips.split(",")]
    if given.phase:
        act(given.phase, given.folder, sizes[0])
        return
    rows = []
    for phase, found in measure(given.folder, sizes).items():
        peaks = [highest for _, highest, _ in found]
        slope = float(np.polyfit(np.array(sizes) / 1000, peaks, 1)[0]) if len(sizes) > 1 else 0.0
        expected = max(peaks) + max(slope, 0.0) * (VGGSOUND_CLIPS - max(sizes)) / 1000
        held = "holds" if expected <= AIM_MIB else "FAILS"
        rows.append([phase, found[-1][0], *peaks, slope, f"{expected:.0f} MiB, {held}", found[-1][2]])
    headers = ["", "before", *(f"{n:,} clips" for n in sizes), "per 1,000", f"{VGGSOUND_CLIPS:,} clips", "s, largest"]
    print(f"Peak anonymous memory in MiB; a store of {sizes[-1]:,} clips takes {sizes[-1] * 0.1792:,.0f} MB.")
    print(tabulate(rows, headers, floatfmt=".2f"))


if __name__ == "__main__":
    main()
