"""Retrieval: ArcFace by its formula, ranks against brute force, the same test pairs for all, a set that aligns wins."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from avbench.api import NoOptions, RequestError, Samples, Setting, Streams, TestSet, TrainSet
from avbench.nets.fusion import Embedding, Ensemble
from avbench.protocols.base import EvaluationContext
from avbench.protocols.retrieval import (
    Retrieval,
    RetrievalConfig,
    SharedClassifierHead,
    arcface,
    class_ranks,
)
from avbench.protocols.retrieval import test_pairs as draw_pairs


def test_arcface_is_equation_16() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(7, 5, dtype=torch.float64, generator=generator)
    vectors = torch.randn(3, 5, dtype=torch.float64, generator=generator)
    labels = [0, 1, 2, 2, 1, 0, 1]
    losses = []
    for row, label in zip(z, labels, strict=True):
        angles = [math.acos(float(row @ w / row.norm() / w.norm())) for w in vectors]
        own = math.exp(3.0 * math.cos(angles[label] + 0.2))
        others = sum(math.exp(3.0 * math.cos(angle)) for j, angle in enumerate(angles) if j != label)
        losses.append(-math.log(own / (own + others)))
    found = arcface(z, vectors, torch.tensor(labels), 3.0, 0.2)
    assert float(found) == pytest.approx(sum(losses) / len(losses), rel=1e-12)


def test_arcface_has_a_gradient_where_an_embedding_meets_its_class_vector() -> None:
    z = torch.eye(3, requires_grad=True)
    arcface(z, torch.eye(3), torch.arange(3), 3.0, 0.2).backward()
    assert z.grad is not None and bool(torch.isfinite(z.grad).all())


def brute_force(similarity: list[list[float]], labels: list[int]) -> list[int]:
    """Sort the gallery of each query, other classes first among equals, and look for the first of its class."""
    ranks = []
    for query, row in enumerate(similarity):
        order = sorted(range(len(row)), key=lambda j: (-row[j], labels[j] == labels[query]))
        ranks.append(1 + next(i for i, j in enumerate(order) if labels[j] == labels[query]))
    return ranks


@pytest.mark.parametrize("seed", range(20))
def test_ranks_are_those_of_a_brute_force_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), rng.integers(1, 6))
    similarity = rng.normal(size=(len(labels), len(labels))).round(1 if seed % 2 else 8)  # with ties and without
    found = class_ranks(torch.from_numpy(similarity), torch.from_numpy(labels))
    assert found.tolist() == brute_force(similarity.tolist(), labels.tolist())


def test_a_network_that_maps_all_to_one_point_finds_nothing() -> None:
    labels = torch.arange(4).repeat_interleave(2)
    assert class_ranks(torch.ones(8, 8), labels).tolist() == [7] * 8


def test_pairs_are_distinct_sorted_of_each_class_and_drawn_once(small: Any) -> None:
    test = TestSet(small.stores[1], small.CPU)
    rows = draw_pairs(test, 3, 0)
    assert test.labels[torch.from_numpy(rows)].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert len(set(rows.tolist())) == 12
    assert rows.tolist() == draw_pairs(test, 3, 0).tolist()
    assert rows.tolist() != draw_pairs(test, 3, 1).tolist()
    assert len(draw_pairs(test, 5, 0)) == 19  # one class has four


def context(small: Any, samples: Samples, micro_batch: int = 256) -> EvaluationContext:
    store = small.stores[1]
    return EvaluationContext(
        dataset=store.info,
        samples=samples,
        test=TestSet(store, small.CPU),
        modality="av",
        architecture=small.architecture(8),
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=2,
        device=small.CPU,
        dtype=torch.float32,
        micro_batch=micro_batch,
    )


def judge(small: Any, config: RetrievalConfig, micro_batch: int = 256) -> dict[str, Any]:
    work = Retrieval(config).evaluation(context(small, TrainSet(small.stores[1], small.CPU), micro_batch))
    for k in range(work.steps):
        work.step(k)
    return work.result()


def test_training_on_real_pairs_aligns_both_modalities(small: Any) -> None:
    rates = {"lr_audio": 5e-3, "lr_visual": 5e-3, "lr_classifier": 5e-3, "augment": "none"}
    untrained = judge(small, RetrievalConfig(epochs=1, lr_audio=1e-12, lr_visual=1e-12, lr_classifier=1e-12))
    trained = judge(small, RetrievalConfig(epochs=50, **rates))
    for after, before in zip(trained["networks"], untrained["networks"], strict=True):
        for direction in ("a→v", "v→a"):
            assert after["R@1"][direction] >= 0.55 > before["R@1"][direction]
            assert after["median rank"][direction] == 1.0
            assert before["R@1"][direction] <= before["R@5"][direction] <= 1.0
    assert trained["test_rows"] == untrained["test_rows"]


def test_the_micro_batch_changes_no_score(small: Any) -> None:
    config = RetrievalConfig(epochs=2)
    assert judge(small, config, 256) == judge(small, config, 3)


def test_an_audio_batch_moves_no_visual_weight(small: Any) -> None:
    work = Retrieval(RetrievalConfig()).evaluation(context(small, TrainSet(small.stores[1], small.CPU)))
    training = work._begin(0)
    head, encoders = training.network.head, training.network.encoders
    before = {name: [p.detach().clone() for p in e.parameters()] for name, e in encoders.items()}
    z = encoders["a"](torch.randn(4, 1, 16, 24))
    head.loss({"a": z}, torch.arange(4)).backward()
    training._optimisers.step()
    moved = {
        name: any(not torch.equal(p, old) for p, old in zip(e.parameters(), before[name], strict=True))
        for name, e in encoders.items()
    }
    assert moved == {"a": True, "v": False}


def test_unequal_embeddings_meet_in_the_smaller_s_space() -> None:
    head = SharedClassifierHead({"a": Embedding(12, 3), "v": Embedding(5, 5)}, 4, 3.0, 0.2)
    found = head.predict({"a": torch.randn(2, 12), "v": torch.randn(2, 5)})
    assert found["a"].shape == found["v"].shape == (2, 5)


@pytest.mark.parametrize("modality", ["a", "v"])
def test_one_modality_alone_is_refused_before_anything_starts(small: Any, modality: str) -> None:
    setting = Setting(small.stores[1].info, 1, modality, "quick")
    with pytest.raises(RequestError, match="use --modality av"):
        Retrieval.check(RetrievalConfig(), setting)
