"""Memory and seconds of the pieces that distilling is made of, through avbench's own code, at the paper's sizes.

A piece is measured at two small micro-batches, each in a process of its own; a straight line through the two peaks
gives what a sample takes (slope) and what does not depend on samples (fixed). On a CPU a peak is the highest resident
memory above that before the piece was built, on a GPU torch's count. Seconds are those of one CPU core
(``process_time``), or of the clock on a GPU, at the larger micro-batch. Used by budget.py.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.api import (
    Augmentation,
    Classifier,
    Context,
    GradientMatching,
    InnerStep,
    LossWeights,
    RealSide,
    Setting,
    StepDraw,
    Store,
    StoreInfo,
    StoreWriter,
    Streams,
    Student,
    SyntheticItems,
    SyntheticTraining,
    TrainSet,
    open_store,
    weighted_loss,
)
from avbench.nets import fused
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig

#: One of the two costliest of the six published ops, so an upper bound of their mean.
OP = "rotate"
#: The largest head of the four datasets.
CLASSES = 309
#: Rows of the generated store's first class; every other class has one.
ROWS = 64
#: glibc: blocks above this size go back to the system when they are freed, so that the peak is what is in use.
_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

PAPER = StoreInfo(
    name="paper", dataset="", dataset_version=1, classes=(), counts={}, audio_shape=(1, 128, 56),
    frame_shape=(3, 224, 224), audio_mean=0.0, audio_std=1.0, frame_mean=(0.425, 0.396, 0.370),
    frame_std=(0.229, 0.224, 0.221), visual_depth=5, audio_depth=3, grid=(7, 7), preset="paper", sample_rate_hz=11000,
    audio_transform={}, licence="", citation="",
)  # fmt: skip
#: For warming up: what torch sets up at a first call is no part of a piece.
TINY = replace(PAPER, name="tiny", audio_shape=(1, 16, 16), frame_shape=(3, 32, 32), grid=(1, 1))


@dataclass(frozen=True)
class Piece:
    """What a piece takes: bytes a sample, bytes beside that, seconds a sample."""

    slope: float
    fixed: float
    seconds: float

    def bytes(self, samples: int) -> float:
        """Peak at so many samples at once. ConvNet sends a single sample twice."""
        return self.fixed + self.slope * max(2, samples)


def sized(info: StoreInfo, counts: tuple[int, ...]) -> StoreInfo:
    """A description with so many training samples a class, and one to validate and test."""
    ones = (1,) * len(counts)
    classes = tuple(f"class {i}" for i in range(len(counts)))
    return replace(info, classes=classes, counts={"train": counts, "val": ones, "test": ones})


def generated(folder: Path, info: StoreInfo) -> Store:
    """A store of random samples."""
    rng, writer = np.random.default_rng(0), StoreWriter(folder, info)
    for split in info.counts:
        for row in range(info.size(split)):
            frame = rng.integers(0, 256, info.frame_shape, dtype=np.uint8)
            audio = rng.standard_normal(info.audio_shape).astype(np.float32)
            writer.put(split, row, audio, frame, f"{split}{row}")
    return writer.finish()


def stores(folder: Path) -> None:
    """The stores that pieces read: at the paper's sizes, and tiny."""
    for info in (PAPER, TINY):
        generated(folder, sized(info, (ROWS,) + (1,) * (CLASSES - 1)))


def context_of(
    store: Store, modality: str, ipc: int, micro_batch: int, device: torch.device, **changed: Any
) -> Context:
    """A context as a worker makes it."""
    plain = Context(
        setting=Setting(store.info, ipc, modality, "paper"),
        train=TrainSet(store, device),
        streams=Streams(0),
        architecture=ConvNetArchitecture(ConvNetConfig()),
        prerequisites={},
        device=device,
        dtype=torch.float32,
        micro_batch=micro_batch,
        classes=tuple(range(len(store.info.classes))),
    )
    return replace(plain, **changed)


