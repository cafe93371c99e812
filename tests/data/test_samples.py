"""Samples as networks see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.data.samples import TensorSamples, TestSet, TrainSet, ValSet
from avbench.data.store import Store, open_store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(avdigits_data: Path) -> Store:
    return open_store(avdigits_data, "avdigits")


def test_labels_follow_from_the_counts(store: Store) -> None:
    train = TrainSet(store, CPU)
    assert len(train) == store.info.size("train") == 1100
    for cls in range(10):
        rows = train.class_rows(cls)
        assert len(rows) == 110 and (train.labels[rows] == cls).all()


def test_each_split_reads_its_own_samples(store: Store) -> None:
    rows = np.array([0])
    firsts = [split(store, CPU).batch(rows, "a")["a"] for split in (TrainSet, ValSet, TestSet)]
    assert not torch.equal(firsts[0], firsts[1]) and not torch.equal(firsts[1], firsts[2])


def test_a_batch_is_gathered_in_the_order_asked_for(store: Store) -> None:
    train = TrainSet(store, CPU)
    batch = train.batch(np.array([7, 3, 3, 1099]), "av")
    assert batch["a"].shape == (4, 1, 32, 56) and batch["v"].shape == (4, 1, 32, 32)
    assert torch.equal(batch["a"][1], batch["a"][2])
    assert torch.equal(batch["v"][:1], train.batch(np.array([7]), "v")["v"])


def test_only_the_modalities_asked_for(store: Store) -> None:
    assert set(TrainSet(store, CPU).batch(np.array([0]), "v")) == {"v"}


def test_normalisation_is_the_store_s(store: Store) -> None:
    train = TrainSet(store, CPU, torch.float64)
    batch = train.batch(np.arange(len(train)), "av")
    assert batch["a"].dtype == torch.float64
    for values in batch.values():
        assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    raw = torch.from_numpy(store.audio["train"][5:6].astype(np.float64))
    expected = (raw - store.info.audio_mean) / store.info.audio_std
    torch.testing.assert_close(batch["a"][5:6], expected, rtol=0, atol=0)


def test_a_batch_is_no_view_of_the_file(store: Store) -> None:
    train = TrainSet(store, CPU)
    train.batch(np.array([0]), "a")["a"].zero_()
    assert train.batch(np.array([0]), "a")["a"].abs().sum() > 0


def test_tensors_in_memory() -> None:
    samples = TensorSamples({"a": torch.arange(6.0).view(3, 1, 1, 2)}, torch.tensor([0, 1, 1], dtype=torch.int32))
    assert len(samples) == 3 and samples.labels.dtype == torch.int64
    assert samples.batch(np.array([2, 0]), "a")["a"].flatten().tolist() == [4.0, 5.0, 0.0, 1.0]
