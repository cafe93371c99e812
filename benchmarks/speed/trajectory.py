"""What matching a trajectory costs: the adjoint and TESLA's form against a plain unroll that keeps every graph.

Command: ``python benchmarks/speed/trajectory.py [--device cuda] [--data DIR]``. Three tables:

memory   peak of one iteration above what lay in memory before it, at 2 and at 20 inner steps; on a CPU the peak
         resident size of a process of its own, on a GPU torch's count. The unroll at 20 steps, on a CPU tens of GiB, is
         left out there
time     seconds of one iteration, medians
error    of the truncated gradient against the exact one, on experts of the store ``avdigits``, where --data has it

Sizes are the paper's: ConvNet 128 wide, log-mel 128 × 56 in batches of 20 and frames 224 × 224 in batches of 5 (AVDD,
Table 9). On a CPU, times are of smaller batches (--batch); run it as workers run, with MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ at 4294967296.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.api import (
    Augmentation,
    Classifier,
    InnerStep,
    StoreInfo,
    Streams,
    Student,
    TrainSet,
    decode,
    inner_steps,
    match_trajectory,
    open_store,
)
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig

OPS = "color_crop_cutout_flip_scale_rotate"
PAPER = StoreInfo(
    name="paper", dataset="", dataset_version=1, classes=tuple("0123456789"), counts={}, audio_shape=(1, 128, 56),
    frame_shape=(3, 224, 224), audio_mean=0.0, audio_std=1.0, frame_mean=(0.0,) * 3, frame_std=(1.0,) * 3,
    visual_depth=5, audio_depth=3, grid=(7, 7), preset="paper", sample_rate_hz=11000, audio_transform={}, licence="",
    citation="",
)  # fmt: skip
#: Samples of an inner step, by modality (AVDD, Table 9, IPC 1).
BATCH = {"a": 20, "v": 5}
Gradients = tuple[Tensor, Tensor]


def unrolled(
    student: Student, items: Tensor, step_size: float, steps: Sequence[InnerStep], start: Tensor, target: Tensor
) -> Gradients:
    """MTT as published: one graph over all steps, differentiated at its end."""
    x, beta = items.clone().requires_grad_(True), torch.tensor(step_size, device=items.device, requires_grad=True)
    theta = start.clone().requires_grad_(True)
    for step in steps:
        rows = torch.from_numpy(step.rows).to(items.device)
        logits = student.network.logits(student.network.unflatten(theta), step.transform(decode(x[rows], 1)))
        loss = F.cross_entropy(logits, student.labels[rows])
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - beta * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    over_items, over_step = torch.autograd.grad(loss, [x, beta])
    return over_items, over_step


def matched(exact: bool) -> Callable[..., Gradients]:
    """The adjoint, or TESLA's form, as a function of the same arguments."""

    def gradients(*arguments: object) -> Gradients:
        found = match_trajectory(*arguments, exact=exact)  # type: ignore[arg-type]
        return found.items, found.step_size

    return gradients


WAYS: dict[str, Callable[..., Gradients]] = {
    "adjoint": matched(True), "truncated": matched(False), "unrolled": unrolled,
}  # fmt: skip


def problem(modality: str, steps: int, batch: int, device: str) -> tuple[object, ...]:
    """Random items at the paper's size, one batch of them a step."""
    torch.manual_seed(0)
    network = Classifier(ConvNetArchitecture(ConvNetConfig()), PAPER, modality).to(device)
    start = network.flatten(network.draw(Streams(0), "benchmark", step=0)).to(device)
    items = torch.randn(batch, *PAPER.shape(modality), device=device)
    student = Student(network, torch.arange(batch, device=device) % 10, 1, 256)
    inner = inner_steps(np.random.default_rng(0), steps, batch, batch, 1, Augmentation(OPS))
    return student, items, 1e-3, inner, start, start + 0.01 * torch.randn_like(start)


def peak_mib(way: str, modality: str, steps: int, batch: int, device: str) -> float:
    """Peak memory of one iteration above what was there before it."""
    if device == "cuda":
        given = problem(modality, steps, batch, device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        WAYS[way](*given)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    arguments = [sys.executable, __file__, "--one", way, modality, str(steps), str(batch)]
    # Freed blocks go back to the system at once, or the peak would show what the allocator hoards.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def one(way: str, modality: str, steps: int, batch: int) -> None:
    """In a process of its own: print the peak of one iteration, in MiB."""
    torch.set_num_threads(1)
    small = problem(modality, 1, 1, "cpu")
    WAYS[way](*small)  # what torch sets up at the first call
    given = problem(modality, steps, batch, "cpu")
    before = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    WAYS[way](*given)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before) / 2**20)


