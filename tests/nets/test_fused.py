"""The large ConvNet's own pass: the numbers of the plain layers, forwards, backwards, and for any micro-batch."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from avbench.nets import fused
from avbench.nets.convnet import ConvNet
from avbench.nets.fused import norm_relu_pool, suits


def _plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.relu(F.group_norm(x, x.shape[1], weight, bias)), 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 6), (9, 8), (7, 5)])
def test_value_gradient_and_second_gradient_are_those_of_the_plain_layers(
    layout: torch.memory_format, size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, *size, dtype=torch.float64, generator=generator).contiguous(memory_format=layout)
    x.requires_grad_(True)
    weight = torch.tensor([1.0, 0.7, -0.9, 1.3], dtype=torch.float64)
    bias = torch.tensor([0.0, 0.4, -0.3, 0.1], dtype=torch.float64)
    ours, theirs = norm_relu_pool(x, weight, bias, 1e-5), _plain(x, weight, bias)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    slope = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    for graph in (False, True):
        (mine,) = torch.autograd.grad(ours, x, slope, create_graph=graph, retain_graph=True)
        (wanted,) = torch.autograd.grad(theirs, x, slope, create_graph=graph, retain_graph=True)
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-12)
    (second,) = torch.autograd.grad(mine.square().sum(), x)
    (wanted_second,) = torch.autograd.grad(wanted.square().sum(), x)
    torch.testing.assert_close(second, wanted_second, rtol=1e-9, atol=1e-11)


def test_it_is_left_to_the_plain_layers_where_weights_learn_or_a_scale_is_near_zero() -> None:
    ones, zeros = torch.ones(4), torch.zeros(4)
    assert suits(ones, zeros)
    assert not suits(ones.clone().requires_grad_(True), zeros)
    assert not suits(torch.tensor([1.0, 1.0, 1e-4, 1.0]), zeros)
    assert not suits(ones, torch.tensor([0.0, 0.0, 500.0, 0.0]))
    with torch.no_grad():  # without a gradient any scale will do
        assert suits(torch.zeros(4).requires_grad_(True), zeros)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take feature maps of any size for large ones."""
    monkeypatch.setattr(fused, "_LEAST_BYTES", 0)


@pytest.mark.parametrize(("shape", "padding", "grid"), [((3, 32, 32), 1, (4, 4)), ((1, 33, 28), 3, (4, 3))])
def test_a_network_embeds_and_pulls_back_as_its_layers_do(
    always: None, shape: tuple[int, int, int], padding: int, grid: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    network = ConvNet(shape, 8, 3, grid, padding).double().requires_grad_(False)
    x = torch.randn(5, *shape, dtype=torch.float64)

    def embedded(way: object) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_(True)
        z = network(leaf) if way is network else network.layers(leaf).flatten(1)
        (gradient,) = torch.autograd.grad(z.square().sum(), leaf)
        return z.detach(), gradient

    for ours, theirs in zip(embedded(network), embedded(network.layers), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_micro_batches_change_no_bit(always: None) -> None:
    torch.manual_seed(0)
    network = ConvNet((3, 32, 32), 16, 3, (4, 4)).requires_grad_(False)
    x = torch.randn(13, 3, 32, 32)

    def embedded(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_(True)
        parts = [network(leaf[start : start + size]) for start in range(0, len(x), size)]
        for z in parts:
            z.square().sum().backward()
        assert leaf.grad is not None
        return torch.cat(parts).detach(), leaf.grad

    whole = embedded(13)
    for size in (1, 2, 3, 5, 12):
        for found, wanted in zip(embedded(size), whole, strict=True):
            assert torch.equal(found, wanted), size


def test_weights_that_learn_get_their_gradients(always: None) -> None:
    torch.manual_seed(0)
    network = ConvNet((3, 16, 16), 4, 2, (4, 4)).double()
    x = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    network(x).square().sum().backward()
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    network.layers(x).square().sum().backward()
    wanted = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(found) == len(wanted) == 8
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)
