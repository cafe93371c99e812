"""DC: dataset condensation with gradient matching (Zhao, Mopuri & Bilen, ICLR 2021, arXiv:2006.05929).

At each iteration a fresh network is drawn. Then ``outer`` times: class by class the gradient of the synthetic items
is matched to that of a real batch, the items make one step, and the network trains ``inner`` epochs on all of them
(Algorithm 1). For audio, visual or both, each modality with a network of its own (AVDD, appendix C).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from avbench.api import (
    Augmentation,
    Classifier,
    Context,
    GradientDraws,
    GradientMatching,
    LearnedSet,
    Method,
    Parameters,
    Prerequisite,
    RequestError,
    Setting,
    Sourced,
    State,
    SyntheticItems,
    SyntheticTraining,
    initial_items,
    option,
    required_for,
    sourced,
)
from avbench_methods._items import check_items

#: (outer, inner) by IPC (DC's code). Between and beyond the published IPCs the nearest lower one holds.
LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}


def published_loops(ipc: int) -> Mapping[str, Sourced[Any]]:
    """The loops at an IPC, and whether they are the published ones or those of the nearest lower published IPC."""
    known = max(published for published in LOOPS if published <= max(ipc, 1))
    outer, inner = LOOPS[known]
    source = "DC's code" if known == ipc else f"DC's code for IPC {known}, the nearest lower one published"
    return sourced(source, outer=outer, inner=inner)


@dataclass(frozen=True)
class DCConfig:
    """Options of ``dc``; the defaults are those of DC's code."""

    steps: int = option(1000, "iterations, each with a fresh network; 0 leaves the initialisation as it is")
    lr: float = option(0.1, "learning rate of the synthetic items")
    lr_audio: float | None = option(None, "learning rate of the audio items; none: lr")
    lr_visual: float | None = option(None, "learning rate of the visual items; none: lr")
    momentum: float = option(0.5, "momentum of the items' SGD")
    outer: int = option(1, "steps of the items an iteration; by default by IPC, as published")
    inner: int = option(1, "epochs of the network between two of them; by default by IPC, as published")
    lr_net: float = option(0.01, "learning rate of the network (SGD without momentum)")
    batch_real: int = option(256, "real samples per class and outer step")
    batch_train: int = option(256, "synthetic samples in a batch of the network's training")
    init: Literal["noise", "random", "herding"] = option("noise", "what the items start from")
    features: Literal["trained", "random"] = option(
        "trained", "what herding embeds with: a network trained on the whole training set, or a random one"
    )
    factor: int = option(1, "l: each item holds l × l training samples")
    augment: str = option("none", "Siamese ops, one drawn at a time; or none")
    omega_per_class: bool = option(True, "draw the op for each class, or once for all of them")

    def __post_init__(self) -> None:
        Augmentation(self.augment)
        rates = (self.lr, self.lr_audio, self.lr_visual, self.lr_net)
        if not all(rate is None or 0 < rate < float("inf") for rate in rates):
            raise ValueError("learning rates must be positive and finite")
        if self.steps < 0 or self.outer < 1 or self.inner < 0 or not 0 <= self.momentum < 1:
            raise ValueError("steps ≥ 0, outer ≥ 1, inner ≥ 0 and 0 ≤ momentum < 1 are required")
        if min(self.batch_real, self.batch_train, self.factor) < 1:
            raise ValueError("batch_real, batch_train and factor must be at least 1")

    def rates(self) -> dict[str, float]:
        """Learning rate of the items by modality."""
        return {"a": self.lr_audio or self.lr, "v": self.lr_visual or self.lr}


