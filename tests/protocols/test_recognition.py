"""What an evaluation scores, and that it does so whatever the micro-batch, the prerequisites and interruptions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.api import EvaluationContext, NoOptions, Streams, TestSet
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.nets.fusion import Ensemble
from avbench.protocols.recognition import Recognition, RecognitionConfig, RecognitionEvaluation

CPU = torch.device("cpu")
#: High rates on few noisy samples: accuracy goes up and down.
UNSTEADY = RecognitionConfig(epochs=8, batch=8, lr_audio=3e-2, lr_visual=3e-2, lr_classifier=3e-2, milestones=())
CONFIG = RecognitionConfig(epochs=3, batch=8, lr_audio=5e-3, lr_visual=5e-3, lr_classifier=5e-3)


def evaluation_context(small, *, store=None, **changes: Any) -> EvaluationContext:
    context = small.context(store=store)
    found = EvaluationContext(
        dataset=context.setting.dataset,
        samples=context.train,
        test=TestSet(store or small.stores[1], CPU),
        modality="av",
        architecture=context.architecture,
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=2,
        device=CPU,
        dtype=torch.float32,
        micro_batch=256,
    )
    return replace(found, **changes)


def start(small, config: RecognitionConfig = CONFIG, **changes: Any) -> RecognitionEvaluation:
    return Recognition(config).evaluation(evaluation_context(small, **changes))


def finish(evaluation: RecognitionEvaluation, begin: int = 0) -> list[dict[str, Any]]:
    for k in range(begin, evaluation.steps):
        evaluation.step(k)
    return evaluation.result()["networks"]


def train_by_hand(small, store, config: RecognitionConfig, index: int):  # type: ignore[no-untyped-def]
    c = evaluation_context(small, store=store)
    work = Recognition(config).train_on(
        c.samples,
        index=index,
        modality="av",
        dataset=c.dataset,
        architecture=c.architecture,
        fusion=c.fusion,
        streams=c.streams,
        device=CPU,
        dtype=torch.float32,
    )
    for k in range(config.epochs):
        yield work.step(k), work


def accuracy_by_hand(store, network) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """One test sample after the other, softmaxes averaged by hand."""
    test = TestSet(store, CPU)
    hits = {"a": 0, "v": 0, "av": 0}
    network.train(False)
    for row in range(len(test)):
        batch = test.batch(np.array([row]), "av")
        p = {}
        for name in ("a", "v"):
            linear = network.head.heads[name]
            logits = network.encoders[name](batch[name]) @ linear.weight.T + linear.bias
            p[name] = logits.exp() / logits.exp().sum()
        p["av"] = (p["a"] + p["v"]) / 2
        for name, values in p.items():
            hits[name] += int(values.argmax()) == int(test.labels[row])
    return {name: count / len(test) for name, count in hits.items()}


def test_the_last_epoch_s_weights_are_scored_never_the_best(small) -> None:
    store = small.write("noisy", 1, noise=3.0)
    found = finish(start(small, UNSTEADY, store=store))
    assert [score["index"] for score in found] == [0, 1]
    fell = False
    for score in found:
        by_epoch, losses = [], []
        for metrics, work in train_by_hand(small, store, UNSTEADY, score["index"]):
            losses.append(metrics["loss"])
            by_epoch.append(accuracy_by_hand(store, work.network))
        assert score["accuracy"] == by_epoch[-1]
        assert score["train_loss"] == losses[-1]
        fell |= any(epoch[name] > by_epoch[-1][name] for epoch in by_epoch for name in epoch)
    assert fell, "no earlier epoch was better: this test could not tell the last from the best"


@pytest.mark.parametrize(("modality", "scored"), [("a", {"a"}), ("v", {"v"}), ("av", {"a", "v", "av"})])
def test_each_modality_is_scored(small, modality: str, scored: set) -> None:
    for score in finish(start(small, modality=modality, networks=1)):
        assert set(score["accuracy"]) == scored
        assert all(0 <= value <= 1 for value in score["accuracy"].values())


@pytest.mark.parametrize("micro_batch", [1, 7, 19])
def test_accuracy_does_not_depend_on_the_micro_batch(small, micro_batch: int) -> None:
    assert finish(start(small, micro_batch=micro_batch)) == finish(start(small))


def test_networks_do_not_depend_on_how_many_there_are(small) -> None:
    assert finish(start(small, networks=1)) == finish(start(small))[:1]


def test_networks_and_seeds_differ(small) -> None:
    one, other = finish(start(small))
    assert one["train_loss"] != other["train_loss"]
    assert finish(start(small, streams=Streams(1), networks=1))[0]["train_loss"] != one["train_loss"]


def test_a_separable_dataset_is_learned(small) -> None:
    store = small.write("separable", 1, seed=5, noise=0.3)
    config = RecognitionConfig(epochs=25, batch=12, lr_audio=5e-3, lr_visual=5e-3, lr_classifier=5e-3)
    scores = finish(start(small, config, store=store, networks=1))
    assert min(scores[0]["accuracy"].values()) > 0.9


def test_shuffled_labels_are_not_learned(small) -> None:
    """The control of the test above: without a relation accuracy stays near chance."""
    context = evaluation_context(small, store=small.write("shuffled", 1, seed=5, noise=0.3))
    context.samples.labels = context.samples.labels[torch.randperm(36, generator=torch.Generator().manual_seed(0))]
    config = RecognitionConfig(epochs=10, batch=12, lr_audio=5e-3, lr_visual=5e-3, lr_classifier=5e-3)
    scores = finish(Recognition(config).evaluation(replace(context, networks=1)))
    assert scores[0]["accuracy"]["av"] < 0.7


def test_recalled_networks_skip_the_training_and_score_the_same(small) -> None:
    kept: dict[int, Any] = {}
    trained = finish(start(small, keep=lambda i, weights: kept.update({i: dict(weights)})))
    assert set(kept) == {0, 1}
    recalled = start(small, recall=kept.get)
    metrics = [dict(recalled.step(k)) for k in range(recalled.steps)]
    assert metrics == [{}] * recalled.steps
    found = recalled.result()["networks"]
    assert [s["accuracy"] for s in found] == [s["accuracy"] for s in trained]
    assert all("train_loss" not in s for s in found)


def test_what_is_recalled_is_not_kept_again_and_the_rest_is_trained(small) -> None:
    kept: dict[int, Any] = {}
    trained = finish(start(small, keep=lambda i, weights: kept.update({i: dict(weights)})))
    again: list[int] = []
    recall = {0: kept[0]}.get
    found = finish(start(small, recall=recall, keep=lambda i, _: again.append(i)))
    assert again == [1]
    assert found[1] == trained[1] and found[0]["accuracy"] == trained[0]["accuracy"]


def test_recall_uses_the_weights_it_is_given(small) -> None:
    kept: dict[int, Any] = {}
    trained = finish(start(small, keep=lambda i, weights: kept.update({i: dict(weights)})))
    swapped = finish(start(small, recall=lambda i: kept[1 - i]))
    assert [s["accuracy"] for s in swapped] == [s["accuracy"] for s in reversed(trained)]
    assert trained[0]["accuracy"] != trained[1]["accuracy"]


@pytest.mark.parametrize("k", range(7))
def test_a_resumed_evaluation_ends_the_same(small, tmp_path: Path, k: int) -> None:
    """Three epochs of two networks: in the middle of one, between both, before the first and after the last."""
    whole = finish(start(small))
    killed = start(small)
    for done in range(k):
        killed.step(done)
    save_checkpoint(tmp_path / "c", k, killed.state())
    done, state = load_checkpoint(tmp_path / "c")
    resumed = start(small)
    resumed.load_state(state)
    assert finish(resumed, begin=done) == whole


def test_a_resumed_evaluation_keeps_what_was_recalled(small, tmp_path: Path) -> None:
    kept: dict[int, Any] = {}
    finish(start(small, keep=lambda i, weights: kept.update({i: dict(weights)})))
    recall = {0: kept[0]}.get
    whole = finish(start(small, recall=recall))
    for k in (1, 3, 4):
        killed = start(small, recall=recall)
        for done in range(k):
            killed.step(done)
        save_checkpoint(tmp_path / "c", k, killed.state())
        resumed = start(small, recall=recall)
        resumed.load_state(load_checkpoint(tmp_path / "c")[1])
        assert finish(resumed, begin=k) == whole


def test_steps_are_networks_times_epochs(small) -> None:
    assert start(small).steps == 6
    assert start(small, networks=5).steps == 15


def test_a_modality_scores_the_same_alone_as_beside_the_other(small) -> None:
    both = finish(start(small))
    for name in ("a", "v"):
        alone = finish(start(small, modality=name))
        assert [n["accuracy"] for n in alone] == [{name: n["accuracy"][name]} for n in both]