def memory(device: str) -> None:
    """The table of peaks."""
    print("peak memory of an iteration, MiB")
    for modality, batch in BATCH.items():
        for way in WAYS:
            few = peak_mib(way, modality, 2, batch, device)
            line = f"  {modality} {way:9}  {batch} samples a step  T=2 {few:8.0f}"
            if way != "unrolled" or device == "cuda":
                many = peak_mib(way, modality, 20, batch, device)
                line += f"  T=20 {many:8.0f}  ratio {many / few:.3f}"
            print(line, flush=True)


def seconds(way: Callable[..., Gradients], given: tuple[object, ...], device: str) -> float:
    """The time of an iteration; on a CPU the processor's, which others on the machine do not lengthen."""
    clock = time.perf_counter if device == "cuda" else time.process_time
    began = clock()
    way(*given)
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - began


def speed(device: str, batch: int, repeat: int) -> None:
    """The table of times: medians of rounds in which the ways take turns."""
    print(f"seconds of an iteration, T = 10, {batch} samples a step")
    for modality in "av":
        given = problem(modality, 10, batch, device)
        rounds = [{name: seconds(way, given, device) for name, way in WAYS.items()} for _ in range(repeat + 1)]
        found = {name: statistics.median(each[name] for each in rounds[1:]) for name in WAYS}  # the first warms up
        ratios = "  ".join(f"{n} {s:.3f} (×{s / found['unrolled']:.2f})" for n, s in found.items())
        print(f"  {modality} {ratios}", flush=True)


def trained(train: TrainSet, network: Classifier, epochs: int) -> list[Tensor]:
    """A short trajectory by plain SGD, rate 0.01, batch 32."""
    theta, found = network.flatten(network.draw(Streams(0), "benchmark", step=0)), []
    for epoch in range(epochs + 1):
        found.append(theta)
        order = np.random.default_rng(epoch).permutation(len(train))
        for rows in np.array_split(order, len(order) // 32):
            at = theta.detach().requires_grad_(True)
            x = train.batch(rows, network.modality)[network.modality]
            loss = F.cross_entropy(network.logits(network.unflatten(at), x), train.labels[torch.from_numpy(rows)])
            theta = theta - 0.01 * torch.autograd.grad(loss, at)[0]
    return found


def truncation(data: Path) -> None:
    """The table of the truncated gradient's relative errors, in the Euclidean norm."""
    store = open_store(data, "avdigits")
    train = TrainSet(store, torch.device("cpu"), torch.float64)
    rows = np.concatenate([train.class_rows(c)[:10] for c in range(10)])
    print("error of the truncated gradient: items (step size); avdigits, width 16, IPC 10, batches of 20")
    for modality in "av":
        network = Classifier(ConvNetArchitecture(ConvNetConfig(width=16)), store.info, modality).double()
        points = [theta.double() for theta in trained(train, network, 2)]
        student = Student(network, torch.arange(10).repeat_interleave(10), 1, 256)
        items = train.batch(rows, modality)[modality]
        for steps in (5, 10, 20):
            inner = inner_steps(np.random.default_rng(0), steps, 100, 20, 1, Augmentation(OPS))
            cells = []
            for step_size in (1e-4, 1e-3, 1e-2, 1e-1, 0.5):
                true, cut = (
                    match_trajectory(student, items, step_size, inner, points[0], points[2], exact=exact)
                    for exact in (True, False)
                )
                of_items = float((cut.items - true.items).norm() / true.items.norm())
                of_step = float(abs(cut.step_size - true.step_size) / abs(true.step_size))
                cells.append(f"β={step_size:g}: {of_items:.2%} ({of_step:.2%})")
            print(f"  {modality} T={steps:2}  " + "  ".join(cells))


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--batch", type=int, default=2, help="samples of a training step where times are taken")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--data", type=Path, help="a folder of stores that has avdigits")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        way, modality, steps, batch = given.one
        one(way, modality, int(steps), int(batch))
        return
    torch.set_num_threads(1)
    memory(given.device)
    speed(given.device, given.batch, given.repeat)
    if given.data:
        truncation(given.data)


if __name__ == "__main__":
    main()
