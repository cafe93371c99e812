"""The large ConvNet's own pass: the numbers of the plain layers, forwards, backwards, and for any micro-batch."""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.nn import functional as F

from avbench.nets import fused, rows
from avbench.nets.base import first_order
from avbench.nets.convnet import ConvNet
from avbench.nets.first_block import first_block, suits_first
from avbench.nets.fused import norm_relu_pool, suits


def _plain(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    # PyTorch 2.11 dies of GroupNorm's gradient by γ and β alone, of channels-last maps without a gradient of their own.
    return F.avg_pool2d(F.relu(F.group_norm(x.contiguous(), x.shape[1], weight, bias)), 2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(8, 6), (9, 8), (7, 5)])
def test_value_gradient_and_second_gradient_are_those_of_the_plain_layers(
    layout: torch.memory_format, size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, *size, dtype=torch.float64, generator=generator).contiguous(memory_format=layout)
    x.requires_grad_(True)
    weight = torch.tensor([1.0, 0.7, -0.9, 1.3], dtype=torch.float64, requires_grad=True)
    bias = torch.tensor([0.0, 0.4, -0.3, 0.1], dtype=torch.float64, requires_grad=True)
    _agrees(norm_relu_pool(x, weight, bias, 1e-5), _plain(x, weight, bias), [x, weight, bias])


def _agrees(ours: torch.Tensor, theirs: torch.Tensor, inputs: list[torch.Tensor]) -> None:
    """Value, gradients by any of the inputs, and second gradients."""
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    slope = torch.randn(ours.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for wanted in (inputs[:1], inputs[1:], inputs):
        for graph in (False, True):
            mine = torch.autograd.grad(ours, wanted, slope, create_graph=graph, retain_graph=True)
            plain = torch.autograd.grad(theirs, wanted, slope, create_graph=graph, retain_graph=True)
            for found, expected in zip(mine, plain, strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    seconds = (
        torch.autograd.grad(sum(g.square().sum() for g in first), inputs, retain_graph=True) for first in (mine, plain)
    )
    for found, expected in zip(*seconds, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "padding"), [((12, 10), 1), ((13, 11), 1), ((9, 8), 3), ((8, 7), (0, 2))])
@pytest.mark.parametrize("piece", [1, 512 << 10])
def test_the_first_block_is_its_layers_too(
    monkeypatch: pytest.MonkeyPatch, layout: torch.memory_format, size: tuple[int, int], padding: object, piece: int
) -> None:
    monkeypatch.setattr(rows, "_BYTES", piece)  # of one: a pooled row at a time
    torch.manual_seed(0)
    convolution = torch.nn.Conv2d(2, 40, 3, padding=padding).double()  # type: ignore[arg-type]
    norm = torch.nn.GroupNorm(40, 40).double()
    torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
    torch.nn.init.normal_(norm.bias, 0, 0.3)
    x = torch.randn(3, 2, *size, dtype=torch.float64).contiguous(memory_format=layout).requires_grad_(True)
    assert suits_first(x, convolution, norm)
    assert convolution.bias is not None
    ours = first_block(x, convolution, norm)
    theirs = F.avg_pool2d(F.relu(norm(convolution(x))), 2)
    _agrees(ours, theirs, [x, convolution.weight, norm.weight, norm.bias])
    (found,) = torch.autograd.grad(ours.square().sum(), convolution.bias, retain_graph=True)
    assert float(found.abs().max()) == 0  # normalisation takes the bias away

    # What is asked for is known when the block is made: the sample alone, and the layers alone.
    slope = torch.randn(ours.shape, dtype=torch.float64).transpose(2, 3).contiguous().transpose(2, 3)
    for over_x in (True, False):
        leaf = x.detach().requires_grad_(over_x)
        for p in (*convolution.parameters(), *norm.parameters()):
            p.requires_grad_(not over_x)
        wanted = [leaf] if over_x else [convolution.weight, norm.weight, norm.bias]
        ours, theirs = first_block(leaf, convolution, norm), F.avg_pool2d(F.relu(norm(convolution(leaf))), 2)
        pairs = zip(*(torch.autograd.grad(each, wanted, slope) for each in (ours, theirs)), strict=True)
        for mine, plain in pairs:
            torch.testing.assert_close(mine, plain, rtol=1e-10, atol=1e-12)
    assert first_block(x[:0], convolution, norm).shape == (0, *ours.shape[1:])


def test_transforms_of_torch_func_get_the_plain_layers(always: None) -> None:
    torch.manual_seed(0)
    network = ConvNet((3, 32, 32), 64, 3, (4, 4)).double().requires_grad_(False)
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    found = torch.func.grad(lambda y: network(y).square().sum())(x)
    leaf = x.clone().requires_grad_(True)
    (wanted,) = torch.autograd.grad(network(leaf).square().sum(), leaf)
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)
    each = torch.func.vmap(lambda y: network(y[None])[0])(x)
    torch.testing.assert_close(each, network(x), rtol=1e-9, atol=1e-10)


