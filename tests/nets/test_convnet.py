"""ConvNet at the paper's sizes, and at small ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avbench.api import Setting, Streams
from avbench.errors import RequestError
from avbench.nets.base import draw_default
from avbench.nets.convnet import ConvNet, ConvNetArchitecture, ConvNetConfig, Halving


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def paper(small):
    """A dataset of the paper's sizes: log-mel 128 × 56, frames 3 × 224 × 224, five visual blocks, grid 7 × 7."""
    return replace(
        small.stores[3].info,
        audio_shape=(1, 128, 56),
        frame_shape=(3, 224, 224),
        visual_depth=5,
        audio_depth=3,
        grid=(7, 7),
    )


@pytest.mark.parametrize(("modality", "count"), [("a", 297_216), ("v", 595_200)])
def test_parameter_counts_of_the_paper(paper, modality: str, count: int) -> None:
    encoder = ConvNetArchitecture(ConvNetConfig()).build(paper, modality)
    assert parameters(encoder) == count
    assert encoder.embedding_dim == 6272 and encoder.per_sample


@pytest.mark.parametrize("modality", ["a", "v"])
def test_both_modalities_meet_on_the_grid_at_the_paper_s_sizes(paper, modality: str) -> None:
    encoder = ConvNetArchitecture(ConvNetConfig(width=2)).build(paper, modality)
    with torch.no_grad():
        assert encoder(torch.zeros(2, *paper.shape(modality))).shape == (2, 2 * 7 * 7)


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 28, 28), (3, 32, 32), (1, 32, 56), (1, 17, 30)])
@pytest.mark.parametrize("depth", [2, 3])
@pytest.mark.parametrize("padding", [1, 3])
def test_any_size_gives_the_promised_embedding(shape: tuple, depth: int, padding: int) -> None:
    encoder = ConvNet(shape, 4, depth, (3, 3), padding)
    assert encoder(torch.randn(2, *shape)).shape == (2, encoder.embedding_dim) == (2, 36)


def test_only_the_audio_network_pads_its_first_convolution_by_three(paper) -> None:
    architecture = ConvNetArchitecture(ConvNetConfig(width=2))
    first = {name: architecture.build(paper, name).layers[0].padding for name in ("a", "v")}
    assert first == {"a": (3, 3), "v": (1, 1)}


def test_the_last_pooling_is_adaptive_only_where_halving_misses_the_grid(paper) -> None:
    architecture = ConvNetArchitecture(ConvNetConfig(width=2))
    last = {name: type(architecture.build(paper, name).layers[-1]).__name__ for name in ("a", "v")}
    assert last == {"a": "AdaptiveAvgPool2d", "v": "Halving"}


def test_a_block_is_convolution_instance_norm_relu_pooling() -> None:
    encoder = ConvNet((1, 8, 8), 4, 1, (4, 4))
    kinds = [type(layer).__name__ for layer in encoder.layers]
    assert kinds == ["Conv2d", "GroupNorm", "ReLU", "Halving"]
    norm = encoder.layers[1]
    assert norm.num_groups == norm.num_channels == 4 and norm.affine


@pytest.mark.parametrize("shape", [(8, 8), (9, 7), (2, 3)])
def test_halving_is_average_pooling_with_its_gradient(shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    ours, theirs = Halving()(x), torch.nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=1e-14)
    weights = torch.randn_like(ours)
    (by_ours,) = torch.autograd.grad((ours * weights).sum(), x)
    (by_theirs,) = torch.autograd.grad((theirs * weights).sum(), x)
    torch.testing.assert_close(by_ours, by_theirs, rtol=1e-14, atol=1e-14)


def test_depths_and_width_are_options(small) -> None:
    info = small.stores[3].info
    architecture = ConvNetArchitecture(ConvNetConfig(width=6, audio_depth=1, visual_depth=3))
    blocks = {name: sum(isinstance(m, torch.nn.Conv2d) for m in architecture.build(info, name).layers) for name in "av"}
    assert blocks == {"a": 1, "v": 3}
    assert architecture.build(info, "v").embedding_dim == 6 * 16


def test_too_many_blocks_are_refused(small) -> None:
    with pytest.raises(RequestError, match="5 blocks do not fit an input of \\(3, 16, 16\\); lower the depth"):
        ConvNetArchitecture(ConvNetConfig(visual_depth=5)).build(small.stores[3].info, "v")


@pytest.mark.parametrize("options", [{"width": 0}, {"audio_depth": 0}, {"visual_depth": -1}])
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConvNetConfig(**options)


def test_the_quick_preset_is_narrow_and_the_paper_s_is_not(small) -> None:
    info = small.stores[1].info
    assert ConvNetArchitecture.defaults(Setting(info, 1, "av", "quick"))["width"].value == 16
    assert not ConvNetArchitecture.defaults(Setting(info, 1, "av", "paper"))


@pytest.mark.parametrize("shape", [(1, 16, 24), (3, 16, 16), (1, 32, 56)])
def test_a_sample_s_embedding_and_gradient_keep_their_bits_in_any_batch(shape: tuple) -> None:
    """A batch of one included, which PyTorch by itself convolves with other kernels; weights frozen, as in matching."""
    encoder = ConvNet(shape, 6, 2, (4, 4), 3).requires_grad_(False)
    draw_default(encoder, Streams(0)("test"))
    x = torch.randn(19, *shape, generator=torch.Generator().manual_seed(0))
    slope = torch.linspace(-1, 1, encoder.embedding_dim)

    def embedded(size: int) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.clone().requires_grad_(True)
        parts = [encoder(leaf[i : i + size]) for i in range(0, 19, size)]
        for z in parts:
            (z * slope).sum().backward()
        return torch.cat(parts).detach(), leaf.grad

    whole = embedded(19)
    for size in (1, 2, 3, 6, 18):
        z, gradient = embedded(size)
        assert torch.equal(z, whole[0]) and torch.equal(gradient, whole[1]), size


def test_a_batch_of_one_trains_the_same_weights_as_its_layers() -> None:
    encoder = ConvNet((1, 8, 8), 3, 2, (2, 2)).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    for way in (encoder, lambda x: encoder.layers(x).flatten(1)):
        encoder.zero_grad()
        way(x).square().sum().backward()
        found = [p.grad.clone() for p in encoder.parameters()]
        if way is encoder:
            first = found
    for one, other in zip(first, found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_a_gradient_that_is_differentiated_again_sees_each_sample_once() -> None:
    """Gradient matching at IPC 1: a second copy would double the dearest part of a step."""
    seen: list[int] = []
    encoder = ConvNet((1, 8, 8), 3, 2, (2, 2))
    encoder.layers[0].register_forward_hook(lambda module, given, z: seen.append(len(z)))
    x = torch.randn(1, 1, 8, 8, requires_grad=True)
    gradients = torch.autograd.grad(encoder(x).square().sum(), list(encoder.parameters()), create_graph=True)
    torch.autograd.grad(sum(g.square().sum() for g in gradients), x)
    with torch.no_grad():
        encoder(x)
    assert seen == [1, 2]
