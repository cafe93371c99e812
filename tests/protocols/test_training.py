"""How an evaluation trains its networks: schedule, batches, streams, resume."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from avbench.api import Architecture, Encoder, NoOptions, Streams, TensorSamples, TrainSet
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.errors import RequestError
from avbench.nets.fusion import Ensemble
from avbench.options import resolve
from avbench.protocols.recognition import (
    PaperConfig,
    QuickConfig,
    Recognition,
    RecognitionConfig,
    Training,
)

CPU = torch.device("cpu")


class BatchNormEncoder(Encoder):
    """A small network whose samples meet in batch norm."""

    per_sample = False

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(shape[0], 4, 3), nn.BatchNorm1d(4)
        self.embedding_dim = 4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x).mean(dim=(2, 3)))


class BatchNormArchitecture(Architecture):
    """Builds them."""

    def build(self, dataset, modality: str) -> Encoder:  # type: ignore[no-untyped-def]
        return BatchNormEncoder(dataset.shape(modality))


def some(train: TrainSet, count: int, modality: str = "av") -> TensorSamples:
    rows = np.linspace(0, len(train) - 1, count).astype(np.int64)
    return TensorSamples(train.batch(rows, modality), train.labels[rows])


def training(small, *, count: int = 10, architecture=None, modality: str = "av", index: int = 0, **options) -> Training:
    context = small.context()
    config = RecognitionConfig(**{"epochs": 3, "batch": 4, **options})
    return Recognition(config).train_on(
        some(context.train, count, modality),
        index=index,
        modality=modality,
        dataset=context.setting.dataset,
        architecture=architecture or context.architecture,
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        device=CPU,
        dtype=torch.float32,
    )


def weights(work: Training, stop: int, start: int = 0) -> dict[str, torch.Tensor]:
    for k in range(start, stop):
        work.step(k)
    return {name: t.clone() for name, t in work.tensors().items()}


def same(one: dict, other: dict) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The learning rates of every optimiser step that is made."""
    seen: list[list[float]] = []
    own = torch.optim.Adam.step

    def step(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        seen.append([group["lr"] for group in self.param_groups])
        return own(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    return seen


def test_thirty_epochs_have_eleven_ten_and_nine_at_each_rate(small, rates: list) -> None:
    work = training(small, count=4, epochs=30, batch=32)
    assert work.steps == 30
    weights(work, 30)
    audio = [round(lr[0] / 1e-3, 9) for lr in rates]
    assert audio == [1.0] * 11 + [0.1] * 10 + [0.01] * 9
    assert rates[0] == pytest.approx([1e-3, 1e-4, 1e-3])  # audio, visual, classifier: the code's
    for lr in rates:  # all groups decay together
        assert lr == pytest.approx([lr[0], lr[0] / 10, lr[0]])


def test_recognition_paper_has_ten_epochs_at_each_rate_and_the_text_s_classifier_rate(small, rates: list) -> None:
    paper = PaperConfig()
    assert replace(paper, lr_classifier=1e-3, milestones=(11 / 30, 21 / 30)) == PaperConfig(
        **asdict(RecognitionConfig())
    )
    options = {"milestones": paper.milestones, "lr_classifier": paper.lr_classifier}
    weights(training(small, count=4, epochs=30, batch=32, **options), 30)
    assert [round(lr[2] / 1e-4, 9) for lr in rates] == [1.0] * 10 + [0.1] * 10 + [0.01] * 10


@pytest.mark.parametrize(("epochs", "levels"), [(1, [1.0]), (2, [1.0, 0.01]), (3, [1.0, 0.1, 0.01])])
def test_the_first_epoch_always_has_the_full_rates(small, rates: list, epochs: int, levels: list) -> None:
    weights(training(small, count=4, epochs=epochs, batch=32), epochs)
    assert [round(lr[0] / 1e-3, 9) for lr in rates] == levels


def test_a_resumed_training_continues_at_the_rate_of_its_epoch(small, rates: list) -> None:
    training(small, count=4, epochs=30, batch=32).step(25)
    assert rates[0][0] == pytest.approx(1e-5)


def test_each_epoch_passes_every_sample_once_in_a_fresh_order(small, monkeypatch: pytest.MonkeyPatch) -> None:
    work = training(small, count=10)
    asked: list[list[int]] = []
    own = work.samples.batch
    monkeypatch.setattr(work.samples, "batch", lambda rows, m: asked.append(rows.tolist()) or own(rows, m))
    weights(work, 2)
    assert [len(rows) for rows in asked] == [4, 4, 2] * 2
    first, second = (list(chain(*asked[i : i + 3])) for i in (0, 3))
    assert sorted(first) == sorted(second) == list(range(10)) and first != second


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (8, [4, 4]), (5, [5]), (10, [4, 4, 2])])
def test_a_leftover_of_one_joins_the_batch_before_it_under_batch_norm(
    small, monkeypatch: pytest.MonkeyPatch, count: int, sizes: list
) -> None:
    work = training(small, count=count, architecture=BatchNormArchitecture(None))
    asked: list[int] = []
    own = work.samples.batch
    monkeypatch.setattr(work.samples, "batch", lambda rows, m: asked.append(len(rows)) or own(rows, m))
    weights(work, 1)
    assert asked == sizes


