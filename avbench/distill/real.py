"""The real side of distribution matching: a step's networks, transforms and class mean embeddings.

They depend on the run seed, the step and the class alone, so every cell of a grid that shares them (any IPC, any
loss) is served by one computation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from avbench.data.samples import Rows
from avbench.distill.augment import Augmentation, Transform
from avbench.method import Context
from avbench.nets.base import Encoder

Spans = Sequence[tuple[int, int]]
#: Rows of samples that pass through the networks together, and the positions of their classes.
Part = tuple[Rows, Rows]


@dataclass(frozen=True)
class StepDraw:
    """What all cells share at one step.

    Attributes:
        encoders: ψ_θ by modality, freshly drawn, their parameters without gradients.
        transforms: A_ω of each class, in the order of the classes; one object for all where ω is shared.
        means: real class mean embeddings R̄ by modality, (C, D).
    """

    encoders: Mapping[str, Encoder]
    transforms: Sequence[Transform]
    means: Mapping[str, Tensor]

    def transform(self, x: Tensor, classes: Sequence[int]) -> Tensor:
        """Apply A_ω to x (B, channels, height, width), whose samples belong to ``classes`` (positions), sorted."""
        if self.transforms[0] is self.transforms[-1]:
            return self.transforms[0](x)
        parts = []
        for position in sorted(set(classes)):
            mine = [i for i, c in enumerate(classes) if c == position]
            parts.append(self.transforms[position](x[mine[0] : mine[-1] + 1]))
        return torch.cat(parts)


class RealSide:
    """Draws each step once and keeps it until another step is asked for."""

    def __init__(self, context: Context, batch_real: int, augment: str, omega_per_class: bool) -> None:
        self.context, self.batch_real = context, batch_real
        self.omega_per_class = omega_per_class
        self.augmentation = Augmentation(augment)
        info = context.setting.dataset
        self.encoders = {
            name: context.architecture.build(info, name).to(context.device, context.dtype).requires_grad_(False)
            for name in context.setting.modality
        }
        self._at: tuple[int, StepDraw] | None = None
        self._next: tuple[int, Sequence[Part]] | None = None

    @classmethod
    def shared(cls, context: Context, batch_real: int, augment: str, omega_per_class: bool) -> RealSide:
        """The one that all cells of this job with these settings use."""
        key = (cls, batch_real, augment, omega_per_class)
        return context.share(key, lambda: cls(context, batch_real, augment, omega_per_class))

    def at(self, k: int) -> StepDraw:
        """Networks, transforms and real means of step ``k``."""
        if self._at is None or self._at[0] != k:
            self._at = (k, self._draw(k))
        return self._at[1]

    def _draw(self, k: int) -> StepDraw:
        c = self.context
        for name, encoder in self.encoders.items():
            c.architecture.draw(encoder, c.streams(f"matching network {name}", step=k))
        if self.omega_per_class:
            transforms = [self.augmentation.siamese(c.streams("siamese", step=k, cls=cls)) for cls in c.classes]
        else:
            transforms = [self.augmentation.siamese(c.streams("siamese", step=k))] * len(c.classes)
        bare = StepDraw(self.encoders, transforms, {})
        return StepDraw(self.encoders, transforms, self._real_means(bare, k))

    @torch.no_grad()
    def _real_means(self, draw: StepDraw, k: int) -> dict[str, Tensor]:
        """R̄ (C, D) of a real batch a class, summed in float64 so that micro-batching changes no bit."""
        c = self.context
        parts = self._parts_of(k)
        self._next = k + 1, self._real_parts(k + 1)
        following = [rows for rows, _ in (*parts[1:], self._next[1][0])]
        sums = MeanAccumulator(len(c.classes), c.device)
        for (rows, positions), next_rows in zip(parts, following, strict=True):
            batch = c.train.batch(rows, c.setting.modality)  # a (B, 1, mels, frames), v (B, C, H, W)
            c.train.prefetch(next_rows, c.setting.modality)
            for name, x in batch.items():
                z = self.encoders[name](draw.transform(x, positions.tolist()))  # (B, D)
                sums.add(name, z, positions)
        counts = np.bincount(np.concatenate([positions for _, positions in parts]), minlength=len(c.classes))
        return sums.means(counts, c.dtype)

    def _parts_of(self, k: int) -> Sequence[Part]:
        """The real batch of step ``k``; the step before has drawn it already where steps follow each other."""
        return self._next[1] if self._next is not None and self._next[0] == k else self._real_parts(k)

    def _real_parts(self, k: int) -> Sequence[Part]:
        """A real batch a class, cut into what passes through the networks together: rows, positions of classes."""
        chosen = [self._batch_rows(cls, k) for cls in self.context.classes]
        positions = np.repeat(np.arange(len(chosen)), [len(rows) for rows in chosen])
        rows: Rows = np.concatenate(chosen)
        per_sample = all(encoder.per_sample for encoder in self.encoders.values())
        runs = spans(positions, self.context.micro_batch, per_sample)
        return [(rows[start:stop], positions[start:stop]) for start, stop in runs]

    def _batch_rows(self, cls: int, k: int) -> Rows:
        """A real batch of one class without repetition; all of a class that has fewer."""
        rows = self.context.train.class_rows(cls)
        order: Rows = self.context.streams("real batch", step=k, cls=cls).permutation(rows)
        return order[: self.batch_real]


class MeanAccumulator:
    """Class sums of embeddings in float64."""

    def __init__(self, classes: int, device: torch.device) -> None:
        self._classes, self._device = classes, device
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, z: Tensor, positions: Rows) -> None:
        """Add embeddings z (B, D) of the classes at ``positions`` (B,)."""
        if name not in self._sums:
            shape = (self._classes, z.shape[1])
            self._sums[name] = torch.zeros(shape, dtype=torch.float64, device=self._device)
        self._sums[name].index_add_(0, torch.from_numpy(positions).to(self._device), z.double())

    def means(self, counts: Rows, dtype: torch.dtype) -> dict[str, Tensor]:
        """Class means (C, D) by modality."""
        divisor = torch.from_numpy(counts).to(self._device, torch.float64)[:, None]
        return {name: (total / divisor).to(dtype) for name, total in self._sums.items()}


def spans(positions: Rows, micro_batch: int, per_sample: bool) -> Spans:
    """Cut samples, sorted by class, into runs to send through a network together.

    Networks that treat samples one by one take runs of ``micro_batch`` samples across classes; with batch norm a class
    must pass whole and alone.
    """
    count = len(positions)
    if per_sample:
        return [(start, min(start + micro_batch, count)) for start in range(0, count, micro_batch)]
    edges = [0, *(np.flatnonzero(np.diff(positions)) + 1).tolist(), count]
    return list(pairwise(edges))
