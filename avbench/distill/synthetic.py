"""The synthetic side of distribution matching: learnable items, matched in one pass over all classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor

from avbench.data.samples import Rows
from avbench.distill.factor import decode
from avbench.distill.real import MeanAccumulator, StepDraw, spans
from avbench.distilled import LearnedSet
from avbench.method import Context
from avbench.work import State

Means = Mapping[str, Tensor]


class SyntheticItems:
    """Items by modality (C·ipc, …), class-major, under SGD with momentum.

    Args:
        items: initial values in network input space.
        factor: l; each item decodes to l² training samples.
        lr: learning rate by modality.
    """

    def __init__(
        self,
        context: Context,
        items: Mapping[str, Tensor],
        factor: int,
        lr: Mapping[str, float],
        momentum: float,
    ) -> None:
        self.context, self.factor = context, factor
        self.items = {
            name: tensor.to(context.device, context.dtype).clone().requires_grad_(True)
            for name, tensor in items.items()
        }
        groups = [{"params": [tensor], "lr": lr[name]} for name, tensor in self.items.items()]
        self._optimiser = torch.optim.SGD(groups, lr=0.0, momentum=momentum)
        ipc = context.setting.ipc
        self._item_class = np.repeat(np.arange(len(context.classes)), ipc)  # (C·ipc,)
        self._counts = np.full(len(context.classes), ipc * factor**2)

    def match(self, draw: StepDraw, losses: Callable[[Means, Means], Tensor]) -> float:
        """Set the items' gradients to those of Σ_c losses(R̄, S̄)_c and return that sum.

        The gradient reaches the items through ∂loss/∂S̄ (C, D): where all fits in one micro-batch the graph of the
        first pass is used, else a second pass rebuilds it a micro-batch at a time. The bits are the same.
        """
        self._optimiser.zero_grad(set_to_none=True)
        per_sample = all(encoder.per_sample for encoder in draw.encoders.values())
        # Runs of items; each decodes to l² samples.
        items_at_once = max(1, self.context.micro_batch // self.factor**2)
        runs = spans(self._item_class, items_at_once, per_sample)
        sums = MeanAccumulator(len(self.context.classes), self.context.device)
        kept: dict[str, tuple[Tensor, Tensor]] = {}
        for start, stop in runs:
            with torch.set_grad_enabled(len(runs) == 1):
                for name in self.items:
                    leaf, z = self._embed(draw, name, start, stop)  # (B, …), (B·l², D)
                    sums.add(name, z.detach(), self._sample_class(start, stop))
                    if len(runs) == 1:
                        kept[name] = leaf, z
        means = {name: m.requires_grad_(True) for name, m in sums.means(self._counts, self.context.dtype).items()}
        total = losses(draw.means, means).sum()
        # A loss may leave one modality out; its gradient is then zero.
        slopes = torch.autograd.grad(total, list(means.values()), materialize_grads=True)
        for name, slope in zip(means, slopes, strict=True):  # slope ∂loss/∂S̄ (C, D)
            gradient = torch.empty_like(self.items[name])  # (C·ipc, …)
            for start, stop in runs:
                leaf, z = kept.pop(name) if kept else self._embed(draw, name, start, stop)
                (gradient[start:stop],) = torch.autograd.grad(z, leaf, self._spread(slope, start, stop))
            self.items[name].grad = gradient
        return float(total.detach())

    def _embed(self, draw: StepDraw, name: str, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """A run of items and its embeddings.

        The run is a leaf of its own: through a slice of all items each run's backward would fill a gradient as large
        as all of them.
        """
        leaf = self.items[name].detach()[start:stop].requires_grad_(True)
        samples = decode(leaf, self.factor)  # (B·l², channels, height, width)
        augmented = draw.transform(samples, self._sample_class(start, stop).tolist())
        return leaf, cast(Tensor, draw.encoders[name](augmented))

    def _sample_class(self, start: int, stop: int) -> Rows:
        return np.repeat(self._item_class[start:stop], self.factor**2)

    def _spread(self, slope: Tensor, start: int, stop: int) -> Tensor:
        """∂loss/∂z (B·l², D) from ∂loss/∂S̄ (C, D): each sample's share of its class mean."""
        positions = torch.from_numpy(self._sample_class(start, stop)).to(slope.device)
        return slope[positions] / int(self._counts[0])

    def update(self) -> None:
        """One step of SGD; the gradient, as large as the items, is not kept until the next."""
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def learned(self, notes: tuple[str, ...] = ()) -> LearnedSet:
        """The items as a distilled set in float32 (float64 where that is the precision)."""
        setting = self.context.setting
        items = {name: t.detach().clone() for name, t in self.items.items()}
        return LearnedSet(setting.dataset, setting.modality, self.context.labels, items, self.factor, notes=notes)

    def state(self) -> State:
        items = {name: t.detach() for name, t in self.items.items()}
        return {"items": items, "optimiser": self._optimiser.state_dict()}

    def load_state(self, state: State) -> None:
        with torch.no_grad():
            for name, tensor in state["items"].items():
                self.items[name].copy_(tensor)
        self._optimiser.load_state_dict(state["optimiser"])
