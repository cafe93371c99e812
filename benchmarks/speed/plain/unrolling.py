"""MTT as published (arXiv:2203.11932, Algorithm 1): one graph over all training steps, differentiated at its end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from plain.augmentation import augmented
from plain.network import PlainNetwork

#: Of a training step: rows of the items, the op, its unit numbers for each of them.
UnrolledStep = tuple[Tensor, str, Tensor]


def parameters_from(network: PlainNetwork, flat: Tensor) -> dict[str, Tensor]:
    """One vector (P,) as the network's parameters by name."""
    named = dict(network.named_parameters())
    parts = torch.split(flat, [p.numel() for p in named.values()])
    return {name: part.view(p.shape) for part, (name, p) in zip(parts, named.items(), strict=True)}


def unrolled(
    network: PlainNetwork,
    items: Tensor,
    labels: Tensor,
    step_size: float,
    steps: Sequence[UnrolledStep],
    start: Tensor,
    target: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of ‖θ_T − θ*‖² / ‖θ_0 − θ*‖² with respect to items (N, channels, height, width) and step size."""
    x, beta = items.clone().requires_grad_(True), torch.tensor(step_size, device=items.device, requires_grad=True)
    theta = start.clone().requires_grad_(True)
    for rows, op, units in steps:
        output = functional_call(network, parameters_from(network, theta), (augmented(x[rows], op, units),))
        (gradient,) = torch.autograd.grad(F.cross_entropy(output, labels[rows]), theta, create_graph=True)
        theta = theta - beta * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    over_items, over_step = torch.autograd.grad(loss, [x, beta])
    return over_items, over_step
