"""Gradient matching (DC, arXiv:2006.05929; DSA, arXiv:2102.08259), exact at any micro-batch.

One class matched (:class:`GradientMatching`), the network's training on the synthetic set
(:class:`SyntheticTraining`), and what is drawn for both (:class:`GradientDraws`).

Sums over micro-batches are held in float64. Within a micro-batch torch sums in the run's own precision: other
micro-batches change the last bits of a float32 gradient, and nothing that is drawn.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.data.samples import Rows, batches
from avbench.distill.augment import Augmentation, Transform
from avbench.distill.factor import decode
from avbench.method import Context
from avbench.nets.base import first_order
from avbench.nets.classifier import Classifier, Parameters

#: ε in the denominator of the cosine (DC's code): rows without a gradient are at distance 1, not 0/0.
EPSILON = 1e-6
#: Real samples a class whose statistics batch norm keeps while gradients are matched (DC's code).
_BATCH_NORM_SAMPLES = 16

Gradient = list[Tensor]


def gradient_distance(synthetic: Gradient, real: Gradient) -> Tensor:
    """D: Σ over layers and output rows of 1 − cos between the rows' gradients (DC, Eq. 10). A scalar.

    Vectors (biases, norms) have no rows and count 0, as in DC's code.
    """
    distance = synthetic[0].new_zeros(())
    for ours, theirs in zip(synthetic, real, strict=True):
        if ours.dim() == 1:
            continue
        s, r = ours.flatten(1), theirs.flatten(1)  # (out, rest)
        lengths = torch.linalg.vector_norm(s, dim=1) * torch.linalg.vector_norm(r, dim=1)
        distance = distance + (1 - (s * r).sum(dim=1) / (lengths + EPSILON)).sum()
    return distance


@dataclass(frozen=True)
class Match:
    """One class matched: D, a scalar, and ∂D/∂items (n, channels, height, width)."""

    distance: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class GradientMatching:
    """Both sides of gradient matching for one modality, a class at a time.

    Attributes:
        network: the classifier whose gradients are matched, at parameters θ that are given each time.
        factor: l; each item decodes to l² samples.
    """

    context: Context
    network: Classifier
    factor: int

    def settle(self, theta: Mapping[str, Tensor], rows: Rows) -> None:
        """Show batch norm real samples once, then hold its statistics while gradients are matched (DC's code).

        One synthetic sample a class has no variance to speak of; and with fixed statistics every sample counts by
        itself, so micro-batches stay exact. Networks without batch norm have nothing to settle.
        """
        if self.network.per_sample:
            return
        with torch.no_grad():
            self.network.train(True).logits(theta, self._samples(rows))
        self.network.train(False)

    def real(self, theta: Mapping[str, Tensor], rows: Rows, cls: int, omega: Transform) -> Gradient:
        """∇_θ of the mean cross-entropy of a real batch of one class under A_ω, a micro-batch at a time, no graph."""
        theta, total = _to_match(theta), _Sum()
        for start, stop in pieces(len(rows), self.context.micro_batch):
            x = omega(self._samples(rows[start:stop]))  # (B, channels, height, width)
            total.add(_gradient(self.network, theta, x, _labels(cls, x), len(rows)))
        return total.of(self.context.dtype)

    def match(self, theta: Mapping[str, Tensor], items: Tensor, cls: int, omega: Transform, real: Gradient) -> Match:
        """D between the gradients of a class's items (n, …) and of its real batch (a term of DC, Eq. 9; DSA, Eq. 3).

        D depends on the items through g = Σ_m g_m alone, m the micro-batches. So with v = ∂D/∂g, taken after a first
        pass that keeps no graph, ∂D/∂items = Σ_m ∂⟨g_m, v⟩/∂items, whose graph is that of one micro-batch. Where
        one micro-batch is all, its graph serves both passes.
        """
        theta, total = _to_match(theta), _Sum()
        of = len(items) * self.factor**2
        runs = pieces(len(items), self.context.micro_batch // self.factor**2)

        def share(leaf: Tensor, graph: bool) -> Gradient:
            x = omega(decode(leaf, self.factor))  # (B·l², channels, height, width)
            return _gradient(self.network, theta, x, _labels(cls, x), of, graph)

        leaves = [items[start:stop].detach().requires_grad_(True) for start, stop in runs]
        kept = share(leaves[0], graph=True) if len(runs) == 1 else None
        for leaf in leaves:
            total.add([p.detach() for p in kept] if kept else share(leaf.detach(), graph=False))
        g = [p.requires_grad_(True) for p in total.of(items.dtype)]
        distance = gradient_distance(g, real)
        v = torch.autograd.grad(distance, g)
        gradient = torch.empty_like(items)
        for (start, stop), leaf in zip(runs, leaves, strict=True):
            part = kept or share(leaf, graph=True)
            (gradient[start:stop],) = torch.autograd.grad(part, [leaf], grad_outputs=v)
        return Match(distance.detach(), gradient)

    def _samples(self, rows: Rows) -> Tensor:
        return self.context.train.batch(rows, self.network.modality)[self.network.modality]


@dataclass(frozen=True)
class SyntheticTraining:
    """A network's training on the whole synthetic set by plain SGD, between two outer steps.

    Attributes:
        factor: l; the set has l² samples an item.
        augmentation: not Siamese here: one op a batch, parameters for each sample (DSA's code).
        lr, batch: learning rate and batch of the network.
    """

    network: Classifier
    factor: int
    augmentation: Augmentation
    lr: float
    batch: int
    micro_batch: int

    def epoch(self, theta: Mapping[str, Tensor], items: Tensor, labels: Tensor, rng: np.random.Generator) -> Parameters:
        """θ after one pass over items (N, channels, height, width) of classes ``labels`` (N,), in a fresh order."""
        self.network.train(not self.network.per_sample)
        for rows in self._batches(rng.permutation(len(items) * self.factor**2)):
            transform = self.augmentation.per_sample(rng, len(rows))
            theta = {name: p.detach().requires_grad_(True) for name, p in theta.items()}
            total = _Sum()
            # Batch norm must see the whole batch, as published; other networks need not.
            for start, stop in pieces(len(rows), self.micro_batch if self.network.per_sample else len(rows)):
                index = torch.from_numpy(rows[start:stop]).to(items.device)
                x = transform.rows(start, stop)(self._samples(items, index))  # (B, channels, height, width)
                total.add(_gradient(self.network, theta, x, labels[index // self.factor**2], len(rows)))
            slopes = total.of(items.dtype)
            theta = {name: p.detach() - self.lr * g for (name, p), g in zip(theta.items(), slopes, strict=True)}
        return dict(theta)

    def _samples(self, items: Tensor, index: Tensor) -> Tensor:
        """Training samples by index; those of a batch alone are decoded, so memory does not grow with the set."""
        if self.factor == 1:
            return items[index]
        cells = decode(items[index // self.factor**2], self.factor)  # (B·l², channels, height, width)
        cells = cells.view(len(index), self.factor**2, *items.shape[1:])
        return cells[torch.arange(len(index), device=items.device), index % self.factor**2]

    def _batches(self, order: Rows) -> list[Rows]:
        return batches(order, self.batch, self.network.per_sample)


@dataclass(frozen=True)
class GradientDraws:
    """What gradient matching draws, from (run seed, purpose, step, outer step, class) alone.

    Outer step 0 has the purposes of distribution matching, so both meet the same real batches and ω at a step;
    outer step l > 0 has purposes of its own. IPC, loops, factor, modality and micro-batch play no part.
    """

    context: Context
    batch_real: int
    augmentation: Augmentation
    omega_per_class: bool

    def _stream(self, purpose: str, k: int, outer: int, cls: int = -1) -> np.random.Generator:
        of_outer = f" of outer step {outer}" if outer else ""
        return self.context.streams(purpose + of_outer, step=k, cls=cls)

    def _some_rows(self, purpose: str, k: int, outer: int, cls: int, count: int) -> Rows:
        order: Rows = self._stream(purpose, k, outer, cls).permutation(self.context.train.class_rows(cls))
        return order[:count]

    def real_rows(self, k: int, outer: int, cls: int) -> Rows:
        """A real batch of one class without repetition; all of a class that has fewer."""
        return self._some_rows("real batch", k, outer, cls, self.batch_real)

    def batch_norm_rows(self, k: int, outer: int) -> Rows:
        """Real samples of every class for :meth:`GradientMatching.settle`."""
        count = _BATCH_NORM_SAMPLES
        return np.concatenate([self._some_rows("batch norm", k, outer, c, count) for c in self.context.classes])

    def siamese(self, k: int, outer: int, cls: int) -> Transform:
        """A_ω, the same for the real and the synthetic samples of a class."""
        return self.augmentation.siamese(self._stream("siamese", k, outer, cls if self.omega_per_class else -1))

    def epoch(self, k: int, outer: int, inner: int) -> np.random.Generator:
        """For the order and the augmentation of the network's epoch ``inner`` after outer step ``outer``."""
        return self._stream(f"synthetic epoch {inner}", k, outer)


def pieces(count: int, size: int) -> list[tuple[int, int]]:
    """Cut ``count`` things into runs of ``size``, the last one shorter where it must."""
    size = max(1, size)
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def _labels(label: int, x: Tensor) -> Tensor:
    return torch.full((x.shape[0],), label, device=x.device)


def _to_match(theta: Mapping[str, Tensor]) -> Parameters:
    """θ, with gradients for what has rows: the rest counts 0."""
    return {name: p.detach().requires_grad_(p.dim() > 1) for name, p in theta.items()}


def _gradient(
    network: Classifier, theta: Mapping[str, Tensor], x: Tensor, labels: Tensor, of: int, graph: bool = False
) -> Gradient:
    """∂/∂θ of what samples x (B, …) of classes ``labels`` (B,) add to the mean cross-entropy of ``of`` samples."""
    with contextlib.nullcontext() if graph else first_order():
        loss = F.cross_entropy(network.logits(theta, x), labels, reduction="sum") / of
    return list(torch.autograd.grad(loss, [p for p in theta.values() if p.requires_grad], create_graph=graph))


class _Sum:
    """A sum of gradients, in float64 as soon as there is something to add."""

    def __init__(self) -> None:
        self._total: Gradient = []

    def add(self, part: Gradient) -> None:
        if self._total:
            self._total = [t.double().add_(p) for t, p in zip(self._total, part, strict=True)]
        else:
            self._total = part

    def of(self, dtype: torch.dtype) -> Gradient:
        return [t.to(dtype) for t in self._total]
