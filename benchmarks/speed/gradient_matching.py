"""Memory and time of one step of gradient matching, and of a plain reading of it that keeps one graph for all classes.

Command: ``python benchmarks/speed/gradient_matching.py``; ``--device cuda`` for a GPU, ``--paper`` for the paper's
visual sizes (224 × 224, 128 filters, five blocks, real batch 256). Every row is a process of its own, since a peak
belongs to a process: resident memory above that before the first step on a CPU, allocated memory on a GPU. Seconds
are those of one CPU core, whatever else the machine does, or of the clock on a GPU.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from avbench.api import Augmentation, Context, GradientDraws, Setting, Store, StoreInfo, StoreWriter, Streams, TrainSet
from avbench.api import gradient_distance as distance
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench_methods.dsa import DSAConfig, SiameseCondensation

#: (side, filters, blocks, real batch, ipc)
SIZES = {"reduced": (64, 32, 3, 64, 10), "paper": (224, 128, 5, 256, 10)}
MIB = 2**20


def store(folder: Path, classes: int, size: str) -> Store:
    """Random frames, enough of each class for a real batch."""
    side, _, depth, batch_real, _ = SIZES[size]
    info = StoreInfo(
        name="timed",
        dataset="timed",
        dataset_version=1,
        classes=tuple(f"class {i}" for i in range(classes)),
        counts={"train": (batch_real,) * classes, "val": (1,) * classes, "test": (1,) * classes},
        audio_shape=(1, 8, 8),
        frame_shape=(3, side, side),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.5,) * 3,
        frame_std=(0.5,) * 3,
        visual_depth=depth,
        audio_depth=1,
        grid=(side // 2**depth,) * 2,
        preset="paper",
        sample_rate_hz=8000,
        audio_transform={},
        licence="",
        citation="",
    )
    rng, writer = np.random.default_rng(0), StoreWriter(folder, info)
    for split, counts in info.counts.items():
        for row in range(sum(counts)):
            frame = rng.integers(0, 256, info.frame_shape, dtype=np.uint8)
            writer.put(split, row, np.zeros(info.audio_shape, dtype=np.float32), frame, f"{split}{row}")
    return writer.finish()


def method(folder: Path, classes: int, size: str, micro_batch: int, device: torch.device) -> SiameseCondensation:
    """``dsa`` on frames alone with one outer step."""
    _, width, _, batch_real, ipc = SIZES[size]
    data = store(folder, classes, size)
    context = Context(
        setting=Setting(data.info, ipc, "v", "paper"),
        train=TrainSet(data, device),
        streams=Streams(0),
        architecture=ConvNetArchitecture(ConvNetConfig(width=width)),
        prerequisites={},
        device=device,
        dtype=torch.float32,
        micro_batch=micro_batch,
        classes=tuple(range(classes)),
    )
    return SiameseCondensation(DSAConfig(outer=1, batch_real=batch_real), context)


def plain_step(made: SiameseCondensation, k: int) -> None:
    """The published step: whole batches, the graphs of all classes kept until one backward pass."""
    network, items, context = made.networks["v"], made.items.items["v"], made.context
    network.draw(context.streams, "matching network", k)
    parameters = [p for p in network.parameters() if p.dim() > 1]
    draws = GradientDraws(context, made.config.batch_real, Augmentation(made.config.augment), True)
    loss, ipc = items.new_zeros(()), context.setting.ipc
    for cls in context.classes:
        omega = draws.siamese(k, 0, cls)
        real = omega(context.train.batch(draws.real_rows(k, 0, cls), "v")["v"])  # (B, 3, side, side)
        label = torch.full((len(real),), cls, device=context.device)
        wanted = torch.autograd.grad(F.cross_entropy(network(real), label), parameters)
        mine = omega(items[cls * ipc : (cls + 1) * ipc])  # (ipc, 3, side, side)
        own = F.cross_entropy(network(mine), label[:1].expand(ipc))
        found = torch.autograd.grad(own, parameters, create_graph=True)
        loss = loss + distance(list(found), list(wanted))
    (items.grad,) = torch.autograd.grad(loss, [items])
    made.items.update()


def peak_mib(device: torch.device) -> float:
    """The most memory so far."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(way: str, classes: int, micro_batch: int, size: str, device: torch.device) -> dict[str, float]:
    """Peak memory of three steps, and the seconds of the faster of the last two."""
    torch.set_num_threads(1)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    with tempfile.TemporaryDirectory() as folder:
        made = method(Path(folder), classes, size, micro_batch, device)
        before = 0.0 if device.type == "cuda" else peak_mib(device)
        times = []
        for k in range(3):
            began = clock()
            if way == "plain":
                plain_step(made, k)
            else:
                made.step(k)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            times.append(clock() - began)
        return {"peak": peak_mib(device) - before, "seconds": min(times[1:])}


def main() -> None:
    """Measure one row, or start a process for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--paper", action="store_true", help="the paper's sizes; needs a GPU")
    parser.add_argument("--row", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    size = "paper" if given.paper else "reduced"
    if given.row:
        way, classes, micro_batch = given.row[0], int(given.row[1]), int(given.row[2])
        print(json.dumps(measure(way, classes, micro_batch, size, torch.device(given.device))))
        return
    print("way      classes  micro-batch  peak MiB  s/step  s/class")
    rows = [
        (way, n, m) for way, m in (("plain", 256), ("avbench", 256), ("avbench", 8), ("avbench", 4)) for n in (1, 10)
    ]
    for way, classes, micro_batch in rows:
        call = [sys.executable, __file__, "--device", given.device, "--row", way, str(classes), str(micro_batch)]
        done = subprocess.run(call + ["--paper"] * given.paper, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["killed"]
            print(f"{way:8} {classes:7} {micro_batch:12}  {reason[0][:80]}")
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        each = found["seconds"] / classes
        print(f"{way:8} {classes:7} {micro_batch:12} {found['peak']:9.0f} {found['seconds']:7.2f} {each:8.3f}")


if __name__ == "__main__":
    main()
