"""The authors' preprocessed release: fake ones in its exact layouts become stores; what is no release is refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packages import avbench
from releases import FRAME, LABELS, SOUND, TEST_LABELS, change, prepare, samples, save, split_file, write_release

from avbench.api import PrepareContext, RequestError, Store
from avbench_datasets.ave import AVE, AVEConfig
from avbench_datasets.vggs10k import CLASSES, VGGS10k, VGGS10kConfig


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


def numbers(store: Store, split: str) -> list[int]:
    """The number of the sample in each row, the same in sound and frame."""
    frames = [int(f[0, 0, 0]) for f in store.frames[split]]
    assert [int(-2 * a[0, 0, 0]) for a in store.audio[split]] == frames
    assert all((f == f[0, 0, 0]).all() for f in store.frames[split])
    return frames


def by_class(store: Store) -> list[set[int]]:
    found: list[set[int]] = [set() for _ in store.info.classes]
    for split in ("train", "val"):
        counts = np.cumsum([0, *store.info.counts[split]])
        for cls in range(len(found)):
            found[cls] |= set(numbers(store, split)[counts[cls] : counts[cls + 1]])
    return found


def test_whole_split_files_become_a_store_sorted_by_class(release: Path) -> None:
    store = prepare(release)
    assert store.info.counts == {"train": (4, 3, 1), "val": (2, 1, 1), "test": (1, 1, 1)}
    assert by_class(store) == [{i for i, label in enumerate(LABELS) if label == cls} for cls in range(3)]
    assert numbers(store, "test") == [101, 102, 100]
    assert store.info.frame_shape == FRAME and store.info.audio_shape == SOUND and store.info.grid == (7, 7)
    assert store.info.classes == ("class 0", "class 1", "class 2")
    assert store.info.audio_transform["mels"] == 128


def test_val_is_a_run_of_neighbours_in_each_class_seeded_and_noted(release: Path) -> None:
    runs = set()
    for seed in range(8):
        store = prepare(release, seed=seed)
        order = [i for i, label in enumerate(LABELS) if label == 0]
        places = sorted(order.index(number) for number in numbers(store, "val") if number in order)
        assert places == list(range(places[0], places[0] + 2))
        runs.add(places[0])
        assert any(f"(seed {seed}); without video ids it can't be drawn by video" in n for n in store.info.notes)
    assert len(runs) > 2
    assert prepare(release, seed=3).info.fingerprint == prepare(release, seed=3).info.fingerprint
    assert prepare(release, val_fraction=0.0).info.counts["val"] == (0, 0, 0)


def test_the_release_has_no_video_ids_and_none_are_made_up(release: Path) -> None:
    assert set(prepare(release).samples("train")) == {("", "")}


def test_class_files_give_the_same_store_as_the_whole_file(release: Path) -> None:
    whole = prepare(release)
    everything = torch.load(release / "train_data/ave_train.pt", weights_only=True)
    (release / "train_data/ave_train.pt").unlink()
    for cls in range(3):
        mine = everything["labels_train"] == cls
        parts = {"images": everything["images_train"][mine], "audio": everything["audio_train"][mine]}
        save(release / f"classwise_train_data/class_wise_ave/train_{cls}.pt", parts)
    assert prepare(release).info.fingerprint == whole.info.fingerprint
    (release / "classwise_train_data/class_wise_ave/train_1.pt").unlink()
    with pytest.raises(RequestError, match=r"lacks train_1\.pt"):
        prepare(release)


def test_one_file_with_both_splits_and_names_as_the_authors_script_writes_it(tmp_path: Path) -> None:
    both = {**split_file("train", LABELS), **split_file("test", TEST_LABELS, 100), "classes": ["a", "b", "c"]}
    save(tmp_path / "release/data/train_data/ave_train.pt", both)
    store = prepare(tmp_path / "release")
    assert store.info.classes == ("a", "b", "c") and store.info.size("test") == 3


def test_names_in_a_file_that_can_t_be_those_of_the_classes_are_passed_over(release: Path) -> None:
    columns = ["vid", "num", "label", "split", "label_id"]  # what the authors' script writes for VGGS-10k
    save(release / "test_data/ave_test.pt", {**split_file("test", TEST_LABELS), "classes": columns})
    assert prepare(release).info.classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int16])
def test_images_of_any_number_type_become_the_same_bytes(release: Path, dtype: torch.dtype) -> None:
    bytes_ = prepare(release)
    values = split_file("train", LABELS)
    save(release / "train_data/ave_train.pt", {**values, "images_train": values["images_train"].to(dtype)})
    other = prepare(release)
    assert (other.frames["train"] == bytes_.frames["train"]).all()
    noted = any("float images on 0 to 255, rounded to bytes" in note for note in other.info.notes)
    assert noted == dtype.is_floating_point


def test_float_images_on_0_to_1_are_detected_scaled_and_noted(release: Path) -> None:
    bytes_ = prepare(release)
    values = split_file("train", LABELS)
    save(release / "train_data/ave_train.pt", {**values, "images_train": values["images_train"] / 255})
    unit = prepare(release)
    assert (unit.frames["train"] == bytes_.frames["train"]).all()
    assert any("ave_train.pt: float images on 0 to 1" in note for note in unit.info.notes)


FRAMES, AUDIO = samples(12, byte=False)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"images_train": FRAMES / 255 - 0.5}, "runs from -0.5"),
        ({"images_train": FRAMES * 30}, "runs from 270 to 270, where 0 to 255 was expected"),
        ({"images_train": FRAMES * float("nan")}, "runs from nan"),
        ({"images_train": FRAMES[:, 0]}, "expected (N, 3, height, width)"),
        ({"images_train": FRAMES[:5]}, "images_train has 5 samples, audio_train 12, their labels 12"),
        ({"images_train": None}, "has no key 'images_train' (it has: audio_train, labels_train)"),
        ({"audio_train": AUDIO * 50}, "no log-mel in dB"),
        ({"audio_train": AUDIO * float("inf")}, "no log-mel in dB"),
        ({"audio_train": AUDIO[:, :, :64]}, "give files of one dataset"),
        ({"audio_train": AUDIO.to(torch.int32)}, "expected decibels as float"),
        ({"audio_train": [1.0, 2.0]}, "'audio_train' is list, not a plain tensor"),
        ({"labels_train": torch.tensor(LABELS) - 1}, "holds -1; classes are numbered from 0"),
        ({"labels_train": torch.tensor(LABELS) + 0.5}, "expected (N,) whole numbers"),
        ({"labels_train": torch.tensor(LABELS).clamp(max=1)}, "class 'class 2' has no training sample"),
    ],
)
def test_what_is_no_release_is_refused_in_one_line(release: Path, changes: dict[str, Any], words: str) -> None:
    change(release / "train_data/ave_train.pt", **changes)
    with pytest.raises(RequestError) as raised:
        prepare(release)
    assert words in str(raised.value) and "\n" not in str(raised.value) and "ave_train.pt" in str(raised.value)
    assert not list((release.parent / "data").glob("*")), "nothing half-written is left"


def test_labels_beyond_the_plugin_s_classes_are_refused(release: Path) -> None:
    with pytest.raises(RequestError, match="labels run to 2, and ave has 2 classes"):
        prepare(release, classes=("a", "b"))


def test_labels_may_be_a_list_or_whole_floats(release: Path) -> None:
    first = prepare(release)
    for labels in (list(LABELS), torch.tensor(LABELS).float(), torch.tensor(LABELS)[:, None]):
        change(release / "train_data/ave_train.pt", labels_train=labels)
        assert prepare(release).info.fingerprint == first.info.fingerprint


def test_what_is_missing_is_named_with_where_it_belongs(release: Path, tmp_path: Path) -> None:
    (release / "test_data/ave_test.pt").unlink()
    with pytest.raises(RequestError, match=r"no test_data/ave_test\.pt"):
        prepare(release)
    with pytest.raises(RequestError, match=r"neither train_data/music_21_train\.pt nor classwise"):
        prepare(release, short_name="music_21")
    with pytest.raises(RequestError, match="neither"):
        prepare(release, seconds=10.0)
    with pytest.raises(RequestError, match=r"clips of 1 and of 10 seconds, not of 2"):
        prepare(release, seconds=2.0)
    with pytest.raises(RequestError, match="is not a folder"):
        prepare(release / "train_data/ave_train.pt")
    with pytest.raises(RequestError, match="--source is missing"):
        prepare(None)


def test_a_disk_that_is_too_full_is_told_before_anything_is_written(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    with pytest.raises(RequestError, match=r"takes 0\.0 GB and 0\.0 GB are free"):
        prepare(release)
    assert not list((release.parent / "data").iterdir())


def test_ten_second_clips_are_read_under_their_own_name(tmp_path: Path) -> None:
    long = (1, 128, 551)
    folder = tmp_path / "release"
    save(folder / "test_data/ave_10s_test.pt", split_file("test", TEST_LABELS, sound=long))
    for cls in range(3):
        frames, audio = samples(4, 10 * cls, sound=long)
        save(folder / f"classwise_train_data/class_wise_ave_10s/train_{cls}.pt", {"images": frames, "audio": audio})
    info = prepare(folder, seconds=10.0).info
    assert info.audio_shape == long and info.audio_transform["samples"] == 110_000


def test_the_plugins_read_their_part_of_the_release_at_a_smaller_size(tmp_path: Path) -> None:
    folder = tmp_path / "release"
    small = {"shape": (3, 48, 48)}
    save(folder / "data/train_data/vgg_subset_train.pt", split_file("train", tuple(range(10)) * 2, **small))
    save(folder / "data/test_data/vgg_subset_test.pt", split_file("test", tuple(range(10)), **small))
    context = PrepareContext(tmp_path / "data", "vggs10k", folder, lambda done, total, what: None)
    store = VGGS10k(VGGS10kConfig(from_release=True, size=24)).prepare(context)
    assert store.info.classes == CLASSES and store.info.frame_shape == (3, 24, 24) and store.info.grid == (3, 3)
    assert store.info.dataset == "vggs10k" and store.info.options["from_release"] is True
    with pytest.raises(RequestError, match=r"ave\.mels = 64: the release is already preprocessed"):
        AVE(AVEConfig(from_release=True, mels=64)).prepare(context)


def test_a_release_prepares_and_runs_from_the_command_line(release: Path, tmp_path: Path) -> None:
    where = ("--data", str(tmp_path / "data"))
    done = avbench("prepare", "ave", "--from-release", "--source", str(release), "--size", "32", *where)
    assert done.returncode == 0, done.stderr
    assert "3 classes" in done.stdout and "note: Read from the AVDD authors' preprocessed release" in done.stdout
    brief = ("--modality", "v", "--arch", "convnet[width=4]", "--protocol", "recognition-quick[updates=2,epochs=1]")
    options = ("--preset", "quick", "--seeds", "1", "--networks", "1", "--out", str(tmp_path / "runs"))
    ran = avbench(
        "run", "--method", "random", "--dataset", "ave", "--ipc", "1", *where, *options, "--device", "cpu", *brief
    )
    assert ran.returncode == 0, ran.stderr
    assert "random" in ran.stdout
