"""Herding: choose samples whose running sum follows the class mean (Welling 2009; AVDD, Fig. 9)."""

from __future__ import annotations

import torch
from torch import Tensor


def herd(features: Tensor, count: int) -> list[int]:
    """Greedy choice of ``count`` rows of ``features`` (N, D).

    At each turn: the row nearest to mean·(i+1) − (sum of the chosen). A row is chosen once; where ``count``
    exceeds N the choice starts over, so the order simply repeats.
    """
    features = features.double()
    mean = features.mean(dim=0)
    chosen: list[int] = []
    total = torch.zeros_like(mean)
    free = torch.ones(features.shape[0], dtype=torch.bool)
    for turn in range(min(count, features.shape[0])):
        wanted = mean * (turn + 1) - total
        distance = (features - wanted).square().sum(dim=1)
        distance[~free] = torch.inf
        nearest = int(distance.argmin())
        chosen.append(nearest)
        free[nearest] = False
        total += features[nearest]
    return [chosen[i % len(chosen)] for i in range(count)]
