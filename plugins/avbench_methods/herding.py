"""Herding: real samples whose running mean follows the class mean (Welling 2009; AVDD, appendix B, Fig. 9)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from avbench.api import Prerequisite, SelectionMethod, Setting, herding_rows, option, required_for


@dataclass(frozen=True)
class HerdingConfig:
    """Options of ``herding``."""

    features: Literal["trained", "random"] = option(
        "trained", "embed with a network trained on the whole training set, or with a random one"
    )


class Herding(SelectionMethod):
    """Real samples that greedily follow the class mean of embeddings."""

    Config = HerdingConfig
    config: HerdingConfig

    @classmethod
    def requires(cls, config: HerdingConfig, setting: Setting) -> Mapping[str, Prerequisite]:
        return required_for("herding", config.features)

    def select(self, cls: int, count: int) -> Sequence[int]:
        return herding_rows(self.context, cls, count, self.config.features)
