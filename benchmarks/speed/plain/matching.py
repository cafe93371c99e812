"""Distribution matching as the published scripts of AVDD do it: jointly, and class by class with saved real means.

Both build fresh networks, classifier included, wherever they need them, hold the data set as float32 in memory, and
embed the real and the synthetic samples of one class at a time. The joint script makes a step of one optimiser over
all items after each class; the class-wise one has an optimiser of its own for each class, embeds the real samples of
each step once, keeps their means in a file, and reads them again for each IPC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from plain.augmentation import augmented, decoded
from plain.network import Form, PlainNetwork


@dataclass(frozen=True)
class Drawn:
    """What was drawn for a step: parameters by modality, rows by class, the op and its unit numbers (1, 3)."""

    parameters: Mapping[str, Sequence[Tensor]]
    rows: Sequence[npt.NDArray[np.int64]]
    op: str
    units: Tensor


@dataclass(frozen=True)
class PlainCell:
    """One cell to distil.

    Attributes:
        data: the whole training split by modality, normalised, float32 (N, channels, height, width).
        start: initial items by modality, class-major (C·ipc, channels, height, width).
        draws: by step.
        weight: λ of implicit cross-matching and of the cross-modal gap; 0 is DM.
    """

    forms: Mapping[str, Form]
    data: Mapping[str, Tensor]
    start: Mapping[str, Tensor]
    draws: Sequence[Drawn]
    classes: int
    ipc: int
    factor: int
    weight: float
    lr: float
    momentum: float
    device: torch.device

    def networks(self, k: int) -> dict[str, PlainNetwork]:
        """Networks of step ``k``, built anew, their parameters without gradients."""
        built = {name: PlainNetwork(form).to(self.device).requires_grad_(False) for name, form in self.forms.items()}
        for name, network in built.items():
            network.copy(self.draws[k].parameters[name])
        return built

    def real_means(self, networks: Mapping[str, PlainNetwork], k: int, cls: int) -> dict[str, Tensor]:
        """Mean embedding (D,) of a class's real batch, by modality."""
        drawn, found = self.draws[k], {}
        for name, network in networks.items():
            real = self.data[name][torch.from_numpy(drawn.rows[cls])].to(self.device)
            found[name] = network.embed(augmented(real, drawn.op, drawn.units)).detach().mean(dim=0)
        return found

    def loss(
        self, networks: Mapping[str, PlainNetwork], items: Mapping[str, Tensor], real: Mapping[str, Tensor], k: int
    ) -> Tensor:
        """Eq. 10 of AVDD for one class's items, by modality (ipc, …)."""
        drawn, apart = self.draws[k], {}
        for name, network in networks.items():
            samples = augmented(decoded(items[name], self.factor), drawn.op, drawn.units)
            apart[name] = real[name] - network.embed(samples).mean(dim=0)  # (D,)
        loss = torch.stack([torch.sum(d**2) for d in apart.values()]).sum()
        if self.weight:
            loss = loss + self.weight * torch.sum((apart["a"] + apart["v"]) ** 2)
            loss = loss + self.weight * torch.sum((apart["a"] - apart["v"]) ** 2)
        return loss


class Joint:
    """The joint script."""

    def __init__(self, cell: PlainCell) -> None:
        self.cell = cell
        self.items = {name: x.clone().to(cell.device).requires_grad_(True) for name, x in cell.start.items()}
        self.optimisers = [torch.optim.SGD([x], lr=cell.lr, momentum=cell.momentum) for x in self.items.values()]
        #: Of the last iteration, each class's when its turn came: (C·ipc, …).
        self.gradients = {name: torch.zeros_like(x) for name, x in self.items.items()}

    def iteration(self, k: int) -> None:
        """All classes in turn."""
        cell, networks = self.cell, self.cell.networks(k)
        for cls in range(cell.classes):
            mine = slice(cls * cell.ipc, (cls + 1) * cell.ipc)
            real = cell.real_means(networks, k, cls)
            loss = cell.loss(networks, {name: x[mine] for name, x in self.items.items()}, real, k)
            for optimiser in self.optimisers:
                optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            for name, x in self.items.items():
                assert x.grad is not None
                self.gradients[name][mine] = x.grad[mine]
            for optimiser in self.optimisers:
                optimiser.step()


class ClassWise:
    """The class-wise script: its pass over the real samples, and its pass over the items of one cell."""

    def __init__(self, cell: PlainCell, folder: Path) -> None:
        self.cell, self.folder = cell, folder
        parts = range(cell.classes)
        self.items = [
            {
                name: x[cls * cell.ipc : (cls + 1) * cell.ipc].clone().to(cell.device).requires_grad_(True)
                for name, x in cell.start.items()
            }
            for cls in parts
        ]
        self.optimisers = [
            torch.optim.SGD(list(self.items[cls].values()), lr=cell.lr, momentum=cell.momentum) for cls in parts
        ]

    def save_means(self, k: int) -> None:
        """Step ``k`` of the first pass, of every class."""
        for cls in range(self.cell.classes):
            means = self.cell.real_means(self.cell.networks(k), k, cls)
            torch.save({name: mean.cpu() for name, mean in means.items()}, self._file(k, cls))

    def follow(self, k: int) -> None:
        """Step ``k`` of the second pass, of every class."""
        for cls in range(self.cell.classes):
            networks = self.cell.networks(k)
            saved = torch.load(self._file(k, cls), weights_only=True)
            real = {name: mean.to(self.cell.device) for name, mean in saved.items()}
            loss = self.cell.loss(networks, self.items[cls], real, k)
            self.optimisers[cls].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimisers[cls].step()

    def iteration(self, k: int) -> None:
        """Step ``k`` of both passes: what a single cell takes."""
        self.save_means(k)
        self.follow(k)

    def whole(self) -> dict[str, Tensor]:
        """All items, class-major."""
        return {name: torch.cat([items[name].detach() for items in self.items]) for name in self.cell.forms}

    def _file(self, k: int, cls: int) -> Path:
        return self.folder / f"{k}-{cls}.pt"