def test_a_leftover_of_one_is_a_batch_of_its_own_without_batch_norm(small) -> None:
    metrics = training(small, count=9).step(0)
    assert np.isfinite(metrics["loss"])


def test_networks_are_those_of_seed_index_and_epoch_whatever_happened_before(small) -> None:
    one = weights(training(small), 2)
    torch.manual_seed(99)
    weights(training(small, index=1), 1)
    assert same(weights(training(small), 2), one)
    assert not same(weights(training(small, index=1), 2), one)


def test_samples_are_augmented_each_by_itself(small) -> None:
    assert not same(weights(training(small), 1), weights(training(small, augment="none"), 1))


def test_weight_decay_is_the_l2_penalty_of_adam(small) -> None:
    """Against Adam written out by hand, one batch, no augmentation: g + wd·w, then the bias-corrected step."""
    work = training(small, count=4, batch=32, augment="none", weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in work.network.head.named_parameters()}
    work.step(0)
    for name, p in work.network.head.named_parameters():
        # p.grad is the loss's gradient; at the first step m̂ = g and v̂ = g².
        g = p.grad + 0.1 * before[name]
        expected = before[name] - 1e-3 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("k", [0, 1, 2])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_resumed_training_has_the_bits_of_an_uninterrupted_one(
    small, tmp_path: Path, k: int, batch_norm: bool
) -> None:
    architecture = BatchNormArchitecture(None) if batch_norm else None
    whole = weights(training(small, architecture=architecture), 3)
    killed = training(small, architecture=architecture)
    weights(killed, k)
    save_checkpoint(tmp_path / "c", k, killed.state())
    done, state = load_checkpoint(tmp_path / "c")
    resumed = training(small, architecture=architecture)
    resumed.load_state(state)
    assert same(weights(resumed, 3, start=done), whole)


def test_the_loss_is_the_mean_over_samples(small) -> None:
    """At the start heads are near zero: the loss of both modalities is about 2·ln 4."""
    loss = training(small, lr_audio=1e-9, lr_visual=1e-9, lr_classifier=1e-9).step(0)["loss"]
    assert loss == pytest.approx(2 * np.log(4), rel=0.05)


def test_a_set_gets_as_many_epochs_as_its_updates_need() -> None:
    config = RecognitionConfig(epochs=12, updates=200, batch=32)
    assert [config.epochs_for(n) for n in (1, 32, 33, 64, 480, 100_000)] == [200, 200, 100, 100, 14, 12]
    assert RecognitionConfig().epochs_for(7) == RecognitionConfig().epochs_for(10_000) == 30


def test_published_defaults() -> None:
    config = RecognitionConfig()
    assert (config.epochs, config.batch, config.weight_decay, config.decay) == (30, 32, 1e-4, 0.1)
    assert (config.lr_audio, config.lr_visual, config.lr_classifier) == (1e-3, 1e-4, 1e-3)
    assert issubclass(QuickConfig, RecognitionConfig) and QuickConfig().lr_audio == 5e-3


@pytest.mark.parametrize(
    "options",
    [{"batch": 0}, {"epochs": 0}, {"updates": -1}, {"lr_audio": 0.0}, {"lr_visual": -1.0}, {"augment": "flap"}],
)
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(RequestError):
        resolve(RecognitionConfig, "recognition-code", [(options, "test")])
