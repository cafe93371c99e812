"""Distilled sets on disk and in memory: what is saved is what is loaded, and nothing altered passes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from avbench.api import LearnedSet, SelectedSet, TrainSet, decode
from avbench.distilled import label_dtype, load
from avbench.errors import RequestError

CPU = torch.device("cpu")


#: safetensors writes complex numbers from 0.7 on.
NOT_WHOLE = [dtype for dtype in (torch.float32, torch.complex64) if dtype in safetensors.torch._SIZE]


def learned(small, *, factor: int = 2, modality: str = "av", channels: int = 3, dtype=torch.float32) -> LearnedSet:  # type: ignore[no-untyped-def]
    info = small.stores[channels].info
    generator = torch.Generator().manual_seed(0)
    items = {name: torch.randn(8, *info.shape(name), generator=generator, dtype=dtype) for name in modality}
    labels = torch.arange(4).repeat_interleave(2)
    return LearnedSet(info, modality, labels, items, factor, notes=("made up",))


def selected(small, *, modality: str = "av", channels: int = 3) -> SelectedSet:
    info = small.stores[channels].info
    return SelectedSet(info, modality, torch.tensor([0, 1, 2, 3]), torch.tensor([8, 9, 21, 35]))


KINDS = {"learned": learned, "selected": selected}


@pytest.mark.parametrize("modality", ["a", "v", "av"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_what_is_loaded(small, tmp_path: Path, kind: str, modality: str) -> None:
    one = KINDS[kind](small, modality=modality)
    one.save(tmp_path / "set")
    other = load(tmp_path / "set")
    assert type(other) is type(one) and other.content_hash == one.content_hash
    assert (other.dataset, other.modality, other.notes) == (one.dataset, one.modality, one.notes)
    assert torch.equal(other.labels, one.labels) and other.labels.dtype == torch.int64
    assert other.facts() == one.facts()
    for name, tensor in one.tensors().items():
        assert torch.equal(other.tensors()[name], tensor) and other.tensors()[name].dtype == tensor.dtype


def test_float64_items_stay_float64(small, tmp_path: Path) -> None:
    one = learned(small, dtype=torch.float64)
    one.save(tmp_path)
    assert load(tmp_path).items["a"].dtype == torch.float64


@pytest.mark.parametrize("name", ["a", "v"])
@pytest.mark.parametrize("where", [0, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_hash_changes_with_one_bit_of_any_tensor(small, name: str, where: int, dtype: torch.dtype) -> None:
    one = learned(small, dtype=dtype)
    items = {key: t.clone() for key, t in one.items.items()}
    items[name].view(-1).view(torch.int32 if dtype == torch.float32 else torch.int64)[where] ^= 1
    assert not torch.equal(items[name], one.items[name])
    assert replace(one, items=items).content_hash != one.content_hash


def test_the_hash_changes_with_all_that_training_depends_on(small) -> None:
    one = learned(small)
    labels = one.labels.clone()
    labels[0] = 3
    others = [
        replace(one, factor=1),
        replace(one, labels=labels),
        replace(one, items={**one.items, "a": one.items["a"].double()}),
        replace(one, items={"v": one.items["v"], "a": one.items["a"].view(8, 1, 24, 16)}),
        replace(one, dataset=replace(one.dataset, fingerprint="other")),
        replace(one, modality="a", items={"a": one.items["a"]}),
        selected(small),
    ]
    assert len({s.content_hash for s in (one, *others)}) == len(others) + 1


def test_the_hash_does_not_change_with_what_training_does_not_depend_on(small) -> None:
    one = learned(small)
    strided = {name: t.transpose(2, 3).contiguous().transpose(2, 3) for name, t in one.items.items()}
    assert not strided["a"].is_contiguous()
    same = [
        replace(one, notes=()),
        replace(one, items=dict(reversed(one.items.items()))),
        replace(one, items=strided),
        replace(one, labels=one.labels.to(torch.int32)),
    ]
    assert {s.content_hash for s in same} == {one.content_hash}


def test_the_hash_of_a_selection_changes_with_a_row(small) -> None:
    one = selected(small)
    assert replace(one, rows=torch.tensor([8, 9, 21, 34])).content_hash != one.content_hash


@pytest.mark.parametrize("dtype", NOT_WHOLE)
@pytest.mark.parametrize(("kind", "name"), [("learned", "labels"), ("selected", "labels"), ("selected", "rows")])
def test_labels_and_rows_of_no_whole_numbers_are_refused(
    small, tmp_path: Path, kind: str, name: str, dtype: torch.dtype
) -> None:
    KINDS[kind](small).save(tmp_path)
    path = tmp_path / "distilled.safetensors"
    tensors = load_file(path)
    save_file({**tensors, name: tensors[name].to(dtype)}, path)  # the same numbers: their content's hash would hold
    with pytest.raises(RequestError, match=f"the {name} are of type .*, expected whole numbers"):
        load(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_an_altered_tensor_is_refused(small, tmp_path: Path, kind: str) -> None:
    KINDS[kind](small).save(tmp_path)
    path = tmp_path / "distilled.safetensors"
    tensors = load_file(path)
    name = "a" if kind == "learned" else "rows"
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path)
    with pytest.raises(RequestError, match="do not match the description's content hash"):
        load(tmp_path)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_a_truncated_file_is_refused(small, tmp_path: Path, length: int) -> None:
    learned(small).save(tmp_path)
    path = tmp_path / "distilled.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RequestError, match="holds no readable distilled set"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"factor": 1}, {"modality": "a"}, {"format": 2}, {"content_hash": "0"}, {"kind": "selected"},
        {"content_hash": None}, {"dataset_info": None}, {"notes": None}, {"dataset_info": {"name": "x"}},
    ],
    ids=str,
)  # fmt: skip
def test_an_altered_description_is_refused(small, tmp_path: Path, change: dict) -> None:
    """``None`` takes the entry out."""
    learned(small).save(tmp_path)
    path = tmp_path / "distilled.json"
    about = {**json.loads(path.read_text()), **change}
    path.write_text(json.dumps({key: value for key, value in about.items() if value is not None}))
    with pytest.raises(RequestError):
        load(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "3", '"text"', "{", "{}"])
def test_a_description_that_is_none_is_refused(small, tmp_path: Path, text: str) -> None:
    learned(small).save(tmp_path)
    (tmp_path / "distilled.json").write_text(text)
    with pytest.raises(RequestError):
        load(tmp_path)


def test_a_folder_without_a_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="holds no readable distilled set"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("modality", "per_item"),
    [("a", 4 * 16 * 24 + 1), ("v", 4 * 3 * 16 * 16 + 1), ("av", 4 * 16 * 24 + 4 * 3 * 16 * 16 + 1)],
)
def test_bytes_of_a_learned_set_are_its_float32_items_and_labels(small, modality: str, per_item: int) -> None:
    """Whatever the factor: it packs more samples into the same bytes."""
    for factor in (1, 2):
        assert learned(small, modality=modality, factor=factor).storage_bytes() == 8 * per_item


@pytest.mark.parametrize(
    ("modality", "per_item"), [("a", 4 * 16 * 24 + 1), ("v", 3 * 16 * 16 + 1), ("av", 4 * 16 * 24 + 3 * 16 * 16 + 1)]
)
def test_bytes_of_a_selection_count_real_frames_as_bytes(small, modality: str, per_item: int) -> None:
    assert selected(small, modality=modality).storage_bytes() == 4 * per_item


def test_labels_take_one_byte_up_to_256_classes_and_two_beyond(small) -> None:
    assert label_dtype(256) == torch.uint8 and label_dtype(257) == torch.int16
    one = learned(small)
    many = replace(one, dataset=replace(one.dataset, classes=tuple(map(str, range(309)))))
    assert one.tensors()["labels"].dtype == torch.uint8 and many.tensors()["labels"].dtype == torch.int16
    assert many.storage_bytes() == one.storage_bytes() + 8


def test_the_highest_label_survives(small, tmp_path: Path) -> None:
    for classes in (256, 309):
        one = learned(small)
        info = replace(one.dataset, classes=tuple(map(str, range(classes))))
        big = replace(one, dataset=info, labels=torch.full((8,), classes - 1))
        big.save(tmp_path)
        assert load(tmp_path).labels.tolist() == [classes - 1] * 8


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_as_torch_decodes_or_gives_the_stored_items(small, factor: int) -> None:
    one = learned(small, factor=factor)
    samples, items = one.as_torch(decode=True), one.as_torch(decode=False)
    assert len(samples) == 8 * factor**2 and len(items) == 8
    for name in ("a", "v"):
        expected = decode(one.items[name], factor)
        assert all(torch.equal(samples[i][0][name], expected[i]) for i in range(len(samples)))
        assert all(torch.equal(items[i][0][name], one.items[name][i]) for i in range(8))
    assert [label for _, label in items] == one.labels.tolist()
    assert [label for _, label in samples] == one.labels.repeat_interleave(factor**2).tolist()
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_as_torch_feeds_a_data_loader(small) -> None:
    batches = list(DataLoader(learned(small, factor=2).as_torch(), batch_size=5))
    assert len(batches) == 7
    inputs, labels = batches[0]
    assert inputs["a"].shape == (5, 1, 16, 24) and inputs["v"].shape == (5, 3, 16, 16)
    assert labels.tolist() == [0] * 5


def test_as_torch_of_a_selection_reads_the_store(small) -> None:
    one = selected(small)
    found = one.as_torch(data=small.data)
    expected = TrainSet(small.stores[3], CPU).batch(one.rows.numpy(), "av")
    assert len(found) == 4
    for i, (inputs, label) in enumerate(found):
        assert label == i
        assert all(torch.equal(inputs[name], expected[name][i]) for name in ("a", "v"))


@pytest.mark.parametrize("modality", ["a", "v"])
def test_as_torch_gives_the_set_s_own_modality_alone(small, modality: str) -> None:
    assert set(learned(small, modality=modality).as_torch()[0][0]) == {modality}
    assert set(selected(small, modality=modality).as_torch(data=small.data)[0][0]) == {modality}


def test_a_selection_refuses_a_store_with_another_fingerprint(small) -> None:
    one = selected(small, channels=3)
    with pytest.raises(RequestError, match=f"fingerprint {one.dataset.fingerprint[:12]}, the store at hand has"):
        one.samples(TrainSet(small.stores[1], CPU))


def test_samples_of_a_selection_are_the_rows_chosen(small) -> None:
    train = TrainSet(small.stores[3], CPU)
    samples = selected(small).samples(train)
    assert samples.labels.tolist() == [0, 1, 2, 3]
    assert torch.equal(samples.batch(np.array([2]), "a")["a"], train.batch(np.array([21]), "a")["a"])


def test_samples_of_a_learned_set_are_decoded_in_the_precision_of_the_run(small) -> None:
    one = learned(small, factor=2)
    samples = one.samples(TrainSet(small.stores[3], CPU, torch.float64))
    assert len(samples) == 32 and samples.batch(np.array([0]), "a")["a"].dtype == torch.float64


def test_the_description_says_what_a_reader_needs(small) -> None:
    about = learned(small).describe()
    assert about["items"] == 8 and about["factor"] == 2 and about["notes"] == ["made up"]
    assert about["classes"] == ["ant", "bee", "cat", "dog"]
    assert about["normalisation"]["audio"] == [-40.0, 15.0]
    assert len(about["normalisation"]["frames"][0]) == 3


def with_step_size(small, **step_size: float) -> LearnedSet:
    return replace(learned(small), step_size=step_size)


def test_a_learned_step_size_is_saved_loaded_and_described(small, tmp_path: Path) -> None:
    one = with_step_size(small, a=0.1 + 0.2, v=1e-7)
    one.save(tmp_path)
    other = load(tmp_path)
    assert isinstance(other, LearnedSet) and other.step_size == {"a": 0.1 + 0.2, "v": 1e-7}
    assert other.content_hash == one.content_hash
    assert json.loads((tmp_path / "distilled.json").read_text())["step_size"] == {"a": 0.1 + 0.2, "v": 1e-7}


def test_a_step_size_counts_in_the_hash_and_in_the_bytes(small) -> None:
    plain = learned(small)
    sets = [plain, *(with_step_size(small, **s) for s in ({"a": 0.1}, {"v": 0.1}, {"a": 0.2}, {"a": 0.1, "v": 0.1}))]
    assert len({one.content_hash for one in sets}) == 5
    assert [one.storage_bytes() - plain.storage_bytes() for one in sets] == [0, 4, 4, 4, 8]


def test_a_set_without_step_sizes_is_described_as_before_there_were_any(small) -> None:
    assert learned(small).facts() == {"factor": 2} and "step_size" not in learned(small).describe()
    assert with_step_size(small).content_hash == learned(small).content_hash


@pytest.mark.parametrize("value", [0.0, -1e-3, float("nan"), float("inf"), "0.1", None, True])
def test_an_impossible_step_size_is_refused(small, tmp_path: Path, value: object) -> None:
    with pytest.raises(RequestError, match="the step size of 'a' is"):
        with_step_size(small, a=value)  # type: ignore[arg-type]
    with_step_size(small, a=0.5).save(tmp_path)
    path = tmp_path / "distilled.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step_size": {"a": value}}))
    with pytest.raises(RequestError, match="the step size of 'a' is"):
        load(tmp_path)


@pytest.mark.parametrize("step_size", [0.1, [0.1], {}, "0.1"], ids=str)
def test_a_garbled_step_size_is_refused(small, tmp_path: Path, step_size: object) -> None:
    with_step_size(small, a=0.5).save(tmp_path)
    path = tmp_path / "distilled.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step_size": step_size}))
    with pytest.raises(RequestError, match="the step sizes are"):
        load(tmp_path)


def test_a_step_size_of_an_absent_modality_is_refused(small) -> None:
    with pytest.raises(RequestError, match="a step size is given for modality 'v'"):
        replace(learned(small, modality="a"), step_size={"v": 0.1})


def test_an_altered_step_size_is_refused(small, tmp_path: Path) -> None:
    with_step_size(small, a=0.5).save(tmp_path)
    path = tmp_path / "distilled.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "step_size": {"a": 0.25}}))
    with pytest.raises(RequestError, match="do not match the description's content hash"):
        load(tmp_path)


@pytest.mark.parametrize("factor", [2, 3])
def test_a_set_too_large_to_decode_at_once_gives_the_same_samples(
    small: Any, factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = small.stores[3].info
    items = {name: torch.randn(4, *info.shape(name), generator=torch.Generator().manual_seed(0)) for name in "av"}
    made = LearnedSet(info, "av", torch.arange(4), items, factor)
    train = TrainSet(small.stores[3], small.CPU)
    rows = np.array([3, 0, 4 * factor**2 - 1, 5])
    whole = made.samples(train).batch(rows, "av")
    monkeypatch.setattr("avbench.distilled._DECODE_AT_ONCE_BYTES", 0)
    lazily = made.samples(train)
    assert len(lazily) == 4 * factor**2
    assert all(torch.equal(lazily.batch(rows, "av")[name], whole[name]) for name in "av")
