"""Learned step sizes in the evaluation: as MTT trains on its sets, and no change at all where there are none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Small
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.api import Augmentation, EvaluationContext, Fusion, FusionHead, NoOptions, Streams, TestSet
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.nets.fusion import Ensemble
from avbench.protocols.network import Network
from avbench.protocols.recognition import Recognition, RecognitionConfig, RecognitionEvaluation, Training

CONFIG = RecognitionConfig(epochs=6, batch=8, lr_audio=5e-3, lr_visual=5e-3, lr_classifier=5e-3)


def context(small: Small, **changes: Any) -> EvaluationContext:
    own = small.context()
    found = EvaluationContext(
        dataset=own.setting.dataset,
        samples=own.train,
        test=TestSet(small.stores[1], small.CPU),
        modality="av",
        architecture=own.architecture,
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=1,
        device=small.CPU,
        dtype=torch.float32,
        micro_batch=256,
    )
    return replace(found, **changes)


def start(small: Small, config: RecognitionConfig = CONFIG, **changes: Any) -> RecognitionEvaluation:
    return Recognition(config).evaluation(context(small, **changes))


def finish(evaluation: RecognitionEvaluation, first: int = 0) -> dict[str, Any]:
    for k in range(first, evaluation.steps):
        evaluation.step(k)
    return evaluation.result()


def training(small: Small, step_size: dict[str, float], fusion: Fusion | None = None, modality: str = "av") -> Training:
    c = context(small)
    streams = Streams(0)
    network = Network(c.dataset, modality, c.architecture, fusion or c.fusion, streams, 0, small.CPU, torch.float32)
    return Training(CONFIG, c.samples, network, streams, 0, step_size)


def weights(work: Training) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in work.tensors().items()}


def test_a_modality_with_a_learned_step_size_is_trained_by_sgd_as_mtt_does(small: Small) -> None:
    """The oracle: torch's SGD with momentum 0.9, weight decay 5e-4, a tenth of the rate after epoch E // 2 + 1."""
    work, own = training(small, {"v": 0.02}, modality="v"), training(small, {}, modality="v").network
    parameters = [*own.encoders["v"].parameters(), *own.head.parameters()]
    sgd = torch.optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=5e-4)
    train, augmentation = context(small).samples, Augmentation(CONFIG.augment)
    for epoch in range(6):
        work.step(epoch)
        sgd.param_groups[0]["lr"] = 0.02 if epoch <= 4 else 0.02 * 0.1
        rng = Streams(0)("evaluation epoch of network 0", step=epoch)
        order = rng.permutation(36)
        for rows in (order[i : i + 8] for i in range(0, 36, 8)):
            x = augmentation.per_sample(rng, len(rows))(train.batch(rows, "v")["v"])
            logits = own.head.heads["v"](own.encoders["v"](x))  # type: ignore[union-attr, operator, index]
            sgd.zero_grad()
            F.cross_entropy(logits, train.labels[torch.from_numpy(rows)]).backward()
            sgd.step()
        assert all(torch.equal(found, own.weights()[name]) for name, found in work.tensors().items())


def test_each_modality_goes_its_own_way(small: Small) -> None:
    """With a step size for one of two: it trains as with both, the other one as without any."""
    runs = {key: training(small, step_size) for key, step_size in
            {"one": {"v": 0.02}, "both": {"a": 0.01, "v": 0.02}, "none": {}}.items()}  # fmt: skip
    for work in runs.values():
        for epoch in range(2):
            work.step(epoch)
    found = {key: weights(work) for key, work in runs.items()}
    for name in found["one"]:
        like = "both" if name.startswith(("v.", "head.heads.v")) else "none"
        assert torch.equal(found["one"][name], found[like][name]), name
        assert not torch.equal(found["both"][name], found["none"][name]), name


