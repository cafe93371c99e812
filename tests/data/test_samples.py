"""Samples as networks see them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from avbench.data.samples import TensorSamples, TestSet, TrainSet, ValSet, _loaded
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


def test_what_is_read_ahead_is_what_would_have_been_read(store: Store) -> None:
    ahead, plain = TrainSet(store, CPU), TrainSet(store, CPU)
    wanted = [np.array(rows) for rows in ([5, 3, 900], [7], [7, 7, 1099, 0], list(range(300)))]
    for rows, following in zip(wanted, [*wanted[1:], wanted[0]], strict=True):
        found, expected = ahead.batch(rows, "av"), plain.batch(rows, "av")
        ahead.prefetch(following, "av")
        assert set(found) == {"a", "v"} and all(torch.equal(found[name], expected[name]) for name in found)


@pytest.mark.parametrize(("rows", "modality"), [([4, 3], "av"), ([3, 4], "a"), ([3], "av"), ([3, 4, 5], "v")])
def test_what_was_read_ahead_for_nothing_is_never_given(store: Store, rows: list[int], modality: str) -> None:
    train = TrainSet(store, CPU)
    train.prefetch(np.array([3, 4]), "av")
    found, expected = (each.batch(np.array(rows), modality) for each in (train, TrainSet(store, CPU)))
    assert set(found) == set(expected) == set(modality)
    assert all(torch.equal(found[name], expected[name]) for name in found)


def test_rows_that_change_after_the_hint_do_not_change_what_is_read(store: Store) -> None:
    train, rows = TrainSet(store, CPU), np.array([3, 4])
    train.prefetch(rows, "a")
    rows[:] = 9
    assert torch.equal(train.batch(rows, "a")["a"], TrainSet(store, CPU).batch(np.array([9, 9]), "a")["a"])


def test_a_batch_that_was_read_ahead_is_read_from_the_file_no_second_time(store: Store) -> None:
    class Counted(TrainSet):
        reads = 0

        def _read(self, rows: np.ndarray, modality: str) -> dict[str, torch.Tensor]:
            self.reads += 1
            return super()._read(rows, modality)

    train = Counted(store, CPU)
    train.prefetch(np.array([1, 2]), "av")
    train.batch(np.array([1, 2]), "av")
    assert train.reads == 1


def test_an_error_of_reading_ahead_comes_where_the_batch_is_asked_for(store: Store) -> None:
    train = TrainSet(store, CPU)
    train.prefetch(np.array([10**6]), "a")
    with pytest.raises(IndexError):
        train.batch(np.array([10**6]), "a")
    assert len(train.batch(np.array([0]), "a")["a"]) == 1


def test_a_split_that_lives_on_the_device_reads_nothing_ahead(store: Store) -> None:
    train = TrainSet(store, CPU)
    train._resident = {"a": torch.from_numpy(store.audio["train"].copy())}
    train.prefetch(np.array([1]), "a")
    assert train._reader is None
    assert torch.equal(train.batch(np.array([1]), "a")["a"], TrainSet(store, CPU).batch(np.array([1]), "a")["a"])


def test_the_samples_of_a_distilled_set_take_the_hint_and_do_nothing() -> None:
    samples = TensorSamples({"a": torch.arange(2.0).view(2, 1, 1, 1)}, torch.tensor([0, 1]))
    samples.prefetch(np.array([0]), "a")
    assert samples.batch(np.array([1]), "a")["a"].tolist() == [[[[1.0]]]]  # what is asked for, not what was hinted at


def test_a_split_that_moves_to_the_device_is_the_one_of_the_file(store: Store) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frames, audio = _loaded(store.frames["train"], CPU), _loaded(store.audio["train"], CPU)
    assert frames.dtype == torch.uint8 and audio.dtype == torch.float32
    assert (frames.numpy() == store.frames["train"]).all() and (audio.numpy() == store.audio["train"]).all()


def test_on_the_device_and_from_the_file_a_batch_is_the_same(store: Store) -> None:
    resident, streamed = TrainSet(store, CPU), TrainSet(store, CPU)
    resident._resident = {"a": _loaded(store.audio["train"], CPU), "v": _loaded(store.frames["train"], CPU)}
    rows = np.array([1099, 0, 500])
    one, other = resident.batch(rows, "av"), streamed.batch(rows, "av")
    assert all(torch.equal(one[name], other[name]) for name in ("a", "v"))
