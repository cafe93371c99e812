"""Evaluating several networks on one CPU thread: trained one after another against trained together, and the test set.

Command: ``python benchmarks/speed/evaluating.py`` (run it as workers run, with MALLOC_MMAP_THRESHOLD_ and
MALLOC_TRIM_THRESHOLD_ at 4294967296). *Together*: parameters of K networks stacked and mapped over with
torch.func.vmap, each network with its own order and augmentation, one Adam over the stacks, which is K Adams. Both
make the same draws. *Test*: one pass over 600 test samples, how much of it is reading and normalising, which all
networks could share.

Measured with torch 2.11 on one thread of a busy 2-core x86 machine, the best of 3 in seconds of CPU time:

====================  ========  ==========  ========  =====================  =======================
size                  networks  one by one  together  apart after training   test: reading, networks
====================  ========  ==========  ========  =====================  =======================
quick, ipc 1 (50 ep)  3         1.38 s      1.28 s    3e-5 of the way        8.4 ms, 283 ms
quick, ipc 10 (12)    3         2.29 s      2.56 s    5e-3                   1.6 ms, 289 ms
medium, ipc 1 (6)     5         2.96 s      3.49 s    7e-4                   34 ms, 5415 ms
====================  ========  ==========  ========  =====================  =======================

Neither is kept. Together gains 7 % in one case, loses 12 and 18 % in the others (stacked convolutions become grouped
ones, which a CPU does no faster), and does not end where one by one ends: grouped convolutions round otherwise and
Adam makes much of it. Reading the test split is 3 % of a pass at most. On a GPU this was not measured.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from avbench.data.samples import TensorSamples, TestSet
from avbench.data.store import Store, StoreInfo
from avbench.data.store_writer import StoreWriter
from avbench.dataset import NoOptions
from avbench.distill.augment import Augmentation
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.nets.fusion import Ensemble
from avbench.protocols.network import Network
from avbench.protocols.recognition import RecognitionConfig, Training
from avbench.randomness import Streams

CPU = torch.device("cpu")
CLASSES, TEST_A_CLASS = 10, 60


@dataclass(frozen=True)
class Size:
    """A data set's sizes, a set of ``items`` and how it is judged."""

    name: str
    audio: tuple[int, int, int]
    frames: tuple[int, int, int]
    depth: int
    width: int
    items: int
    networks: int
    epochs: int


SIZES = (
    Size("quick, ipc 1", (1, 32, 56), (1, 32, 32), 3, 16, 10, 3, 50),
    Size("quick, ipc 10", (1, 32, 56), (1, 32, 32), 3, 16, 100, 3, 12),
    Size("medium, ipc 1", (1, 128, 56), (3, 64, 64), 3, 64, 10, 5, 6),
)


def make_store(size: Size, data: Path) -> Store:
    """A store of noise with as many test samples a class as ``TEST_A_CLASS``."""
    counts = {"train": (1,) * CLASSES, "val": (0,) * CLASSES, "test": (TEST_A_CLASS,) * CLASSES}
    info = StoreInfo(
        name="noise",
        dataset="noise",
        dataset_version=1,
        classes=tuple(str(c) for c in range(CLASSES)),
        counts=counts,
        audio_shape=size.audio,
        frame_shape=size.frames,
        audio_mean=-40.0,
        audio_std=15.0,
        frame_mean=(0.5,) * size.frames[0],
        frame_std=(0.25,) * size.frames[0],
        visual_depth=size.depth,
        audio_depth=size.depth,
        grid=(4, 4),
        preset="quick",
        sample_rate_hz=8000,
        audio_transform={},
        licence="",
        citation="",
    )
    rng, writer = np.random.default_rng(0), StoreWriter(data, info)
    for split in ("train", "test"):
        for row in range(info.size(split)):
            sound = rng.normal(-40, 15, size.audio).astype(np.float32)
            writer.put(split, row, sound, rng.integers(0, 256, size.frames, dtype=np.uint8), f"{split}{row}")
    return writer.finish()


def network(size: Size, info: StoreInfo, index: int) -> Network:
    """Evaluation network ``index``."""
    architecture = ConvNetArchitecture(ConvNetConfig(width=size.width))
    return Network(info, "av", architecture, Ensemble(NoOptions()), Streams(0), index, CPU, torch.float32)


