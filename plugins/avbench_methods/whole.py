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
        of_class = [torch.from_numpy(train.class_rows(c)) for c in self.context.classes]
        labels = torch.tensor(self.context.classes).repeat_interleave(torch.tensor([len(rows) for rows in of_class]))
        return SelectedSet(setting.dataset, setting.modality, labels, torch.cat(of_class))
