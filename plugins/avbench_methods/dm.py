"""DM: distribution matching (Zhao & Bilen, WACV 2023, arXiv:2110.04181), for audio, visual or both.

With AVDD's optimiser, batch and iterations, random real initialisation and no factor: the paper's DM baseline
(AVDD, section 4.1). Each modality is matched by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from avbench.api import Context, LossWeights, Setting, Sourced, option, weighted_loss
from avbench_methods.avdd import as_dm, published_lambda, quick_steps
from avbench_methods.matching import MatchingConfig, MatchingMethod


@dataclass(frozen=True)
class DMConfig(MatchingConfig):
    """Options of ``dm``."""

    match: Literal["none", "avdd"] = option(
        "none",
        "avdd: multiply the learning rates by 1 + 2λ, AVDD's λ at this IPC; the two are then one method",
    )


class DistributionMatching(MatchingMethod):
    """Match class mean embeddings of random networks (DM)."""

    Config = DMConfig
    config: DMConfig

    def __init__(self, config: DMConfig, context: Context) -> None:
        if config.match == "avdd":
            # ICM + CGM = 2·base by the parallelogram law, so AVDD at equal λ descends 1 + 2λ times as far.
            times = 1 + 2 * published_lambda(context.setting.ipc)
            rates = {name: rate * times for name, rate in config.rates().items()}
            config = replace(config, lr_audio=rates["a"], lr_visual=rates["v"])
        super().__init__(config, context)

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Sourced[Any]]:
        return quick_steps(setting)

    @classmethod
    def equals(cls, config: DMConfig, setting: Setting) -> str | None:
        """DM with its learning rates written out in one way, which is what AVDD at equal λ equals, too."""
        return as_dm(config, 1 + 2 * published_lambda(setting.ipc) if config.match == "avdd" else 1)

    def step(self, k: int) -> Mapping[str, float]:
        draw = self.real.at(k)  # ψ_θ, A_ω and R̄ (C, D) of each modality
        loss = self.items.match(draw, lambda R, S: weighted_loss(R, S, LossWeights()))  # Eq. 4, summed over c
        self.items.update()
        return {"loss": loss}