def test_without_step_sizes_nothing_changes_to_the_bit(small: Small) -> None:
    """The oracle: Adam over encoders and head as the protocol has always built it."""
    work, own = training(small, {}), training(small, {}).network
    groups = [{"params": list(m.parameters())} for m in (*own.encoders.values(), own.head)]
    adam = torch.optim.Adam(groups, lr=5e-3, weight_decay=CONFIG.weight_decay, fused=True)
    train, augmentation = context(small).samples, Augmentation(CONFIG.augment)
    work.step(0)
    rng = Streams(0)("evaluation epoch of network 0", step=0)
    order = rng.permutation(36)
    for rows in (order[i : i + 8] for i in range(0, 36, 8)):
        transform = augmentation.per_sample(rng, len(rows))
        z = own.embed({name: transform(x) for name, x in train.batch(rows, "av").items()})
        adam.zero_grad()
        own.head.loss(z, train.labels[torch.from_numpy(rows)]).backward()
        adam.step()
    assert all(torch.equal(found, own.weights()[name]) for name, found in work.tensors().items())


class Joined(FusionHead):
    """One classifier of both embeddings."""

    def __init__(self, dims: list[int], classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(sum(dims), classes)

    def loss(self, embeddings: Any, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.linear(torch.cat(list(embeddings.values()), dim=1)), labels)

    def predict(self, embeddings: Any) -> dict[str, Tensor]:
        return {"av": self.linear(torch.cat(list(embeddings.values()), dim=1)).softmax(dim=1)}


class Joining(Fusion):
    def build(self, embeddings: Any, classes: int) -> Joined:
        return Joined([each.dim for each in embeddings.values()], classes)


def test_a_head_that_joins_both_modalities_is_trained_as_the_protocol_says(small: Small) -> None:
    work, plain = (training(small, step, Joining(None)) for step in ({"a": 1e-9, "v": 1e-9}, {}))
    before = weights(work)
    for each in (work, plain):
        each.step(0)
    after = weights(work)
    assert all(torch.allclose(after[n], before[n], atol=1e-6) for n in after if not n.startswith("head."))
    moved = (after["head.linear.weight"] - before["head.linear.weight"]).abs().max()
    assert float(moved) > 1e-3


def test_an_option_leaves_the_learned_step_sizes_aside(small: Small) -> None:
    learned = {"a": 0.01, "v": 0.02}
    ignored = finish(start(small, replace(CONFIG, step_size="protocol"), step_size=learned))
    assert ignored == finish(start(small)) and "learned_step_size" not in ignored
    used = finish(start(small, step_size=learned))
    assert used["learned_step_size"] == learned and used["networks"] != ignored["networks"]


def test_there_are_as_many_epochs_with_learned_step_sizes_as_without(small: Small) -> None:
    assert start(small, step_size={"a": 0.1}).steps == start(small).steps == 6


def test_step_sizes_of_modalities_that_are_not_judged_play_no_part(small: Small) -> None:
    found = finish(start(small, modality="v", step_size={"a": 0.1}))
    assert found == finish(start(small, modality="v"))


@pytest.mark.parametrize("step_size", [{"v": 0.02}, {"a": 0.01, "v": 0.02}], ids=["one", "both"])
@pytest.mark.parametrize("k", [2, 5])
def test_a_resumed_evaluation_ends_the_same(small: Small, tmp_path: Path, k: int, step_size: dict) -> None:
    whole, killed, resumed = (start(small, step_size=step_size) for _ in range(3))
    expected = finish(whole)
    for done in range(k):
        killed.step(done)
    save_checkpoint(tmp_path / "c", k, killed.state())
    found = load_checkpoint(tmp_path / "c")
    assert found is not None
    resumed.load_state(found[1])
    assert finish(resumed, found[0]) == expected


def test_a_step_size_far_too_large_is_seen_as_a_loss_that_is_not_finite(small: Small) -> None:
    evaluation = start(small, step_size={"a": 1e8, "v": 1e8})
    with np.errstate(all="ignore"):
        losses = [evaluation.step(k)["loss"] for k in range(evaluation.steps)]
    assert not np.isfinite(losses[-1])
