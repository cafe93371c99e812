"""What the kit puts beside a plugin that can't be tried alone: a selection and a learned set to judge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from avbench.distilled import LearnedSet
from avbench.method import Method, SelectionMethod
from avbench.work import State

#: Names under which they are lent; the steps of the learned set's method.
SELECTS, LEARNS = "given-selection", "given-items"
_STEPS = 2
_STEP_SIZE = 0.02


class FirstRows(SelectionMethod):
    """The first rows of each class."""

    def select(self, cls: int, count: int) -> Sequence[int]:
        return [int(row) for row in self.context.train.class_rows(cls)[:count]]


class ClassMeans(Method):
    """Items that move towards the means of their classes, with a step size to train on them."""

    def __init__(self, config: object, context: object) -> None:
        super().__init__(config, context)  # type: ignore[arg-type]
        setting, train = self.context.setting, self.context.train
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in setting.modality}
        for cls in self.context.classes:
            for name, x in train.batch(train.class_rows(cls), setting.modality).items():
                mean = x.mean(dim=0, keepdim=True)  # (1, channels, height, width)
                parts[name].append(mean.expand(setting.ipc, -1, -1, -1))
        self.target = {name: torch.cat(means) for name, means in parts.items()}
        self.items = {name: torch.zeros_like(mean) for name, mean in self.target.items()}

    @property
    def steps(self) -> int:
        return _STEPS

    def step(self, k: int) -> Mapping[str, float]:
        self.items = {name: (x + self.target[name]) / 2 for name, x in self.items.items()}
        return {}

    def distilled(self) -> LearnedSet:
        setting = self.context.setting
        sizes = dict.fromkeys(setting.modality, _STEP_SIZE)
        return LearnedSet(setting.dataset, setting.modality, self.context.labels, dict(self.items), 1, sizes)

    def state(self) -> State:
        return {"items": dict(self.items)}

    def load_state(self, state: State) -> None:
        self.items = dict(state["items"])
