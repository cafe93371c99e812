"""The ensemble: a classifier per modality, softmaxes averaged."""

from __future__ import annotations

import math

import pytest
import torch

from avbench.api import NoOptions, Streams
from avbench.nets.fusion import HEAD_STD, Embedding, Ensemble, EnsembleHead

DIMS = {"a": 6, "v": 4}


def head(dims: dict[str, int] = DIMS, classes: int = 3) -> EnsembleHead:
    torch.manual_seed(0)
    return Ensemble(NoOptions()).build(sizes(**dims), classes).double()


def sizes(**dims: int) -> dict[str, Embedding]:
    return {name: Embedding(dim, dim) for name, dim in dims.items()}


def embeddings(count: int = 5, dims: dict[str, int] = DIMS) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(count, d, dtype=torch.float64, generator=generator) for name, d in dims.items()}


def softmax(row: list[float]) -> list[float]:
    top = [math.exp(value) for value in row]
    return [value / sum(top) for value in top]


def logits(of: EnsembleHead, name: str, z: torch.Tensor) -> list[list[float]]:
    linear = of.heads[name]
    return (z @ linear.weight.T + linear.bias).tolist()


def test_parameter_count_at_the_paper_s_sizes() -> None:
    paper = Ensemble(NoOptions()).build(sizes(a=6272, v=6272), 10)
    assert sum(p.numel() for p in paper.parameters()) == 2 * (6272 * 10 + 10) == 125_460


def test_the_fused_prediction_is_the_mean_of_both_softmaxes() -> None:
    network, z = head(), embeddings()
    found = network.predict(z)
    assert set(found) == {"a", "v", "av"}
    for i in range(5):
        rows = {name: softmax(logits(network, name, z[name])[i]) for name in ("a", "v")}
        for name, row in rows.items():
            assert found[name][i].tolist() == pytest.approx(row, rel=1e-12)
        mean = [(a + v) / 2 for a, v in zip(rows["a"], rows["v"], strict=True)]
        assert found["av"][i].tolist() == pytest.approx(mean, rel=1e-12)


def test_probabilities_sum_to_one() -> None:
    for p in head().predict(embeddings()).values():
        torch.testing.assert_close(p.sum(dim=1), torch.ones(5, dtype=torch.float64))
        assert (p >= 0).all()


def test_the_loss_is_the_sum_of_both_cross_entropies() -> None:
    network, z, labels = head(), embeddings(), torch.tensor([0, 2, 1, 1, 0])
    expected = 0.0
    for name in ("a", "v"):
        rows = logits(network, name, z[name])
        expected += sum(-math.log(softmax(row)[c]) for row, c in zip(rows, labels.tolist(), strict=True)) / 5
    assert float(network.loss(z, labels).detach()) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["a", "v"])
def test_one_modality_alone_is_scored_alone(name: str) -> None:
    dims = {name: DIMS[name]}
    assert set(head(dims).predict(embeddings(dims=dims))) == {name}


def test_heads_start_near_zero_with_pytorch_s_biases() -> None:
    fusion = Ensemble(NoOptions())
    network = fusion.build(sizes(a=400, v=900), 50)
    fusion.draw(network, Streams(0))
    for name, dim in (("a", 400), ("v", 900)):
        weight, bias = network.heads[name].weight.detach(), network.heads[name].bias.detach()
        n = weight.numel()
        assert HEAD_STD == 1e-4
        assert float(weight.std()) == pytest.approx(1e-4, rel=5 / math.sqrt(2 * n))
        assert abs(float(weight.mean())) < 5e-4 / math.sqrt(n)
        assert float((weight.abs() > 1.96e-4).float().mean()) == pytest.approx(0.05, abs=0.01)
        assert 0.8 / math.sqrt(dim) < float(bias.abs().max()) <= 1 / math.sqrt(dim) * (1 + 1e-6)
    assert not torch.equal(network.heads["a"].weight[:, :9], network.heads["v"].weight[:, :9])


def test_heads_are_those_of_the_stream() -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        fusion = Ensemble(NoOptions())
        network = fusion.build(sizes(**DIMS), 3)
        fusion.draw(network, Streams(seed))
        return list(network.parameters())

    one, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(p, q) for p, q in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])