class DatasetCondensation(Method):
    """Match the gradients of real and synthetic samples (DC)."""

    # Not separable by class: the network trains on the items of all classes (only with one outer step it does not).
    Config = DCConfig
    config: DCConfig

    def __init__(self, config: DCConfig, context: Context) -> None:
        super().__init__(config, context)
        start, self.notes = initial_items(context, config.init, config.features, config.factor)
        self.items = SyntheticItems(context, start, config.factor, config.rates(), config.momentum)
        self.augmentation = Augmentation(config.augment)
        self.draws = GradientDraws(context, config.batch_real, self.augmentation, config.omega_per_class)
        self.networks = {name: self._network(name) for name in context.setting.modality}
        self.matching = {name: GradientMatching(context, net, config.factor) for name, net in self.networks.items()}

    def _network(self, name: str) -> Classifier:
        c = self.context
        return Classifier(c.architecture, c.setting.dataset, name).to(c.device, c.dtype).train(False)

    @property
    def steps(self) -> int:
        return self.config.steps

    def step(self, k: int) -> Mapping[str, float]:
        streams, c = self.context.streams, self.config
        theta = {name: net.draw(streams, "matching network", k) for name, net in self.networks.items()}  # θ_0 ~ P
        total = torch.zeros((), dtype=torch.float64, device=self.context.device)
        for outer in range(c.outer):
            for name in self.networks:
                total += self._match(name, theta[name], k, outer)
            self.items.update()
            if outer + 1 < c.outer:
                theta = {name: self._train(name, theta[name], k, outer) for name in self.networks}
        return {"loss": float(total) / (c.outer * len(self.context.classes))}

    def _match(self, name: str, theta: Parameters, k: int, outer: int) -> Tensor:
        """Σ_c D(∇L of S_c, ∇L of B_c) at θ (Eq. 9), its gradient set on the items of modality ``name``.

        A class reaches its own items alone, so graphs are built and spent class by class: memory is that of one.
        """
        matching, items, ipc = self.matching[name], self.items.items[name], self.context.setting.ipc
        matching.settle(theta, self.draws.batch_norm_rows(k, outer))
        items.grad = torch.zeros_like(items)  # (C·ipc, channels, height, width)
        total = items.new_zeros((), dtype=torch.float64)
        for position, cls in enumerate(self.context.classes):
            mine = slice(position * ipc, (position + 1) * ipc)
            omega = self.draws.siamese(k, outer, cls)
            real = matching.real(theta, self.draws.real_rows(k, outer, cls), cls, omega)
            found = matching.match(theta, items[mine], cls, omega, real)
            items.grad[mine] = found.gradient  # (ipc, channels, height, width)
            total += found.distance
        return total

    def _train(self, name: str, theta: Parameters, k: int, outer: int) -> Parameters:
        """θ after ``inner`` epochs on the whole synthetic set."""
        c, micro_batch = self.config, self.context.micro_batch
        training = SyntheticTraining(
            self.networks[name], c.factor, self.augmentation, c.lr_net, c.batch_train, micro_batch
        )
        items, labels = self.items.items[name].detach(), self.context.labels.to(self.context.device)
        for inner in range(c.inner):
            theta = training.epoch(theta, items, labels, self.draws.epoch(k, outer, inner))
        return theta

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Sourced[Any]]:
        return {**published_loops(setting.ipc), **quick_sizes(setting)}

    @classmethod
    def requires(cls, config: DCConfig, setting: Setting) -> Mapping[str, Prerequisite]:
        return required_for(config.init, config.features)

    @classmethod
    def check(cls, config: DCConfig, setting: Setting) -> None:
        check_items(config.init, config.factor, setting)
        smallest = min(setting.dataset.counts["train"])
        if config.init != "noise" and setting.ipc > smallest:
            # Items that start alike get the same gradients, so they would stay alike for ever.
            raise RequestError(
                f"init = {config.init} at IPC {setting.ipc}: the smallest class of {setting.dataset.name!r} has "
                f"{smallest} samples; lower --ipc, or use init=noise."
            )

    def distilled(self) -> LearnedSet:
        return self.items.learned(self.notes)

    def state(self) -> State:
        return self.items.state()

    def load_state(self, state: State) -> None:
        self.items.load_state(state)


def quick_sizes(setting: Setting) -> Mapping[str, Sourced[Any]]:
    """The preset ``quick``: sizes that one CPU core does in about a minute, chosen by their cost.

    From noise such a budget ends farther from the real gradients than real samples start, so it starts from those.
    """
    if setting.preset != "quick":
        return {}
    loops = {"steps": 80} if setting.ipc < 10 else {"steps": 16, "outer": 5, "inner": 2}
    return sourced("preset quick", **loops, batch_real=16, init="random")
