"""The whole training set: no distillation at all, the upper bound under the same protocol."""

from __future__ import annotations

import torch

from avbench.api import Method, SelectedSet


class Whole(Method):
    """Training on the whole training set, the upper bound."""

    role = "upper bound"
    separable = True
    uses_ipc = False

    def distilled(self) -> SelectedSet:
        setting, train = self.context.setting, self.context.train
        rows = torch.arange(len(train))
        return SelectedSet(setting.dataset, setting.modality, train.labels.clone(), rows)
