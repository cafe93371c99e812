"""AVDD: audio-visual dataset distillation (Kushwaha et al., TMLR 2024).

Algorithm 1 of the paper: at each iteration draw networks ψ_θa, ψ_θv and an augmentation, embed a real batch of every
class and the synthetic items, and descend on base + λ_ICM·ICM + λ_CGM·CGM (Eq. 10). Items start from herding-selected
pairs with l² of them packed into one (appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

from avbench.api import LossWeights, RequestError, Setting, Sourced, option, sourced, weighted_loss
from avbench_methods.matching import MatchingConfig, MatchingMethod

#: λ_ICM = λ_CGM by IPC (appendix C). Between and beyond the published IPCs the nearest lower one holds.
LAMBDA_BY_IPC = {1: 10.0, 10: 10.0, 20: 20.0}


def published_lambda(ipc: int) -> float:
    """λ at an IPC: the published one, or that of the nearest lower published IPC."""
    return LAMBDA_BY_IPC[max(known for known in LAMBDA_BY_IPC if known <= max(ipc, 1))]


@dataclass(frozen=True)
class AVDDConfig(MatchingConfig):
    """Options of ``avdd``."""

    init: Literal["random", "herding", "noise"] = option("herding", "what the items start from")
    factor: int = option(2, "l: each item holds l × l training samples")
    base: float = option(1.0, "weight of the base loss, Eq. 3")
    icm: float = option(10.0, "weight of implicit cross-matching, Eq. 6")
    cgm: float = option(10.0, "weight of cross-modal gap matching, Eq. 9")
    scmm: float = option(0.0, "weight of synthetic cross-modal matching, Eq. 11 (an ablation)")
    rscmm: float = option(0.0, "weight of real-synthetic cross-modal matching, Eq. 14 (an ablation)")

    @property
    def weights(self) -> LossWeights:
        return LossWeights(self.base, self.icm, self.cgm, self.scmm, self.rscmm)

    @property
    def times(self) -> float | None:
        """How many times DM's gradient this one's is; ``None`` where the loss is another than DM's.

        |R̄a − S̄a + R̄v − S̄v|² + |R̄a − S̄a − (R̄v − S̄v)|² = 2·base (the parallelogram law), so at λ_ICM = λ_CGM = λ
        the loss of Eq. 10 is (base's weight + 2λ)·base.
        """
        equal = self.icm == self.cgm and self.scmm == self.rscmm == 0
        return self.base + 2 * self.icm if equal and self.base + 2 * self.icm > 0 else None


class AudioVisualDistillation(MatchingMethod):
    """Distribution matching with joint audio-visual losses (AVDD)."""

    Config = AVDDConfig
    config: AVDDConfig

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Sourced[Any]]:
        value = published_lambda(setting.ipc)
        return {**sourced("AVDD, appendix C", icm=value, cgm=value), **quick_steps(setting)}

    @classmethod
    def check(cls, config: MatchingConfig, setting: Setting) -> None:
        super().check(config, setting)
        assert isinstance(config, AVDDConfig)
        if setting.modality != "av" and config.weights.cross_modal:
            raise RequestError(
                f"avdd's joint losses need both modalities, not {setting.modality!r}: "
                "use --modality av, or dm, which matches each modality by itself."
            )

    @classmethod
    def controls(cls, config: AVDDConfig) -> Sequence[str]:
        """DM from the same start: with its own step, and with the step at which the two are one method.

        That step is written out for each modality: what is not written here a control takes over, one modality's rate,
        too; and ``match=avdd`` goes by the λ published for the IPC, which need not be the one that is set.
        """
        same_start = f"init={config.init},factor={config.factor}"
        own, times = f"dm[{same_start}]", config.times
        if times is None:
            return (own,)
        rates = ",".join(f"{name}={rate}" for name, rate in scaled(config, times).items())
        return (own, f"dm[{same_start},{rates}]")

    @classmethod
    def equals(cls, config: AVDDConfig, setting: Setting) -> str | None:
        return None if config.times is None else as_dm(config, config.times)

    def step(self, k: int) -> Mapping[str, float]:
        draw = self.real.at(k)  # ψ_θa, ψ_θv, A_ω and R̄a, R̄v (C, D)
        loss = self.items.match(draw, lambda R, S: weighted_loss(R, S, self.config.weights))  # Eq. 10, summed over c
        self.items.update()
        return {"loss": loss}


def scaled(config: MatchingConfig, times: float) -> dict[str, float]:
    """``times`` the learning rates, as the options for them."""
    # Twelve digits: 0.1 × 21 is 2.1, whatever its last bit.
    audio, visual = (float(f"{config.rates()[name] * times:.12g}") for name in "av")
    return {"lr_audio": audio, "lr_visual": visual}


def as_dm(config: MatchingConfig, times: float) -> str:
    """DM with ``config``'s start, draws and optimiser, and ``times`` its learning rates: with every option.

    Under SGD with momentum, no decay and no clipping, a loss ``times`` as large is a step ``times`` as long.
    """
    options = {each.name: getattr(config, each.name) for each in fields(MatchingConfig)}
    rates = scaled(config, times)
    if rates["lr_audio"] == rates["lr_visual"]:  # one option, so that dm[lr=4.2] is known as it stands
        options |= {"lr": rates["lr_audio"], "lr_audio": None, "lr_visual": None}
    else:
        options |= {"lr": MatchingConfig.lr, **rates}
    return f"dm[{','.join(f'{name}={value}' for name, value in options.items())}]"


def quick_steps(setting: Setting) -> Mapping[str, Sourced[Any]]:
    """The preset ``quick``: sizes that a CPU does in minutes."""
    if setting.preset != "quick":
        return {}
    return sourced("preset quick", steps=150 if setting.ipc < 10 else 60, batch_real=32)
