"""Concatenation, sum and attention: the formulas of AVDD's appendix D, its parameter counts, unequal embeddings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from avbench.api import Embedding, Fusion, FusionHead, NoOptions, Streams
from avbench.nets.joint import Attention, Concatenation, Sum

FUSIONS = [Concatenation, Sum, Attention]
PAPER = {"a": Embedding(6272, 128), "v": Embedding(6272, 128)}
UNEQUAL = {"a": Embedding(12, 3), "v": Embedding(20, 5)}


def drawn(fusion: type[Fusion], sizes: dict[str, Embedding], classes: int = 4) -> FusionHead:
    made = fusion(NoOptions())
    head = made.build(sizes, classes)
    made.draw(head, Streams(0))
    with torch.no_grad():  # weights of 1e-4 would hide a wrong classifier
        head.head.weight.mul_(1e4)
    return head.double()


def embeddings(sizes: dict[str, Embedding], count: int = 6) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(count, size.dim, dtype=torch.float64, generator=generator) for name, size in sizes.items()
    }


@pytest.mark.parametrize(("fusion", "count"), [(Concatenation, 125_450), (Sum, 62_730), (Attention, 192_798 - 125_460)])
def test_parameters_are_those_of_table_10(fusion: type[Fusion], count: int) -> None:
    # The paper counts the ensemble's heads with its attention, which does not use them.
    head = fusion(NoOptions()).build(PAPER, 10)
    assert sum(p.numel() for p in head.parameters()) == count


def test_concatenation_and_sum_are_their_formulas() -> None:
    sizes = {"a": Embedding(8, 2), "v": Embedding(8, 2)}
    z = embeddings(sizes)
    for fusion, fused in ((Concatenation, torch.cat([z["a"], z["v"]], 1)), (Sum, z["a"] + z["v"])):
        head = drawn(fusion, sizes)
        expected = F.softmax(fused @ head.head.weight.T + head.head.bias, dim=1)
        torch.testing.assert_close(head.predict(z)["av"], expected, rtol=1e-12, atol=0)


def test_attention_is_its_formula_on_pooled_features() -> None:
    head, z = drawn(Attention, UNEQUAL), embeddings(UNEQUAL)
    fa, fv = z["a"].view(6, 3, 4).mean(2), z["v"].view(6, 5, 4).mean(2)

    def through(part: str, name: str, f: Tensor) -> Tensor:
        layer = head.get_submodule(f"{part}.{name}")
        return torch.tanh(f @ layer.weight.T + layer.bias)

    weights = F.softmax(through("W", "a", fa) * through("W", "v", fv), dim=1)
    fused = through("U", "a", fa) + through("U", "v", fv * weights)
    expected = F.softmax(fused @ head.head.weight.T + head.head.bias, dim=1)
    torch.testing.assert_close(head.predict(z)["av"], expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_embeddings_need_not_agree_in_size_and_every_parameter_learns(fusion: type[Fusion]) -> None:
    head = drawn(fusion, UNEQUAL)
    loss = head.loss(embeddings(UNEQUAL), torch.tensor([0, 1, 2, 3, 0, 1]))
    loss.backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in head.parameters())


@pytest.mark.parametrize("fusion", FUSIONS)
def test_only_the_pair_is_scored_and_a_single_modality_by_a_classifier(fusion: type[Fusion]) -> None:
    assert set(drawn(fusion, UNEQUAL).predict(embeddings(UNEQUAL))) == {"av"}
    alone = {"v": UNEQUAL["v"]}
    found = drawn(fusion, alone).predict(embeddings(alone))
    assert set(found) == {"v"}
    torch.testing.assert_close(found["v"].sum(1), torch.ones(6, dtype=torch.float64))


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_head_is_drawn_from_its_streams_alone(fusion: type[Fusion]) -> None:
    first = drawn(fusion, UNEQUAL).state_dict()
    torch.manual_seed(7)
    second = drawn(fusion, UNEQUAL).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
