"""Evaluation as a plain script has it: one network after the other, Adam that is not fused, the test set in memory.

The recipe is AVDD's (section 4.1, appendix C): an encoder and a classifier of each modality, trained by CE_a + CE_v,
and the mean of both softmaxes to predict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from plain.augmentation import augmented
from plain.network import Form, PlainNetwork

Rows = npt.NDArray[np.int64]
#: Of one batch: rows of the samples, the op, its unit numbers for each of them.
TrainingBatch = tuple[Rows, str, Tensor]


@dataclass(frozen=True)
class Judged:
    """What one network came to: mean training loss of each epoch, and correct test samples by a, v and av."""

    losses: tuple[float, ...]
    correct: Mapping[str, int]


@dataclass(frozen=True)
class PlainEvaluation:
    """How to judge.

    Attributes:
        samples, labels: what the networks train on, by modality (N, channels, height, width), and (N,).
        test, test_labels: likewise, float32 in memory.
        parameters: of network i by modality, the encoder's, then the classifier's.
        batches: of network i in epoch k.
        rates: learning rate by modality, and ``"head"``, of an epoch.
    """

    forms: Mapping[str, Form]
    samples: Mapping[str, Tensor]
    labels: Tensor
    test: Mapping[str, Tensor]
    test_labels: Tensor
    parameters: Callable[[int], Mapping[str, Sequence[Tensor]]]
    batches: Callable[[int, int], Sequence[TrainingBatch]]
    rates: Callable[[int], Mapping[str, float]]
    epochs: int
    weight_decay: float
    test_batch: int
    device: torch.device

    def judge(self, index: int) -> Judged:
        """Train network ``index`` and test it."""
        networks = {name: PlainNetwork(form).to(self.device) for name, form in self.forms.items()}
        given = self.parameters(index)
        for name, network in networks.items():
            network.copy(given[name])
        names = [*networks, *["head"] * len(networks)]
        parts = [n.features for n in networks.values()] + [n.classifier for n in networks.values()]
        groups = [{"params": list(part.parameters()), "lr": 0.0} for part in parts]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.999), weight_decay=self.weight_decay)
        losses = []
        for epoch in range(self.epochs):
            rates = self.rates(epoch)
            for name, group in zip(names, adam.param_groups, strict=True):
                group["lr"] = rates[name]
            total = 0.0
            for rows, op, units in self.batches(index, epoch):
                total += self._update(networks, adam, rows, op, units) * len(rows)
            losses.append(total / len(self.labels))
        return Judged(tuple(losses), self._test(networks))

    def _update(
        self, networks: Mapping[str, PlainNetwork], adam: torch.optim.Adam, rows: Rows, op: str, units: Tensor
    ) -> float:
        index = torch.from_numpy(rows)
        labels = self.labels[index].to(self.device)
        each = []
        for name, network in networks.items():
            x = augmented(self.samples[name][index].to(self.device), op, units)
            each.append(F.cross_entropy(network(x), labels))
        loss = torch.stack(each).sum()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        return loss.item()

    @torch.no_grad()
    def _test(self, networks: Mapping[str, PlainNetwork]) -> dict[str, int]:
        correct = dict.fromkeys([*networks, "av"], 0)
        for start in range(0, len(self.test_labels), self.test_batch):
            part = slice(start, start + self.test_batch)
            found = {name: net(self.test[name][part].to(self.device)).softmax(dim=1) for name, net in networks.items()}
            found["av"] = torch.stack(list(found.values())).mean(dim=0)
            labels = self.test_labels[part].to(self.device)
            for name, probabilities in found.items():
                correct[name] += int((probabilities.argmax(dim=1) == labels).sum())
        return correct
