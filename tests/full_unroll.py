"""The plain way to match a trajectory, as an oracle: every graph of the T steps is kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.api import Classifier, InnerStep, decode


def unroll(
    network: Classifier,
    items: Tensor,
    labels: Tensor,
    step_size: Tensor,
    steps: Sequence[InnerStep],
    start: Tensor,
    target: Tensor,
    factor: int = 1,
) -> Tensor:
    """MTT's Algorithm 1 and Eq. 2 as they are written; differentiate the result."""
    theta = start.clone().requires_grad_(True)
    for step in steps:
        rows = torch.from_numpy(step.rows)
        x = step.transform(decode(items[rows], factor))
        logits = network.logits(network.unflatten(theta), x)
        loss = F.cross_entropy(logits, labels[rows].repeat_interleave(factor**2))
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - step_size * gradient
    return (theta - target).square().sum() / (start - target).square().sum()
