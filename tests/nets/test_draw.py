"""Drawing weights from our own streams: PyTorch's distributions, reproducible by stream."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from avbench.api import Streams
from avbench.errors import RequestError
from avbench.nets.base import draw_default
from avbench.nets.convnet import ConvNet

LAYERS = {
    "conv": lambda: nn.Conv2d(16, 64, 3),
    "grouped conv": lambda: nn.Conv2d(16, 64, 3, groups=4),
    "linear": lambda: nn.Linear(300, 40),
}


def drawn(layer: nn.Module, seed: int = 0) -> nn.Module:
    draw_default(layer, Streams(seed)("weights"))
    return layer


@pytest.mark.parametrize("kind", LAYERS)
def test_weights_follow_pytorch_s_default_distribution(kind: str) -> None:
    ours, theirs = drawn(LAYERS[kind]()), LAYERS[kind]()
    bound = 1 / math.sqrt(theirs.weight[0].numel())
    for own, reference in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        assert own.abs().max() <= bound * (1 + 1e-6)
        assert own.abs().max() > 0.9 * bound
        assert reference.abs().max() <= bound * (1 + 1e-6), "PyTorch's own bound is another"
    n = ours.weight.numel()
    assert float(ours.weight.detach().std()) == pytest.approx(bound / math.sqrt(3), rel=5 / math.sqrt(n))
    assert abs(float(ours.weight.detach().mean())) < 5 * bound / math.sqrt(3 * n)


def test_norms_start_as_the_identity() -> None:
    for norm in (nn.GroupNorm(4, 4), nn.BatchNorm2d(4), nn.LayerNorm(4)):
        with torch.no_grad():
            norm.weight.fill_(5)
            norm.bias.fill_(5)
        drawn(norm)
        assert (norm.weight == 1).all() and (norm.bias == 0).all()


def test_batch_norm_forgets_its_running_statistics() -> None:
    norm = nn.BatchNorm2d(2)
    norm(torch.randn(8, 2, 3, 3) + 7)
    drawn(norm)
    assert (norm.running_mean == 0).all() and (norm.running_var == 1).all()


def test_the_same_stream_gives_the_same_weights_and_another_gives_others() -> None:
    def weights(seed: int, torch_seed: int) -> list[torch.Tensor]:
        torch.manual_seed(torch_seed)
        return list(drawn(ConvNet((3, 16, 16), 4, 2, (4, 4)), seed).parameters())

    one, again, other = weights(0, 1), weights(0, 2), weights(1, 1)
    assert all(torch.equal(p, q) for p, q in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])


def test_no_two_parameters_share_their_draws() -> None:
    network = drawn(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8)))
    assert not torch.equal(network[0].weight, network[1].weight)
    assert not np.intersect1d(network[0].weight.detach().numpy(), network[1].weight.detach().numpy()).size


def test_float64_networks_hold_the_float32_draws() -> None:
    one, other = drawn(nn.Linear(5, 5)), drawn(nn.Linear(5, 5).double())
    assert torch.equal(one.weight.double(), other.weight)


def test_weights_drawn_in_place_stay_trainable() -> None:
    layer = drawn(nn.Linear(3, 3))
    assert layer.weight.requires_grad and layer.weight.is_leaf


def test_a_layer_it_does_not_know_is_refused_by_name() -> None:
    with pytest.raises(RequestError, match=r"PReLU has parameters of its own.*override Architecture\.draw"):
        drawn(nn.Sequential(nn.Linear(2, 2), nn.PReLU()))
