"""How a protocol updates its networks: by Adam at its own rates, or by SGD at the step size learned with the set.

A step size that was learned with synthetic items (MTT, arXiv:2203.11932, section 3.3) is the rate at which they train
a network. As in MTT's published evaluation: SGD with momentum 0.9 and weight decay 5e-4, and a tenth of the rate in
the second half of the epochs. How many epochs there are, the batches and the augmentation remain the protocol's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from avbench.protocols.network import Network
from avbench.work import State

MOMENTUM, WEIGHT_DECAY, DECAY = 0.9, 5e-4, 0.1


class Optimisers:
    """The optimisers of one network.

    Args:
        rates: Adam's learning rate of each modality's encoder.
        head_rate: that of the head.
        weight_decay: the L2 penalty inside Adam.
        step_size: learned step sizes; such a modality's encoder, and what of the head serves it alone, go by SGD.
    """

    def __init__(
        self,
        network: Network,
        rates: Mapping[str, float],
        head_rate: float,
        weight_decay: float,
        step_size: Mapping[str, float],
    ) -> None:
        by_adam: list[dict[str, Any]] = []
        by_sgd: list[dict[str, Any]] = []
        owned: set[int] = set()
        for name, encoder in network.encoders.items():
            if name in step_size:
                own = network.head.own(name)
                owned |= {id(p) for p in own}
                by_sgd.append({"params": [*encoder.parameters(), *own], "lr": step_size[name]})
            else:
                by_adam.append({"params": list(encoder.parameters()), "lr": rates[name]})
        shared = [p for p in network.head.parameters() if id(p) not in owned]
        if shared:
            by_adam.append({"params": shared, "lr": head_rate})
        self._optimisers: dict[str, torch.optim.Optimizer] = {}
        if by_adam:
            adam = torch.optim.Adam(by_adam, betas=(0.9, 0.999), weight_decay=weight_decay, fused=True)
            self._optimisers["optimiser"] = adam
        if by_sgd:
            self._optimisers["sgd"] = torch.optim.SGD(by_sgd, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY)
        self._full = {key: [g["lr"] for g in one.param_groups] for key, one in self._optimisers.items()}

    def schedule(self, epoch: int, epochs: int, factor: float) -> None:
        """Set the rates of an epoch: ``factor`` is the protocol's own decay, learned step sizes have theirs."""
        # MTT's code lowers the rate once, after the epoch with index E // 2 + 1.
        factors = {"optimiser": factor, "sgd": DECAY if epoch > epochs // 2 + 1 else 1.0}
        for key, one in self._optimisers.items():
            for group, rate in zip(one.param_groups, self._full[key], strict=True):
                group["lr"] = rate * factors[key]

    def zero_grad(self) -> None:
        for one in self._optimisers.values():
            one.zero_grad(set_to_none=True)

    def step(self) -> None:
        for one in self._optimisers.values():
            one.step()

    def state(self) -> State:
        return {key: one.state_dict() for key, one in self._optimisers.items()}

    def load_state(self, state: State) -> None:
        for key, one in self._optimisers.items():
            one.load_state_dict(state[key])
