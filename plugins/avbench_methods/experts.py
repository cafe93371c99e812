"""Expert trajectories: where a network was after each epoch of training on the real data (MTT, arXiv:2203.11932).

As in MTT's code: plain SGD at a constant rate, DSA's augmentation drawn afresh for each batch with parameters for
each sample (not Siamese: there is no second batch to agree with).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.api import (
    Augmentation,
    Classifier,
    Prerequisite,
    PrerequisiteContext,
    Product,
    RequestError,
    State,
    Transform,
    first_order,
)


@dataclass(frozen=True)
class Expert(Prerequisite):
    """One expert of one modality; shared over run seeds, IPCs, protocols, fusions, and by ``av`` with ``a`` and ``v``.

    Its tensors are θ (P,) after each epoch, under the names that :func:`after` gives; epoch 0 is the start.
    """

    modality: str
    index: int
    epochs: int
    lr: float
    batch: int
    augment: str

    kind = "expert-trajectory"
    depends_on = frozenset({"architecture"})

    def build(self, context: PrerequisiteContext) -> ExpertTraining:
        return ExpertTraining(self, context)


def after(epoch: int) -> str:
    """The name of θ after an epoch."""
    return f"epoch {epoch}"


class ExpertTraining(Product):
    """An expert's training, an epoch a step. The rate is constant, so θ alone is the state."""

    def __init__(self, expert: Expert, context: PrerequisiteContext) -> None:
        self.expert, self.context = expert, context
        self._augmentation = Augmentation(expert.augment)
        network = Classifier(context.architecture, context.train.info, expert.modality)
        self._network = network.to(context.device, context.dtype)
        start = self._network.draw(context.streams, "expert", step=expert.index)
        self.trajectory = [self._network.flatten(start).cpu()]  # θ_0, θ_1, … (P,) each

    @property
    def steps(self) -> int:
        return self.expert.epochs

    def step(self, k: int) -> Mapping[str, float]:
        """Epoch ``k``: one pass over the training split in a fresh order."""
        c, expert = self.context, self.expert
        rng = c.streams(f"expert {expert.index} epoch {expert.modality}", step=k)
        theta = self.trajectory[k].to(c.device, copy=True)  # (P,)
        total = theta.new_zeros(())
        for rows in self._batches(rng):
            transform = self._augmentation.per_sample(rng, len(rows))
            loss, gradient = self._gradient(theta, rows, transform)  # (), (P,)
            theta -= expert.lr * gradient
            total += loss * len(rows)
        self.trajectory.append(theta.cpu())
        return {"loss": float(total) / len(c.train)}

    def _batches(self, rng: np.random.Generator) -> list[np.ndarray]:
        order = rng.permutation(len(self.context.train))
        cuts = list(range(self.expert.batch, len(order), self.expert.batch))
        # Batch norm has no variance for a leftover batch of one: it joins the batch before it.
        if cuts and len(order) - cuts[-1] == 1 and not self._network.per_sample:
            cuts.pop()
        return np.split(order, cuts)

    def _gradient(self, theta: Tensor, rows: np.ndarray, transform: Transform) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy of a batch and its gradient ∇_θ (P,), a micro-batch at a time."""
        c, network = self.context, self._network
        size = c.micro_batch if network.per_sample else len(rows)
        at = theta.detach().requires_grad_(True)
        total, gradient = theta.new_zeros(()), torch.zeros_like(theta)
        for start in range(0, len(rows), size):
            part = rows[start : start + size]
            x = c.train.batch(part, self.expert.modality)[self.expert.modality]  # (b, channels, height, width)
            with first_order():
                logits = network.logits(network.unflatten(at), transform.rows(start, start + size)(x))  # (b, classes)
            labels = c.train.labels[torch.from_numpy(part)].to(c.device)
            loss = F.cross_entropy(logits, labels, reduction="sum") / len(rows)
            gradient += torch.autograd.grad(loss, at)[0]
            total += loss.detach()
        return total, gradient

    def tensors(self) -> Mapping[str, Tensor]:
        return {after(epoch): theta for epoch, theta in enumerate(self.trajectory)}

    def state(self) -> State:
        return {"trajectory": list(self.trajectory)}

    def load_state(self, state: State) -> None:
        self.trajectory = list(state["trajectory"])


def segment(
    trajectory: Mapping[str, Tensor], name: str, start: int, target: int, parameters: int
) -> tuple[Tensor, Tensor]:
    """θ after epochs ``start`` and ``target`` of a stored expert; nothing else of it is read.

    Raises:
        RequestError: the file is another expert's: it lacks these epochs, or is of a network of another size.
    """
    found = []
    for epoch in (start, target):
        if after(epoch) not in trajectory:
            raise RequestError(f"{name} has no epoch {epoch}; it holds {len(trajectory)}: remove it and run again.")
        theta = trajectory[after(epoch)]
        if theta.shape != (parameters,):
            raise RequestError(
                f"{name} is of another network: its parameters are {tuple(theta.shape)} after {after(epoch)}, "
                f"here they are ({parameters},): remove it and run again."
            )
        found.append(theta)
    return found[0], found[1]