def test_the_first_block_keeps_its_digits_where_frames_are_smooth_and_far_from_zero() -> None:
    torch.manual_seed(0)
    convolution, norm = torch.nn.Conv2d(3, 64, 3, padding=1), torch.nn.GroupNorm(64, 64)
    wave = torch.linspace(0, 6, 64).sin()
    x = 20 + (wave[:, None] * wave).expand(2, 3, 64, 64) + 0.01 * torch.randn(2, 3, 64, 64)
    exact = F.avg_pool2d(F.relu(F.group_norm(
        F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1), 64)), 2)  # fmt: skip
    plain = F.avg_pool2d(F.relu(norm(convolution(x))), 2)
    errors = [
        float((y.detach() - exact.detach()).norm() / exact.detach().norm())
        for y in (first_block(x, convolution, norm), plain)
    ]
    assert errors[0] <= 5 * errors[1] < 1e-5, errors


def test_it_is_left_to_the_plain_layers_where_a_scale_is_near_zero() -> None:
    ones, zeros = torch.ones(4), torch.zeros(4)
    assert suits(ones, zeros)
    assert suits(ones.clone().requires_grad_(True), zeros)
    assert not suits(torch.tensor([1.0, 1.0, 1e-4, 1.0]), zeros)
    assert not suits(ones, torch.tensor([0.0, 0.0, 500.0, 0.0]))
    with torch.no_grad():  # without a gradient any scale will do
        assert suits(torch.zeros(4).requires_grad_(True), zeros)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take feature maps of any size for large ones."""
    monkeypatch.setattr(fused, "_LEAST_BYTES", 0)


@pytest.mark.parametrize(("shape", "padding", "grid"), [((3, 32, 32), 1, (4, 4)), ((1, 33, 28), 3, (4, 3))])
@pytest.mark.parametrize("width", [8, 64])
def test_a_network_embeds_and_pulls_back_as_its_layers_do(
    always: None, shape: tuple[int, int, int], padding: int, grid: tuple[int, int], width: int
) -> None:
    torch.manual_seed(0)
    network = ConvNet(shape, width, 3, grid, padding).double().requires_grad_(False)
    assert (width == 64) == any(
        "FirstBlock" in name for name in _steps(network(torch.randn(2, *shape).double().requires_grad_(True)))
    )
    x = torch.randn(5, *shape, dtype=torch.float64)

    def embedded(way: object) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_(True)
        z = network(leaf) if way is network else network.layers(leaf).flatten(1)
        (gradient,) = torch.autograd.grad(z.square().sum(), leaf)
        return z.detach(), gradient

    for ours, theirs in zip(embedded(network), embedded(network.layers), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("width", [16, 64])
def test_micro_batches_change_no_bit(always: None, width: int) -> None:
    torch.manual_seed(0)
    network = ConvNet((3, 32, 32), width, 3, (4, 4)).requires_grad_(False)
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


@pytest.mark.parametrize("once", [False, True])
@pytest.mark.parametrize("width", [4, 64])
def test_weights_that_learn_get_their_gradients(always: None, once: bool, width: int) -> None:
    torch.manual_seed(0)
    network = ConvNet((3, 80, 72), width, 3, (10, 9)).double()
    x = torch.randn(3, 3, 80, 72, dtype=torch.float64)
    with first_order() if once else contextlib.nullcontext():
        z = network(x)
    assert once == any("NormReluPool" in name for name in _steps(z))
    assert (once and width == 64) == any("FirstBlock" in name for name in _steps(z))
    z.square().sum().backward()
    found = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    network.zero_grad()
    network.layers(x).square().sum().backward()
    wanted = [p.grad for p in network.parameters() if p.grad is not None]
    assert len(found) == len(wanted) == 12
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


def _steps(z: torch.Tensor) -> set[str]:
    """Names of the steps of differentiation that led to z."""
    names, waiting = set(), [z.grad_fn]
    while waiting:
        step = waiting.pop()
        if step is not None:
            names.add(step.name())
            waiting += [before for before, _ in step.next_functions]
    return names
