"""Options and plumbing that distribution-matching methods share; the algorithm itself stands in each method."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Literal

from avbench.api import (
    Augmentation,
    Context,
    LearnedSet,
    Method,
    Prerequisite,
    RealSide,
    Setting,
    State,
    SyntheticItems,
    initial_items,
    option,
    required_for,
)
from avbench_methods._items import check_items


@dataclass(frozen=True)
class MatchingConfig:
    """Options of every method that matches class mean embeddings (DM, arXiv:2110.04181; AVDD, appendix C)."""

    steps: int = option(5000, "distillation iterations; 0 leaves the initialisation as it is")
    lr: float = option(0.2, "learning rate of the synthetic items")
    lr_audio: float | None = option(None, "learning rate of the audio items; none: lr")
    lr_visual: float | None = option(None, "learning rate of the visual items; none: lr")
    momentum: float = option(0.5, "momentum of SGD")
    batch_real: int = option(128, "real samples per class and step")
    init: Literal["random", "herding", "noise"] = option("random", "what the items start from")
    features: Literal["trained", "random"] = option(
        "trained", "what herding embeds with: a network trained on the whole training set, or a random one"
    )
    factor: int = option(1, "l: each item holds l × l training samples")
    augment: str = option("color_crop_cutout_flip_scale_rotate", "Siamese ops, one drawn a step; or none")
    omega_per_class: bool = option(False, "draw the op for each class (the paper), or once a step (the code)")

    def __post_init__(self) -> None:
        Augmentation(self.augment)
        rates = (self.lr, self.lr_audio, self.lr_visual)
        if any(rate is not None and not 0 < rate < inf for rate in rates):
            raise ValueError("learning rates must be positive and finite")
        if self.steps < 0 or self.batch_real < 1 or self.factor < 1 or not 0 <= self.momentum < 1:
            raise ValueError("steps ≥ 0, batch_real ≥ 1, factor ≥ 1 and 0 ≤ momentum < 1 are required")

    def rates(self) -> dict[str, float]:
        """Learning rate by modality."""
        return {"a": self.lr_audio or self.lr, "v": self.lr_visual or self.lr}


class MatchingMethod(Method):
    """A method whose state is a :class:`SyntheticItems` and whose real side cells may share."""

    separable = True
    config: MatchingConfig

    def __init__(self, config: MatchingConfig, context: Context) -> None:
        super().__init__(config, context)
        items, self.notes = initial_items(context, config.init, config.features, config.factor)
        self.items = SyntheticItems(context, items, config.factor, config.rates(), config.momentum)
        self.real = RealSide.shared(context, config.batch_real, config.augment, config.omega_per_class)

    @classmethod
    def requires(cls, config: MatchingConfig, setting: Setting) -> Mapping[str, Prerequisite]:
        return required_for(config.init, config.features)

    @classmethod
    def shares(cls, config: MatchingConfig) -> Hashable:
        return ("distribution matching", config.batch_real, config.augment, config.omega_per_class)

    @classmethod
    def check(cls, config: MatchingConfig, setting: Setting) -> None:
        check_items(config.init, config.factor, setting)

    @property
    def steps(self) -> int:
        return self.config.steps

    def distilled(self) -> LearnedSet:
        return self.items.learned(self.notes)

    def state(self) -> State:
        return self.items.state()

    def load_state(self, state: State) -> None:
        self.items.load_state(state)