class Bench:
    """``count`` samples of one modality in one micro-batch, and what passes over them."""

    def __init__(self, store: Store, modality: str, count: int, device: torch.device) -> None:
        self.name, self.count, self.device = modality, count, device
        self.context = context_of(store, modality, count, count, device, classes=(0,))
        self.network = Classifier(self.context.architecture, store.info, modality).to(device).train(False)
        self.theta = self.network.draw(Streams(0), "benchmark", step=0)
        self.items = torch.randn(count, *store.info.shape(modality), device=device)
        self.labels = torch.zeros(count, dtype=torch.int64, device=device)
        self.rng = np.random.default_rng(0)
        self.augmentation = Augmentation(OP)

    def forward(self) -> Callable[[], object]:
        """Real embeddings of distribution matching: no graph, as many classes of one sample."""
        context = replace(self.context, classes=tuple(range(self.count)))
        real, turn = RealSide(context, 1, OP, False), iter(range(1000))
        return lambda: real.at(next(turn))

    def gradient(self) -> Callable[[], object]:
        """Gradient of a real batch with respect to the matched parameters."""
        matching, omega = GradientMatching(self.context, self.network, 1), self.augmentation.siamese(self.rng)
        return lambda: matching.real(self.theta, np.arange(self.count), 0, omega)

    def second(self) -> Callable[[], object]:
        """Gradient matching's synthetic side: through the gradient, with respect to the items."""
        matching, omega = GradientMatching(self.context, self.network, 1), self.augmentation.siamese(self.rng)
        wanted = [torch.randn_like(p) for p in self.theta.values() if p.dim() > 1]
        return lambda: matching.match(self.theta, self.items, 0, omega, wanted)

    def train(self) -> Callable[[], object]:
        """A step of a network's training."""
        training = SyntheticTraining(self.network, 1, self.augmentation, 0.01, self.count, self.count)
        return lambda: training.epoch(self.theta, self.items, self.labels, self.rng)

    def _student(self) -> tuple[Student, Tensor, InnerStep]:
        step = InnerStep(np.arange(self.count), self.augmentation.per_sample(self.rng, self.count))
        return Student(self.network, self.labels, 1, self.count), self.network.flatten(self.theta), step

    def inner(self) -> Callable[[], object]:
        """A step of trajectory matching on the way to θ_T."""
        student, theta, step = self._student()
        return lambda: student.gradient(theta, self.items, step)

    def adjoint(self) -> Callable[[], object]:
        """The same step on the way back."""
        student, theta, step = self._student()
        back = torch.randn_like(theta)
        return lambda: student.pull_back(theta, self.items, step, back, True)

    def embed(self) -> Callable[[], object]:
        """Distribution matching's synthetic side: forward and backward to the items."""
        items = SyntheticItems(self.context, {self.name: self.items}, 1, {self.name: 0.2}, 0.5)
        encoder = self.context.architecture.build(self.context.setting.dataset, self.name).to(self.device)
        means = {self.name: torch.zeros(1, encoder.embedding_dim, device=self.device)}
        draw = StepDraw({self.name: encoder.requires_grad_(False)}, [self.augmentation.siamese(self.rng)], means)
        return lambda: items.match(draw, lambda R, S: weighted_loss(R, S, LossWeights()))


PIECES = ("forward", "gradient", "second", "train", "inner", "adjoint", "embed")


def status_bytes(field: str) -> int:
    """A size out of what the kernel says of this process: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def peak_of(build: Callable[[], Callable[[], object]], device: torch.device) -> tuple[float, Callable[[], object]]:
    """The peak of building something and doing it once, above what was there before; and the doing of it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    else:
        before = status_bytes("VmRSS")
    act = build()
    act()
    highest = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status_bytes("VmHWM")
    return float(highest - before), act


def seconds_of(act: Callable[[], object], device: torch.device, rounds: int = 2) -> float:
    """The fastest of some rounds, after one that warms up. On a CPU freed memory is kept, as workers keep it."""
    if device.type == "cpu":
        libc = ctypes.CDLL(None)
        for parameter in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD):
            libc.mallopt(parameter, (1 << 31) - 1)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    found = []
    for _ in range(rounds + 1):
        began = clock()
        act()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(clock() - began)
    return min(found[1:])


def as_a_worker() -> None:
    """Threads and determinism as in avbench/worker.py; plain layers, which are what a GPU runs, on a CPU, too."""
    fused._LEAST_BYTES = 1 << 62  # a CPU's own blocks keep a fraction of it: a card's peak would come out too small
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def measure_one(folder: Path, modality: str, name: str, count: int, timed: bool, device: torch.device) -> None:
    """In a process of its own: print the peak in bytes and the seconds of one pass."""
    as_a_worker()
    getattr(Bench(open_store(folder, "tiny"), modality, 2, device), name)()()
    store = open_store(folder, "paper")

    def build() -> Callable[[], object]:
        act: Callable[[], object] = getattr(Bench(store, modality, count, device), name)()
        return act

    peak, act = peak_of(build, device)
    print(json.dumps({"peak": peak, "seconds": seconds_of(act, device) if timed else 0.0}))


def in_a_process(script: str, *arguments: str) -> dict[str, Any]:
    """Run a script of this folder in a process that gives freed memory back; the JSON of its last line."""
    environment = {**os.environ, **_GIVE_BACK, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    done = subprocess.run(
        [sys.executable, script, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(folder: Path, sizes: tuple[int, int], device: str) -> dict[str, dict[str, Piece]]:
    """All pieces by modality and name."""
    stores(folder)
    few, many = sizes
    found: dict[str, dict[str, Piece]] = {"a": {}, "v": {}}
    for modality, pieces in found.items():
        for name in PIECES:
            low, high = (
                in_a_process(__file__, str(folder), modality, name, str(count), str(int(count == many)), device)
                for count in sizes
            )
            slope = (high["peak"] - low["peak"]) / (many - few)
            pieces[name] = Piece(slope, max(0.0, low["peak"] - slope * few), high["seconds"] / many)
            print(f"{modality} {name}: {asdict(pieces[name])}", file=sys.stderr, flush=True)
    return found


def pieces_from(values: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, Piece]]:
    """Pieces as they were written to JSON."""
    return {modality: {name: Piece(**p) for name, p in pieces.items()} for modality, pieces in values.items()}


if __name__ == "__main__":
    measure_one(
        Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5] == "1", torch.device(sys.argv[6])
    )
