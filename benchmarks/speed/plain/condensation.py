"""DC and DSA as published: whole batches, the graphs of all classes kept until one backward pass over their sum.

DC, arXiv:2006.05929, Algorithm 1; DSA, arXiv:2102.08259, Eq. 3. The networks are built anew at each iteration;
gradients are taken of all parameters, also of those that count nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from plain.augmentation import augmented
from plain.network import Form, PlainNetwork

Rows = npt.NDArray[np.int64]
#: An op and its unit numbers.
Omega = tuple[str, Tensor]


@dataclass(frozen=True)
class CondensationDraws:
    """What is drawn at step k, outer step l and for class c.

    Attributes:
        parameters: (modality, k) → parameters of the network, in their order.
        rows: (k, l, c) → rows of the real batch.
        omega: (k, l, c) → op of the class.
        epoch: (k, l, inner epoch) → of its batches in turn, rows of the items and op with numbers for each of them.
    """

    parameters: Callable[[str, int], Sequence[Tensor]]
    rows: Callable[[int, int, int], Rows]
    omega: Callable[[int, int, int], Omega]
    epoch: Callable[[int, int, int], Sequence[tuple[Rows, Omega]]]


@dataclass(frozen=True)
class Condensation:
    """One cell of DC or DSA; names as in DC's Algorithm 1.

    Attributes:
        data: the whole training split by modality, float32 (N, channels, height, width).
        items: by modality, class-major (C·ipc, channels, height, width); a step changes them.
    """

    forms: Mapping[str, Form]
    data: Mapping[str, Tensor]
    items: Mapping[str, Tensor]
    draws: CondensationDraws
    classes: int
    ipc: int
    outer: int
    inner: int
    lr_net: float
    device: torch.device

    def step(self, k: int, optimiser: torch.optim.Optimizer) -> None:
        """One iteration: a fresh network, ``outer`` steps of the items."""
        networks = {name: PlainNetwork(form).to(self.device) for name, form in self.forms.items()}
        for name, network in networks.items():
            network.copy(self.draws.parameters(name, k))
        for outer in range(self.outer):
            optimiser.zero_grad()
            for name, network in networks.items():
                self._distance(name, network, k, outer).backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            if outer + 1 < self.outer:
                for name, network in networks.items():
                    self._train(name, network, k, outer)

    def _distance(self, name: str, network: PlainNetwork, k: int, outer: int) -> Tensor:
        parameters = list(network.parameters())
        total = torch.zeros((), device=self.device)
        for cls in range(self.classes):
            op, units = self.draws.omega(k, outer, cls)
            real = self.data[name][torch.from_numpy(self.draws.rows(k, outer, cls))].to(self.device)
            labels = torch.full((len(real),), cls, device=self.device)
            loss = F.cross_entropy(network(augmented(real, op, units)), labels)
            wanted = [g.detach().clone() for g in torch.autograd.grad(loss, parameters)]
            mine = self.items[name][cls * self.ipc : (cls + 1) * self.ipc]
            labels = torch.full((self.ipc,), cls, device=self.device)
            loss = F.cross_entropy(network(augmented(mine, op, units)), labels)
            found = torch.autograd.grad(loss, parameters, create_graph=True)
            for ours, theirs in zip(found, wanted, strict=True):
                if ours.dim() > 1:
                    s, r = ours.flatten(1), theirs.flatten(1)  # (out, rest)
                    cosine = torch.sum(s * r, dim=1) / (torch.norm(s, dim=1) * torch.norm(r, dim=1) + 1e-6)
                    total = total + torch.sum(1 - cosine)
        return total

    def _train(self, name: str, network: PlainNetwork, k: int, outer: int) -> None:
        optimiser = torch.optim.SGD(network.parameters(), lr=self.lr_net)
        labels = torch.arange(self.classes, device=self.device).repeat_interleave(self.ipc)
        for inner in range(self.inner):
            for rows, (op, units) in self.draws.epoch(k, outer, inner):
                index = torch.from_numpy(rows).to(self.device)
                x = augmented(self.items[name].detach()[index], op, units)
                optimiser.zero_grad()
                F.cross_entropy(network(x), labels[index]).backward()  # type: ignore[no-untyped-call]
                optimiser.step()
