"""MTT: matching training trajectories (Cazenavette et al., CVPR 2022, arXiv:2203.11932), for audio, visual or both.

Algorithm 1 of the paper, for each modality by itself (AVDD, appendix C.1): draw an expert and a start, train a network
from there on the synthetic items for T steps with the learned step size, and descend on the distance to where the
expert was some epochs later (Eq. 2), with respect to the items and to the step size. The gradient is exact at constant
graph memory (:mod:`avbench.distill.trajectory`); TESLA's truncated form (arXiv:2211.10586) is an option.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Literal

from torch import Tensor

from avbench.api import (
    Augmentation,
    AvbenchError,
    Classifier,
    Context,
    InnerStep,
    LearnedSet,
    Method,
    Prerequisite,
    Setting,
    Sourced,
    State,
    StepSize,
    Student,
    SyntheticItems,
    initial_items,
    inner_steps,
    match_trajectory,
    option,
    required_for,
    sourced,
)
from avbench_methods._items import check_items
from avbench_methods.experts import Expert, segment

#: The dataset whose rows of Table 9 stand for every dataset that is not in it: the one that AVDD tunes on.
STAND_IN = "vggs10k"


@dataclass(frozen=True)
class MTTConfig:
    """Options of ``mtt``; the published values of most depend on dataset, IPC and modality."""

    steps: int = option(5000, "distillation iterations; 0 leaves the initialisation as it is")
    inner_audio: int = option(10, "T: training steps on the audio items, an iteration")
    inner_visual: int = option(5, "T for the visual items")
    batch_audio: int = option(20, "audio items of a training step")
    batch_visual: int = option(5, "visual items of a training step")
    lr_audio: float = option(1e3, "learning rate of the audio items")
    lr_visual: float = option(1e3, "learning rate of the visual items")
    step_audio: float = option(1e-3, "step size of training on the audio items, before it is learned")
    step_visual: float = option(1e-4, "step size of training on the visual items, before it is learned")
    lr_step: float = option(1e-5, "learning rate of the step sizes")
    momentum: float = option(0.5, "momentum of SGD on items and step sizes")
    max_start: int = option(2, "an iteration starts after one of an expert's epochs 0 … max_start-1")
    expert_epochs: int = option(2, "epochs of an expert from start to target")
    experts: int = option(20, "experts of each modality")
    epochs: int | None = option(None, "epochs of an expert; none: as many as are ever a target, the rest is not used")
    expert_lr: float = option(0.01, "learning rate of the experts")
    expert_batch: int = option(256, "real samples of an expert's training step")
    init: Literal["random", "herding", "noise"] = option("random", "what the items start from")
    features: Literal["trained", "random"] = option(
        "trained", "what herding embeds with: a network trained on the whole training set, or a random one"
    )
    factor: int = option(1, "l: each item holds l × l training samples")
    augment: str = option("color_crop_cutout_flip_scale_rotate", "ops, one drawn a batch; or none")
    gradient: Literal["exact", "truncated"] = option("exact", "the exact gradient, or TESLA's")
    diverged: float = option(100.0, "a loss above this fails the cell; 1 is where the training on the items starts")

    def __post_init__(self) -> None:
        Augmentation(self.augment)
        positive = ("lr_audio", "lr_visual", "step_audio", "step_visual", "lr_step", "expert_lr", "diverged")
        counts = ("inner_audio", "inner_visual", "batch_audio", "batch_visual", "max_start", "expert_epochs")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)} must be positive")
        for name in (*counts, "experts", "expert_batch", "factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.steps < 0 or not 0 <= self.momentum < 1:
            raise ValueError("steps ≥ 0 and 0 ≤ momentum < 1 are required")
        if self.epochs is not None and self.epochs < self.last_target:
            raise ValueError(
                f"epochs = {self.epochs}: max_start = {self.max_start} and expert_epochs = {self.expert_epochs} "
                f"need experts of {self.last_target} epochs"
            )

    @property
    def last_target(self) -> int:
        """The last epoch of an expert that is ever a target."""
        return self.max_start - 1 + self.expert_epochs

    def of(self, modality: str, name: str) -> Any:
        """An option that each modality has for itself."""
        return getattr(self, f"{name}_{'audio' if modality == 'a' else 'visual'}")

    def expert(self, modality: str, index: int) -> Expert:
        """An expert; its rate is constant, so the epochs that are used do not depend on how many follow."""
        epochs = self.epochs or self.last_target
        return Expert(modality, index, epochs, self.expert_lr, self.expert_batch, self.augment)


class TrajectoryMatching(Method):
    """Match where training on the items leads with the trajectories of experts (MTT)."""

    Config = MTTConfig
    config: MTTConfig

    def __init__(self, config: MTTConfig, context: Context) -> None:
        super().__init__(config, context)
        modality, info = context.setting.modality, context.setting.dataset
        items, self.notes = initial_items(context, config.init, config.features, config.factor)
        rates = {name: config.of(name, "lr") for name in modality}
        self.items = SyntheticItems(context, items, config.factor, rates, config.momentum)
        self.step_size = {name: StepSize(config.of(name, "step"), config.lr_step, config.momentum) for name in modality}
        labels = context.labels.to(context.device)
        self.students = {}
        for name in modality:
            network = Classifier(context.architecture, info, name).to(context.device, context.dtype)
            self.students[name] = Student(network, labels, config.factor, context.micro_batch)
        self.augmentation = Augmentation(config.augment)

    @property
    def steps(self) -> int:
        return self.config.steps

    def step(self, k: int) -> Mapping[str, float]:
        metrics = {}
        for name, x in self.items.items.items():  # x (C·ipc, channels, height, width)
            start, target = self._expert(name, k)  # θ_0 = θ*_t and θ* = θ*_{t+M}, (P,) each
            matched = match_trajectory(
                self.students[name],
                x.detach(),
                self.step_size[name].value,
                self._inner_steps(name, k),
                start,
                target,
                exact=self.config.gradient == "exact",
            )
            metrics[f"loss_{name}"] = self._checked(float(matched.loss), name)
            x.grad = matched.items  # ∂L/∂x
            self.step_size[name].update(float(matched.step_size))  # ∂L/∂β
            metrics[f"step_size_{name}"] = self.step_size[name].value
        self.items.update()
        return metrics

    def _expert(self, name: str, k: int) -> tuple[Tensor, Tensor]:
        """θ_0 and θ* of step ``k``: every expert once before any comes again, a start drawn each time."""
        c, config = self.context, self.config
        turn, place = divmod(k, config.experts)
        index = int(c.streams(f"order of experts {name}", step=turn).permutation(config.experts)[place])
        t = int(c.streams(f"start {name}", step=k).integers(config.max_start))
        title, network = expert_name(name, index), self.students[name].network
        parameters = sum(p.numel() for p in network.parameters())
        pair = segment(c.prerequisites[title], title, t, t + config.expert_epochs, parameters)
        return pair[0].to(c.device, c.dtype), pair[1].to(c.device, c.dtype)

    def _inner_steps(self, name: str, k: int) -> list[InnerStep]:
        """The T batches of step ``k`` with their augmentations."""
        rng = self.context.streams(f"inner steps {name}", step=k)
        inner, batch = self.config.of(name, "inner"), self.config.of(name, "batch")
        return inner_steps(rng, inner, len(self.context.labels), batch, self.config.factor, self.augmentation)

    def _checked(self, loss: float, name: str) -> float:
        """The loss; NaN is for the runner to refuse."""
        if loss > self.config.diverged:
            which = "audio" if name == "a" else "visual"
            raise AvbenchError(
                f"training on the {which} items diverged: loss {loss:.3g}, where its start has 1; "
                f"lower lr_{which} or step_{which}."
            )
        return loss

    def distilled(self) -> LearnedSet:
        """The items and step sizes of the last iteration, not of the best."""
        learned = {name: step_size.value for name, step_size in self.step_size.items()}
        return replace(self.items.learned(self.notes), step_size=learned)

    def state(self) -> State:
        return {"items": self.items.state(), "step_size": {n: s.state() for n, s in self.step_size.items()}}

    def load_state(self, state: State) -> None:
        self.items.load_state(state["items"])
        for name, step_size in self.step_size.items():
            step_size.load_state(state["step_size"][name])

    @classmethod
    def requires(cls, config: MTTConfig, setting: Setting) -> Mapping[str, Prerequisite]:
        experts = {
            expert_name(name, index): config.expert(name, index)
            for name in setting.modality
            for index in range(config.experts)
        }
        return {**required_for(config.init, config.features), **experts}

    @classmethod
    def check(cls, config: MTTConfig, setting: Setting) -> None:
        check_items(config.init, config.factor, setting)

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Sourced[Any]]:
        found: dict[str, Sourced[Any]] = {}
        for name in setting.modality:
            row, source = published(setting.dataset.dataset, setting.ipc, name)
            which = "audio" if name == "a" else "visual"
            of_both = {column: int(row[column]) for column in ("expert_epochs", "max_start")}
            counts = {f"{column}_{which}": int(row[column]) for column in ("inner", "batch")}
            rates = {f"{column}_{which}": float(row[column]) for column in ("lr", "step")}
            found |= sourced(source, **of_both, **counts, **rates)
        return {**found, **quick(setting)}


def expert_name(modality: str, index: int) -> str:
    """What a cell calls an expert that it requires."""
    return f"{'audio' if modality == 'a' else 'visual'} expert {index}"


@cache
def table9() -> dict[tuple[str, str, int], dict[str, str]]:
    """AVDD's Table 9 by (modality, dataset, ipc), without its four empty rows."""
    text = files("avbench_methods").joinpath("mtt_table9.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(line for line in text.splitlines() if not line.startswith("#"))
    return {(row["modality"], row["dataset"], int(row["ipc"])): row for row in rows if row["inner"]}


def published(dataset: str, ipc: int, modality: str) -> tuple[Mapping[str, str], str]:
    """The row of Table 9 that holds, and its source.

    A row that the table lacks, or has empty, is that of the nearest lower IPC, or of the lowest where there is none
    lower. A dataset that the table lacks has the rows of VGGS-10k.
    """
    table = table9()
    listed = dataset if any(name == dataset for _, name, _ in table) else STAND_IN
    known = sorted(i for m, name, i in table if (m, name) == (modality, listed))
    at = max((i for i in known if i <= ipc), default=known[0])
    exact = (listed, at) == (dataset, ipc)
    source = "AVDD, Table 9" if exact else f"AVDD, Table 9, extrapolated from {listed} at IPC {at}"
    return table[modality, listed, at], source


def quick(setting: Setting) -> Mapping[str, Sourced[Any]]:
    """The preset ``quick``: a CPU's minute; chosen for cost and by the loss on the experts, never by a test score."""
    if setting.preset != "quick":
        return {}
    both = {"inner": 10, "batch": 20, "step": 0.01}
    of_each = {f"{name}_{which}": value for name, value in both.items() for which in ("audio", "visual")}
    steps = 100 if setting.ipc < 10 else 60
    return sourced("preset quick", steps=steps, lr_step=1e-4, experts=2, expert_batch=32, **of_each)