class Whole(nn.Module):
    """Encoders and head as one module, whose output is the training loss."""

    def __init__(self, parts: Network) -> None:
        super().__init__()
        self.encoders, self.head = nn.ModuleDict(parts.encoders), parts.head

    def forward(self, a: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        loss: Tensor = self.head.loss({"a": self.encoders["a"](a), "v": self.encoders["v"](v)}, labels)  # type: ignore[operator]
        return loss


def one_by_one(
    config: RecognitionConfig, size: Size, info: StoreInfo, samples: TensorSamples
) -> list[dict[str, Tensor]]:
    """As the protocol does."""
    found = []
    for index in range(size.networks):
        work = Training(config, samples, network(size, info, index), Streams(0), index)
        for epoch in range(size.epochs):
            work.step(epoch)
        found.append({name: t.detach() for name, t in Whole(work.network).named_parameters()})
    return found


def together(config: RecognitionConfig, size: Size, info: StoreInfo, samples: TensorSamples) -> list[dict[str, Tensor]]:
    """All at once."""
    modules = [Whole(network(size, info, index)) for index in range(size.networks)]
    stacked, _ = stack_module_state(modules)  # type: ignore[arg-type]
    rates = {"a": config.lr_audio, "v": config.lr_visual}
    groups = [
        {"params": [t for name, t in stacked.items() if name.startswith(f"encoders.{m}.")], "lr": rate}
        for m, rate in rates.items()
    ]
    groups.append(
        {"params": [t for name, t in stacked.items() if name.startswith("head.")], "lr": config.lr_classifier}
    )
    adam = torch.optim.Adam(groups, betas=(0.9, 0.999), weight_decay=config.weight_decay, fused=True)
    full = [group["lr"] for group in adam.param_groups]
    augmentation, streams, base = Augmentation(config.augment), Streams(0), modules[0]

    def loss_of(parameters: Mapping[str, Tensor], a: Tensor, v: Tensor, labels: Tensor) -> Tensor:
        found: Tensor = functional_call(base, dict(parameters), (a, v, labels))
        return found

    losses = vmap(loss_of)
    for epoch in range(size.epochs):
        passed = sum(epoch >= max(1, round(m * size.epochs)) for m in config.milestones)
        for group, rate in zip(adam.param_groups, full, strict=True):
            group["lr"] = rate * config.decay**passed
        rngs = [streams(f"evaluation epoch of network {i}", step=epoch) for i in range(size.networks)]
        orders = [rng.permutation(len(samples)) for rng in rngs]
        for start in range(0, len(samples), config.batch):
            a, v, labels = [], [], []
            for rng, order in zip(rngs, orders, strict=True):
                rows = order[start : start + config.batch]
                transform = augmentation.per_sample(rng, len(rows))
                batch = samples.batch(rows, "av")
                a.append(transform(batch["a"]))
                v.append(transform(batch["v"]))
                labels.append(samples.labels[torch.from_numpy(rows)])
            adam.zero_grad(set_to_none=True)
            losses(stacked, torch.stack(a), torch.stack(v), torch.stack(labels)).sum().backward()
            adam.step()
    return [{name: t[i].detach() for name, t in stacked.items()} for i in range(size.networks)]


def apart(one: list[dict[str, Tensor]], other: list[dict[str, Tensor]], first: list[dict[str, Tensor]]) -> float:
    """How far two trainings end from each other, as a share of how far they went."""
    gap = sum(float((a[n] - b[n]).square().sum()) for a, b in zip(one, other, strict=True) for n in a)
    way = sum(float((a[n] - b[n]).square().sum()) for a, b in zip(one, first, strict=True) for n in a)
    return float((gap / way) ** 0.5)


def test_pass(size: Size, store: Store) -> tuple[float, float]:
    """Seconds of one pass over the test split: reading and normalising, and the rest."""
    test, net = TestSet(store, CPU), network(size, store.info, 0)
    net.train(False)
    reading_s = forward_s = 0.0
    for start in range(0, len(test), 256):
        began = time.perf_counter()
        batch = test.batch(np.arange(start, min(start + 256, len(test))), "av")
        read = time.perf_counter()
        with torch.no_grad():
            net.head.predict(net.embed(batch))
        reading_s, forward_s = reading_s + read - began, forward_s + time.perf_counter() - read
    return reading_s, forward_s


def main() -> None:
    """Print two lines for each size."""
    torch.set_num_threads(1)
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            store = make_store(size, Path(folder))
            rng = torch.Generator().manual_seed(0)
            tensors = {
                "a": torch.randn(size.items, *size.audio, generator=rng),
                "v": torch.randn(size.items, *size.frames, generator=rng),
            }
            samples = TensorSamples(tensors, torch.arange(size.items) % CLASSES)
            config = RecognitionConfig(epochs=size.epochs)
            first = [
                {name: t.detach().clone() for name, t in Whole(network(size, store.info, i)).named_parameters()}
                for i in range(size.networks)
            ]
            times: dict[str, list[float]] = {"one by one": [], "together": []}
            ends = {}
            for _ in range(3):  # alternating: the machine may be shared
                for name, way in (("one by one", one_by_one), ("together", together)):
                    began = time.process_time()
                    ends[name] = way(config, size, store.info, samples)
                    times[name].append(time.process_time() - began)
            gap = apart(ends["one by one"], ends["together"], first)
            shown = "  ".join(f"{name} {min(values):.2f} s" for name, values in times.items())
            print(f"{size.name:15} {size.networks} networks  {shown}  apart {gap:.1e} of the way", flush=True)
            reading_s, forward_s = min((test_pass(size, store) for _ in range(3)), key=sum)
            print(f"{'':15} test: reading {1e3 * reading_s:.1f} ms, networks {1e3 * forward_s:.1f} ms", flush=True)


if __name__ == "__main__":
    main()
