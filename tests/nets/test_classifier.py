"""The classifier that gradient and trajectory matching differentiate through."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from avbench.api import Classifier, RealSide, Streams

F64 = torch.float64


def classifier(small, modality: str = "a", channels: int = 1) -> Classifier:
    return Classifier(small.architecture(), small.stores[channels].info, modality).to(dtype=F64)


@pytest.mark.parametrize("modality", ["a", "v"])
def test_calling_it_with_parameters_is_loading_them_and_calling_it(small, modality: str) -> None:
    network = classifier(small, modality, channels=3)
    theta = network.draw(Streams(0), "some network", 3)
    x = small.context(channels=3, dtype=F64).train.batch(torch.arange(5).numpy(), modality)[modality]
    network.draw(Streams(1), "some network", 3)
    assert not torch.equal(network(x), network.logits(theta, x))
    network.load_state_dict(theta)
    torch.testing.assert_close(network(x), network.logits(theta, x), rtol=0, atol=0)
    assert network(x).shape == (5, 4)


def test_parameters_depend_on_seed_purpose_step_and_modality_alone(small) -> None:
    def drawn(modality="a", seed=0, purpose="p", step=0):  # type: ignore[no-untyped-def]
        network = classifier(small, modality)
        return network.flatten(network.draw(Streams(seed), purpose, step))

    same = drawn()
    assert torch.equal(same, drawn())
    for other in (drawn("v"), drawn(seed=1), drawn(purpose="q"), drawn(step=1)):
        assert other.shape != same.shape or not torch.equal(other, same)


def test_drawn_parameters_are_not_those_of_the_module(small) -> None:
    network = classifier(small)
    first = network.draw(Streams(0), "p", 0)
    copy = {name: p.clone() for name, p in first.items()}
    network.draw(Streams(0), "p", 1)
    assert all(torch.equal(first[name], copy[name]) for name in first)


def test_encoders_are_those_of_distribution_matching_at_the_same_step(small) -> None:
    side = RealSide(small.context(dtype=F64), 4, "none", False)
    for name in "av":
        theta = classifier(small, name).draw(Streams(0), "matching network", 5)
        for key, weight in side.at(5).encoders[name].state_dict().items():
            assert torch.equal(theta[f"encoder.{key}"], weight)


def test_the_head_starts_as_pytorch_s_default_does(small) -> None:
    network = classifier(small)
    weight = network.draw(Streams(0), "p", 0)["head.weight"]
    bound = network.encoder.embedding_dim**-0.5
    assert 0.9 * bound < float(weight.abs().max()) <= bound


def test_a_flat_vector_and_named_parameters_are_two_views_of_the_same(small) -> None:
    network = classifier(small)
    theta = network.draw(Streams(0), "p", 0)
    flat = network.flatten(theta).requires_grad_(True)
    back = network.unflatten(flat)
    assert list(back) == list(theta) and all(torch.equal(back[name], theta[name]) for name in theta)
    x = torch.randn(3, 1, 16, 24, dtype=F64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 3])
    (slope,) = torch.autograd.grad(F.cross_entropy(network.logits(back, x), labels), flat)
    network.load_state_dict(theta)
    F.cross_entropy(network(x), labels).backward()
    plain = torch.cat([p.grad.reshape(-1) for p in network.parameters()])
    torch.testing.assert_close(slope, plain, rtol=1e-12, atol=1e-14)
