"""Peak memory and seconds of whole cells, added up from measured pieces. Used by budget.py, which says more.

Items and their momentum of all classes are held by every method, in the run's precision, and in a step their gradient.
A cell's peak is that of its worst phase; the phases follow the code that is named beside each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, prod
from typing import Any

import torch
from budget_pieces import PAPER, Piece

from avbench import distilled
from avbench.api import Classifier, Prerequisite, Setting, StoreInfo, TrainedNetwork
from avbench.data.samples import _RESIDENT_SHARE  # the rule that is followed here
from avbench.jobs import default_micro_batch
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.options import resolve
from avbench.presets import PRESETS
from avbench.protocols.recognition import Recognition, RecognitionConfig
from avbench_methods.avdd import AudioVisualDistillation
from avbench_methods.dc import DatasetCondensation
from avbench_methods.dm import DistributionMatching
from avbench_methods.dsa import SiameseCondensation
from avbench_methods.experts import Expert
from avbench_methods.mtt import TrajectoryMatching

GIB = 2**30
CARD = 24 * GIB
DECODE_AT_ONCE = distilled._DECODE_AT_ONCE_BYTES
MODALITIES = "av"
IPCS = (1, 10, 20)
METHODS = {
    "dc": DatasetCondensation,
    "dsa": SiameseCondensation,
    "mtt": TrajectoryMatching,
    "dm": DistributionMatching,
    "avdd": AudioVisualDistillation,
}
#: Name, classes, training samples, test samples (AVDD, section 4.1, whose VGGSound is "around 165k/13k").
DATASETS = (
    ("vggs10k", 10, 8808, 444),
    ("ave", 28, 27_726, 3305),
    ("music21", 21, 146_908, 42_440),
    ("vggsound", 309, 165_000, 13_000),
)
Pieces = Mapping[str, Mapping[str, Piece]]


def described(name: str, classes: int, train: int, test: int) -> StoreInfo:
    """A dataset at the paper's sizes, its samples spread evenly over the classes."""

    def spread(count: int) -> tuple[int, ...]:
        return tuple(count // classes + (c < count % classes) for c in range(classes))

    counts = {"train": spread(train), "val": (1,) * classes, "test": spread(test)}
    labels = tuple(f"class {c}" for c in range(classes))
    return replace(PAPER, name=name, dataset=name, classes=labels, counts=counts)


def item_bytes(info: StoreInfo, name: str, precision: torch.dtype = torch.float32) -> int:
    """One item of one modality."""
    return prod(info.shape(name)) * precision.itemsize


def store_bytes(info: StoreInfo, split: str) -> int:
    """A split as it lies on disk: both modalities, whichever is distilled."""
    return info.size(split) * (item_bytes(info, "a") + item_bytes(info, "v", torch.uint8))


def resident(info: StoreInfo, split: str, free: float) -> float:
    """What a split takes of a GPU: all of it or nothing (avbench/data/samples.py, StoreSplit._settle)."""
    size = store_bytes(info, split)
    return float(size) if size <= _RESIDENT_SHARE * free else 0.0


@dataclass(frozen=True)
class Cell:
    """A method at an IPC, with its published defaults.

    Attributes:
        on_gpu: whether a store may be resident; on a CPU none is.
    """

    method: str
    info: StoreInfo
    ipc: int
    pieces: Pieces
    micro_batch: int
    config: Any
    on_gpu: bool = True

    @property
    def classes(self) -> int:
        return len(self.info.classes)

    @cached_property
    def items(self) -> dict[str, int]:
        """Bytes of the items by modality."""
        return {m: self.classes * self.ipc * item_bytes(self.info, m) for m in MODALITIES}

    @property
    def held(self) -> int:
        """Items, gradient and momentum, within a step."""
        return 3 * sum(self.items.values())

    @property
    def between(self) -> int:
        """Items and momentum: SyntheticItems.update lets the gradient go."""
        return 2 * sum(self.items.values())

    @property
    def store(self) -> float:
        return resident(self.info, "train", CARD) if self.on_gpu else 0.0

    @property
    def decoded(self) -> int:
        """Samples that all items decode to."""
        return self.classes * self.ipc * self.config.factor**2

    @property
    def at_once(self) -> int:
        """Samples of as many whole items as a micro-batch of distribution matching holds."""
        cells: int = self.config.factor**2
        return max(1, self.micro_batch // cells) * cells

    def of_class(self) -> int:
        """Real samples of a class in a step."""
        return min(self.config.batch_real, max(self.info.counts["train"]))

    def _peak(self, name: str, modality: str, samples: int) -> float:
        return self.pieces[modality][name].bytes(min(self.micro_batch, samples))

    def phases(self) -> dict[str, float]:
        """Peak of each phase in bytes, the store included."""
        kind = {"dc": self._gradient, "dsa": self._gradient, "mtt": self._trajectory}.get(
            self.method, self._distribution
        )
        everything, largest = sum(self.items.values()), max(self.items.values())
        found = {
            # SyntheticItems clones what initial_items gave, before that is let go.
            "start": 2.0 * everything,
            **kind(),
            # LearnedSet clones the items; _check_set takes isfinite of one modality: |x| and three masks of a byte.
            "finish": self.between + everything + 1.75 * largest,
        }
        return {name: self.store + value for name, value in found.items()}

    @property
    def peak(self) -> float:
        return max(self.phases().values())

    @property
    def worst(self) -> str:
        phases = self.phases()
        return max(phases, key=lambda name: phases[name])

    def _gradient(self) -> dict[str, float]:
        """DatasetCondensation: one class at a time."""
        c, found = self.config, {}
        for m in self.items:
            found[f"real {m}"] = self.held + self._peak("gradient", m, self.of_class())
            found[f"match {m}"] = self.held + self._peak("second", m, self.ipc * c.factor**2)
            if c.outer > 1:
                found[f"train {m}"] = self.held + self._peak("train", m, min(c.batch_train, self.decoded))
        return found

    def _trajectory(self) -> dict[str, float]:
        """match_trajectory: θ_0 … θ_T."""
        found = {}
        for m in self.items:
            points = (self.config.of(m, "inner") + 1) * self._parameters(m)
            batch = min(self.config.of(m, "batch"), self.classes * self.ipc) * self.config.factor**2
            found[f"inner {m}"] = self.held + points + self._peak("inner", m, batch)
            found[f"adjoint {m}"] = self.held + points + self._peak("adjoint", m, batch)
        return found

    def _parameters(self, modality: str) -> int:
        """Bytes of a flat parameter vector."""
        with torch.device("meta"):
            network = Classifier(ConvNetArchitecture(ConvNetConfig()), self.info, modality)
        return 4 * sum(p.numel() for p in network.parameters())

    def _distribution(self) -> dict[str, float]:
        """RealSide and SyntheticItems.match."""
        real = self.classes * self.of_class()
        found = {f"real {m}": self.held + self._peak("forward", m, real) for m in self.items}
        samples, unpacked = min(self.at_once, self.decoded), 3 if self.config.factor > 1 else 0
        # Unpacking makes the cells, their stack and its gradient.
        graph = {m: self._peak("embed", m, samples) + unpacked * samples * item_bytes(self.info, m) for m in self.items}
        if self.decoded <= self.at_once:  # the graphs of all modalities are kept
            return {**found, "match": self.held + sum(graph.values())}
        for m in self.items:
            found[f"match {m}"] = self.held + graph[m]
        return found

    def seconds(self) -> float:
        """Of all steps."""
        kind = {"dc": self._match_s, "dsa": self._match_s, "mtt": self._trajectory_s}.get(self.method, self._embed_s)
        return float(self.config.steps * sum(kind(self.pieces[m], m) for m in MODALITIES))

    def _match_s(self, of: Mapping[str, Piece], _: str) -> float:
        c = self.config
        own = max(2, self.ipc * c.factor**2)  # a single sample is sent twice
        matched = c.outer * self.classes * (self.of_class() * of["gradient"].seconds + own * of["second"].seconds)
        return matched + (c.outer - 1) * c.inner * self.decoded * of["train"].seconds

    def _trajectory_s(self, of: Mapping[str, Piece], m: str) -> float:
        items = self.classes * self.ipc
        batch = items / ceil(items / self.config.of(m, "batch"))  # the mean chunk of a permutation
        at_once = max(2.0, batch * self.config.factor**2)  # a single sample is sent twice
        return self.config.of(m, "inner") * at_once * (of["inner"].seconds + of["adjoint"].seconds)

    def _embed_s(self, of: Mapping[str, Piece], _: str) -> float:
        again = of["forward"].seconds if self.decoded > self.at_once else 0.0  # the pass without a graph
        return self.classes * self.of_class() * of["forward"].seconds + self.decoded * (of["embed"].seconds + again)

    def prerequisites(self) -> Mapping[str, Prerequisite]:
        setting = Setting(self.info, self.ipc, MODALITIES, "paper")
        return METHODS[self.method].requires(self.config, setting)

    def prerequisite_seconds(self) -> float:
        """Of all that the cell requires; IPCs and, for experts, seeds share them."""
        train, total = {m: of["train"].seconds for m, of in self.pieces.items()}, 0.0
        for need in self.prerequisites().values():
            samples = self.info.size("train")
            if isinstance(need, Expert):
                total += need.epochs * samples * train[need.modality]
            elif isinstance(need, TrainedNetwork):
                epochs = recognition().epochs_for(samples)
                total += epochs * samples * sum(train[m] for m in MODALITIES)
        return total

    def prerequisite_peak(self) -> float:
        """The largest of the jobs that train what the cell requires."""
        found = [0.0]
        for need in self.prerequisites().values():
            if isinstance(need, Expert):
                found.append(self.store + self._peak("train", need.modality, need.batch))
            elif isinstance(need, TrainedNetwork):
                found.append(self.store + training_peak(self.pieces))
        return max(found)


def recognition() -> RecognitionConfig:
    """How the preset ``paper`` trains and judges."""
    assert PRESETS["paper"].protocol == "recognition-code"
    config = Recognition.Config()
    assert isinstance(config, RecognitionConfig)
    return config


def training_peak(pieces: Pieces) -> float:
    """Training as the protocol does: both modalities in one graph, no micro-batch."""
    return sum(pieces[m]["train"].bytes(recognition().batch) for m in MODALITIES)


def cell(method: str, info: StoreInfo, ipc: int, pieces: Pieces, micro_batch: int | None = None) -> Cell:
    """A cell with its published defaults, both modalities."""
    target = METHODS[method]
    layers = [(target.defaults(Setting(info, ipc, MODALITIES, "paper")), "published")]
    config = resolve(target.Config, method, layers).config
    return Cell(method, info, ipc, pieces, micro_batch or default_micro_batch(info), config)


def grid(pieces: Pieces, micro_batch: int | None) -> Iterator[Cell]:
    """The paper's full grid."""
    for facts in DATASETS:
        for ipc in IPCS:
            for method in METHODS:
                yield cell(method, described(*facts), ipc, pieces, micro_batch)


def together(cells: list[Cell]) -> float:
    """Peak of one job that distils these cells in lock-step: each at its worst, beside what the others hold."""
    held = sum(c.between for c in cells)
    return max(c.peak + held - c.between for c in cells)


def evaluation(at: Cell) -> dict[str, float]:
    """Peaks of judging what a cell gives (avbench/tasks/evaluating.py): unpacking the set, then training on it."""
    cells, packed = at.config.factor**2, sum(at.items.values())
    samples = cells * packed
    unpacking = float(packed)
    if samples > DECODE_AT_ONCE and cells > 1:  # decoded batch by batch
        samples = packed
    elif cells > 1:  # one modality after the other: packed, cells, their stack
        names = list(at.items)
        done = [sum(cells * at.items[m] for m in names[:i]) for i in range(len(names))]
        unpacking = float(max(before + (1 + 2 * cells) * at.items[m] for before, m in zip(done, names, strict=True)))
    test = resident(at.info, "test", CARD - at.store - samples)
    return {
        "unpack": at.store + unpacking,
        "train": at.store + samples + test + training_peak(at.pieces),
    }
