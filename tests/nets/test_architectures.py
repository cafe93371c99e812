"""LeNet, AlexNet, VGG11, ResNet18 and timm's: any input size, clear refusals, weights from streams alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from avbench.api import Architecture, RequestError, Streams
from avbench.configure import configure
from avbench.grammar import parse_variants
from avbench.nets.timm import TimmArchitecture, TimmConfig

NAMES = ["lenet", "alexnet", "vgg11", "vgg11[norm=batch]", "vgg11[norm=none]", "resnet18", "resnet18[norm=batch]"]
NAMES += ["timm/mobilenetv3_small_050"]
SHAPES = [(1, 128, 56), (3, 32, 32), (1, 28, 28), (1, 16, 24)]


def architecture(text: str) -> Architecture:
    (variant,) = parse_variants(text, "--arch")
    setting: Any = SimpleNamespace(preset="paper")
    found: Architecture = configure("architectures", variant, {}, setting).build()
    return found


def dataset(shape: tuple[int, int, int]) -> Any:
    return SimpleNamespace(shape=lambda modality: shape, grid=(4, 4), name="some")


@pytest.mark.parametrize("name", NAMES)
def test_any_input_size_gives_the_promised_embedding(name: str) -> None:
    made = architecture(name)
    for shape in SHAPES:
        encoder = made.build(dataset(shape), "a")
        made.draw(encoder, Streams(0)("any"))
        z = encoder(torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)))
        assert z.shape == (2, encoder.embedding_dim)
        assert encoder.embedding_dim % encoder.channels == 0
        assert bool(torch.isfinite(z).all())
        assert float((z[0] - z[1]).detach().abs().max()) > 0, shape  # it looks at its input


def test_the_published_size_fits_all() -> None:
    for name in ("lenet", "alexnet", "vgg11", "resnet18"):
        made = architecture(name)
        encoder = made.build(dataset((3, 224, 224)), "v")
        assert encoder(torch.randn(1, 3, 224, 224)).shape == (1, encoder.embedding_dim)


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_independent_exactly_where_it_says_so(name: str) -> None:
    made = architecture(name)
    encoder = made.build(dataset((3, 32, 32)), "v")
    made.draw(encoder, Streams(0)("any"))
    encoder.train().double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:2], 3 * x[2:]])
    same = torch.allclose(encoder(x)[:2], encoder(other)[:2], rtol=1e-9, atol=1e-12)
    assert same == encoder.per_sample


@pytest.mark.parametrize("name", [*NAMES, "convnet"])
def test_weights_come_from_the_stream_alone(name: str) -> None:
    made = architecture(name)
    state = torch.get_rng_state()
    drawn = []
    for seed in (0, 0, 1):
        encoder = made.build(dataset((1, 28, 28)) if name != "convnet" else convnet_dataset(), "a")
        made.draw(encoder, Streams(seed)("any"))
        drawn.append(torch.cat([p.detach().flatten() for p in encoder.parameters()]))
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])
    if name.startswith("timm/"):  # others may draw while PyTorch builds their layers; draw() then replaces that
        assert torch.equal(torch.get_rng_state(), state)


def convnet_dataset() -> Any:
    return SimpleNamespace(shape=lambda modality: (1, 28, 28), grid=(4, 4), name="some", depth=lambda modality: 2)


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("lenet", (1, 8, 40), "at least 12 × 12"),
        ("alexnet[stem=large]", (3, 32, 32), "at least 64 × 64"),
        ("resnet18", (1, 8, 8), "at least 9 × 9"),
        ("vgg11", (1, 2, 8), "at least 4 × 4"),
        ("timm/convnext_atto", (1, 28, 28), "does not accept an input of (1, 28, 28)"),
    ],
)
def test_an_input_too_small_is_refused_in_words(name: str, shape: tuple[int, int, int], words: str) -> None:
    with pytest.raises(RequestError) as caught:
        architecture(name).build(dataset(shape), "a")
    assert words in str(caught.value)


def test_a_backbone_that_timm_has_not_is_refused_with_the_nearest() -> None:
    with pytest.raises(RequestError, match="no backbone 'convnext_ato'; did you mean 'convnext_atto'"):
        architecture("timm/convnext_ato")
    with pytest.raises(RequestError, match=r"known: .* and \d+ more") as refused:
        architecture("timm/nosuch")
    assert len(str(refused.value)) < 2000  # a line, where timm has more than a thousand names
    with pytest.raises(RequestError, match="write timm/NAME"):
        architecture("timm")


def test_a_family_s_member_and_its_option_are_one_configuration() -> None:
    setting: Any = SimpleNamespace(preset="paper")
    texts = ("timm/resnet10t", "timm[model=resnet10t]", "avbench:timm/resnet10t")
    refs = [configure("architectures", parse_variants(text, "--arch")[0], {}, setting).ref for text in texts]
    assert refs[0].identity() == refs[1].identity() == refs[2].identity()
    assert refs[0].label == "timm/resnet10t"


def test_a_position_embedding_is_made_for_the_size() -> None:
    encoder = TimmArchitecture(TimmConfig("vit_tiny_patch16_224")).build(dataset((1, 32, 64)), "a")
    assert encoder(torch.randn(2, 1, 32, 64)).shape == (2, 192)
