"""Matching a trajectory: training on synthetic items, and the gradient of where it ends, at constant graph memory.

Training (MTT, arXiv:2203.11932, Algorithm 1) takes T steps of plain descent from a point of an expert's trajectory,

    θ_{i+1} = θ_i − β·g_i,    g_i = ∇_θ ℓ(θ_i; A_i(x_i)),                          i = 0 … T−1

with step size β, items x_i of step i and their augmentation A_i, and ends at distance L (Eq. 2) from the target θ*:

    L = ‖θ_T − θ*‖² / D,    D = ‖θ_0 − θ*‖².

Unrolling keeps the graphs of all T steps. The adjoint method keeps the points θ_i alone and, going backwards, builds
one step's graph at a time. With λ_T = ∂L/∂θ_T = 2/D·(θ_T − θ*) and s_i = ⟨g_i, λ_{i+1}⟩,

    ∂L/∂x_i += −β·∂s_i/∂x_i,    ∂L/∂β += −s_i,    λ_i = λ_{i+1} − β·∂s_i/∂θ_i.

That is the exact gradient. TESLA (arXiv:2211.10586, section 3.2) takes each θ_i as independent of the items before it:
λ stays λ_T. Its error grows with β and T; benchmarks/speed/trajectory.py measures it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.data.samples import Rows
from avbench.distill.augment import Augmentation, Transform
from avbench.distill.factor import decode
from avbench.nets.base import first_order
from avbench.nets.classifier import Classifier


@dataclass(frozen=True)
class InnerStep:
    """One step of training on the items: which of them, and how they are augmented.

    Attributes:
        rows: the items of the batch, each at most once.
        transform: A_i, drawn for all samples of the batch; applying it again gives the same.
    """

    rows: Rows
    transform: Transform


@dataclass(frozen=True)
class Matched:
    """What matching gives: L, and its gradients with respect to the items (N, …) and to the step size."""

    loss: Tensor
    items: Tensor
    step_size: Tensor


def inner_steps(
    rng: np.random.Generator, steps: int, items: int, batch: int, factor: int, augmentation: Augmentation
) -> list[InnerStep]:
    """``steps`` batches, which are chunks of one permutation of the items after the other, freshly augmented each."""
    found: list[InnerStep] = []
    chunks: list[Rows] = []
    for _ in range(steps):
        if not chunks:
            order: Rows = rng.permutation(items)
            chunks = [order[start : start + batch] for start in range(0, items, batch)]
        rows = chunks.pop(0)
        found.append(InnerStep(rows, augmentation.per_sample(rng, len(rows) * factor**2)))
    return found


class Student:
    """A network that trains on synthetic items: ℓ(θ; A(x)) and its gradient, a micro-batch at a time.

    Args:
        labels: (N,) of the items, on the device of the network.
        factor: l; each item decodes to l² samples of its label.
        micro_batch: the most samples that pass through the network with a graph; more change rounding alone.
    """

    def __init__(self, network: Classifier, labels: Tensor, factor: int, micro_batch: int) -> None:
        self.network, self.labels, self.factor = network, labels, factor
        self._items_at_once = max(1, micro_batch // factor**2)

    def parts(self, step: InnerStep) -> Iterator[slice]:
        """Runs of a batch's items to send through the network together; with batch norm the batch stays whole."""
        count = len(step.rows)
        size = self._items_at_once if self.network.per_sample else count
        for start in range(0, count, size):
            yield slice(start, min(start + size, count))

    def loss(self, theta: Tensor, x: Tensor, step: InnerStep, part: slice) -> Tensor:
        """The share of ``part`` in ℓ(θ; A(x)), the mean cross-entropy of the whole batch; x are the part's items."""
        cells = self.factor**2
        samples = decode(x, self.factor)  # (b·l², channels, height, width)
        augmented = step.transform.rows(part.start * cells, part.stop * cells)(samples)
        logits = self.network.logits(self.network.unflatten(theta), augmented)  # (b·l², classes)
        labels = self.labels[torch.from_numpy(step.rows[part]).to(self.labels.device)].repeat_interleave(cells)
        return F.cross_entropy(logits, labels, reduction="sum") / (len(step.rows) * cells)

    def gradient(self, theta: Tensor, items: Tensor, step: InnerStep) -> Tensor:
        """g = ∇_θ ℓ(θ; A(x)) (P,), without a graph."""
        at = theta.detach().requires_grad_(True)
        total = torch.zeros_like(theta)
        for part in self.parts(step):
            with first_order():
                loss = self.loss(at, _take(items, step, part), step, part)
            total += torch.autograd.grad(loss, at)[0]
        return total

    def pull_back(
        self, theta: Tensor, items: Tensor, step: InnerStep, adjoint: Tensor, exact: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """s = ⟨g, λ⟩, ∂s/∂x of the batch (B, …), and ∂s/∂θ (P,), which stays zero unless ``exact``."""
        at = theta.detach().requires_grad_(True)
        s, over_x, over_theta = theta.new_zeros(()), [], torch.zeros_like(theta)
        for part in self.parts(step):
            x = _take(items, step, part).requires_grad_(True)  # (b, channels, height, width)
            (g,) = torch.autograd.grad(self.loss(at, x, step, part), at, create_graph=True)  # (P,)
            share = torch.dot(g, adjoint)
            # Where no sample of a micro-batch moves θ, as behind dead units, s does not depend on it.
            found = torch.autograd.grad(share, [x, at] if exact else [x], materialize_grads=True)
            over_x.append(found[0])
            if exact:
                over_theta += found[1]
            s += share.detach()
        return s, torch.cat(over_x), over_theta


def _take(items: Tensor, step: InnerStep, part: slice) -> Tensor:
    """The items of a part of a batch, a copy."""
    return items.detach()[torch.from_numpy(step.rows[part]).to(items.device)]


def match_trajectory(
    student: Student,
    items: Tensor,
    step_size: float,
    steps: Sequence[InnerStep],
    start: Tensor,
    target: Tensor,
    *,
    exact: bool = True,
) -> Matched:
    """L and its gradients by the equations above.

    Args:
        items: x (N, channels, height, width).
        step_size: β.
        start, target: θ_0 and θ*, (P,).
        exact: the adjoint; otherwise TESLA's truncated form.
    """
    points = [start]  # θ_0 … θ_T, each (P,)
    for step in steps:
        points.append(points[-1] - step_size * student.gradient(points[-1], items, step))
    distance = (start - target).square().sum()  # D
    apart = points.pop() - target  # θ_T − θ* (P,)
    adjoint = (2 / distance) * apart  # λ_T (P,)
    over_items, over_step_size = torch.zeros_like(items), items.new_zeros(())
    for step in reversed(steps):
        s, u, h = student.pull_back(points.pop(), items, step, adjoint, exact)  # (), (B, …), (P,)
        over_items[torch.from_numpy(step.rows).to(items.device)] -= step_size * u
        over_step_size -= s
        if exact:
            adjoint = adjoint - step_size * h  # λ_i (P,)
    return Matched(apart.square().sum() / distance, over_items, over_step_size)


class StepSize:
    """A step size β > 0 under SGD with momentum.

    An update that would end at or below zero halves β instead and forgets the momentum that led there. As long as the
    plain update stays positive, it is the plain update.
    """

    def __init__(self, value: float, lr: float, momentum: float) -> None:
        self.value, self.lr, self.momentum = value, lr, momentum
        self.velocity = 0.0

    def update(self, gradient: float) -> None:
        """v ← μ·v + ∂L/∂β, β ← β − lr·v."""
        self.velocity = self.momentum * self.velocity + gradient
        updated = self.value - self.lr * self.velocity
        if updated <= 0:
            updated, self.velocity = self.value / 2, 0.0
        self.value = updated

    def state(self) -> dict[str, float]:
        return {"value": self.value, "velocity": self.velocity}

    def load_state(self, state: dict[str, float]) -> None:
        self.value, self.velocity = state["value"], state["velocity"]
