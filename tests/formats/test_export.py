"""Exports: every layout loads back to the very samples of training, with a card; what can't be exported is refused."""

from __future__ import annotations

import csv
import io
import json
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import avbench
from avbench.api import DistilledSet, LearnedSet, RequestError, SelectedSet
from avbench.formats import Reading, read_sets
from avbench.formats import webdataset_out as webdataset_module
from avbench.formats.export import WRITERS, Exported, export_set

LAYOUTS = ("npz", "folder", "webdataset", "hf")
RECORD = {
    "seed": 7,
    "ipc": 2,
    "preset": "quick",
    "precision": "float32",
    "finished": "2026-01-01T00:00:00Z",
    "architecture": {"label": "convnet[width=4]"},
    "method": {"name": "m", "label": "m[lr=3]", "version": 4, "distribution": "pack", "options": {"lr": 3.0}},
    "environment": {"packages": {"torch": "9.9"}, "host": "secret-host"},
    "argv": ["avbench", "run", "--out", "/home/secret-user/runs"],
}


def learned(small: Any, *, factor: int = 2, modality: str = "av", channels: int = 3, **changes: Any) -> LearnedSet:
    info = replace(small.stores[channels].info, citation="A. Author, 2020", audio_transform={"n_fft": 64})
    generator = torch.Generator().manual_seed(1)
    items = {name: 3 * torch.randn(8, *info.shape(name), generator=generator) for name in modality}
    made = LearnedSet(info, modality, torch.arange(4).repeat_interleave(2), items, factor, notes=("made up",))
    return replace(made, **changes)


def selected(small: Any, channels: int = 3) -> SelectedSet:
    info = small.stores[channels].info
    return SelectedSet(info, "av", torch.tensor([0, 1, 2, 3]), torch.tensor([8, 9, 21, 35]))


def export(small: Any, given: DistilledSet, folder: Path, to: str, *, decoded: bool = True) -> Exported:
    given.save(folder / "set")
    return export_set(folder / "set", to, folder / "out", small.data, decoded)


def in_npz(folder: Path) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    with np.load(folder / "distilled.npz", allow_pickle=False) as file:
        arrays = {m: file[name] for m, name in (("a", "audio"), ("v", "frames")) if name in file.files}
        for row, label in enumerate(file["labels"]):
            yield {m: array[row] for m, array in arrays.items()}, int(label)


def in_folder(folder: Path) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as table:
        for row in csv.DictReader(table):
            path = folder / row["folder"]
            files = {m: path / f"{row['key']}.{name}.npy" for m, name in (("a", "audio"), ("v", "frame"))}
            yield {m: np.load(file) for m, file in files.items() if file.exists()}, int(row["label"])


def in_tar(folder: Path) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    """By the rules of the format alone: files of a sample follow each other, the key ends at the first dot."""
    samples: dict[str, dict[str, bytes]] = {}
    for shard in sorted(folder.glob("*.tar")):
        with tarfile.open(shard) as archive:
            for member in archive:
                key, _, suffix = member.name.partition(".")
                assert key not in samples or key == list(samples)[-1]
                samples.setdefault(key, {})[suffix] = archive.extractfile(member).read()  # type: ignore[union-attr]
    for files in samples.values():
        arrays = {m: f"{name}.npy" for m, name in (("a", "audio"), ("v", "frame"))}
        loaded = {m: np.load(io.BytesIO(files[name])) for m, name in arrays.items() if name in files}
        assert json.loads(files["json"])["label"] == int(files["cls"])
        yield loaded, int(files["cls"])


def in_datasets(folder: Path) -> Iterator[tuple[dict[str, np.ndarray], int]]:
    datasets = pytest.importorskip("datasets", reason="reads what --to hf writes; in the extra `test`")
    found = datasets.load_dataset(str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    assert found.features["label"].names == ["ant", "bee", "cat", "dog"]
    if "preview" in found.features:
        assert found[0]["preview"].size == (16, 16)
    arrays = found.with_format("numpy")
    for row in range(len(found)):
        names = {m: name for m, name in (("a", "audio"), ("v", "frame")) if name in found.features}
        yield {m: arrays[row][name] for m, name in names.items()}, int(arrays[row]["label"])


READERS = {"npz": in_npz, "folder": in_folder, "webdataset": in_tar, "hf": in_datasets}


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")


@pytest.mark.parametrize("case", ["factor 2", "stored", "audio", "frames of one channel", "selected"])
@pytest.mark.parametrize("to", LAYOUTS)
def test_an_export_loads_back_to_the_very_samples_of_training(small: Any, tmp_path: Path, to: str, case: str) -> None:
    if to == "hf":
        pytest.importorskip("pyarrow", reason="--to hf writes Parquet; in the extras `export` and `test`")
    given = {
        "factor 2": learned,
        "stored": learned,
        "audio": lambda small: learned(small, modality="a"),
        "frames of one channel": lambda small: learned(small, modality="v", channels=1, factor=1),
        "selected": selected,
    }[case](small)
    export(small, given, tmp_path, to, decoded=case != "stored")
    expected = list(avbench.load(tmp_path / "set").as_torch(decode=case != "stored", data=small.data))
    found = list(READERS[to](tmp_path / "out"))
    assert len(found) == len(expected) > 0
    for (arrays, label), (inputs, true_label) in zip(found, expected, strict=True):
        assert label == true_label and arrays.keys() == inputs.keys()
        for name, tensor in inputs.items():
            assert arrays[name].dtype == np.float32
            assert arrays[name].tobytes() == tensor.contiguous().numpy().tobytes(), name


def test_the_library_webdataset_reads_the_shards(small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    webdataset = pytest.importorskip("webdataset", reason="reads what --to webdataset writes; in the extra `test`")
    monkeypatch.setattr(webdataset_module, "SHARD_BYTES", 20_000)
    export(small, learned(small), tmp_path, "webdataset")
    shards = sorted(str(each) for each in (tmp_path / "out").glob("shard-*.tar"))
    assert len(shards) == 8  # 32 samples of 4608 bytes
    read = webdataset.WebDataset(shards, shardshuffle=False).decode().to_tuple("audio.npy", "frame.npy", "cls", "json")
    expected = list(learned(small).as_torch())
    found = list(read)
    assert len(found) == len(expected) == 32
    for (audio, frame, label, about), (inputs, true_label) in zip(found, expected, strict=True):
        assert np.array_equal(audio, inputs["a"]) and np.array_equal(frame, inputs["v"])
        assert label == true_label == about["label"]


@pytest.mark.parametrize("to", ["npz", "webdataset"])
def test_the_same_set_gives_the_same_bytes(small: Any, tmp_path: Path, to: str) -> None:
    files = {"npz": "distilled.npz", "webdataset": "shard-000000.tar"}
    contents = []
    for name in "xy":
        export(small, learned(small), tmp_path / name, to)
        contents.append((tmp_path / name / "out" / files[to]).read_bytes())
    assert contents[0] == contents[1]


def test_previews_of_real_frames_are_the_pixels_of_the_store_and_folders_sort_as_labels(
    small: Any, tmp_path: Path
) -> None:
    from torchvision.io import decode_image

    export(small, selected(small), tmp_path, "folder")
    store = small.stores[3]
    for label, row in enumerate((8, 9, 21, 35)):
        (path,) = (tmp_path / "out").glob(f"{label:03}_*/*.png")
        assert np.array_equal(decode_image(str(path)).numpy(), store.frames["train"][row])
    videos = (tmp_path / "out" / "videos.csv").read_text(encoding="utf-8").split()
    assert videos == ["item,video,second", "0,train8,", "1,train9,", "2,train21,", "3,train35,"]
    assert "people's videos, they are pieces of those" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_an_npz_brings_its_factor_and_step_sizes_to_the_evaluator(small: Any, tmp_path: Path) -> None:
    given = learned(small, step_size={"a": 0.1 + 0.2, "v": 1e-7})
    export(small, given, tmp_path, "npz", decoded=False)
    reading = Reading(frames="network", audio="network")
    (found,) = read_sets(tmp_path / "out" / "distilled.npz", small.stores[3].info, reading)
    assert isinstance(found.set, LearnedSet)
    assert found.set.factor == 2 and found.set.step_size == given.step_size
    assert found.set.content_hash == given.content_hash


@pytest.mark.parametrize("name", ["factor", "step_size_a"])
@pytest.mark.parametrize("value", [[1, 2], 1.5, float("nan"), -1])
def test_a_factor_or_step_size_that_is_none_is_refused(small: Any, tmp_path: Path, name: str, value: Any) -> None:
    if name == "step_size_a" and value == 1.5:
        return
    items = {"audio": np.zeros((4, 1, 16, 24), np.float32), "labels": np.arange(4), name: np.array(value)}
    np.savez(tmp_path / "set.npz", **items)
    with pytest.raises(RequestError):
        read_sets(tmp_path / "set.npz", small.stores[3].info, Reading())


def in_process(*arguments: str) -> int:
    from unittest import mock

    from avbench.cli import main

    with mock.patch.object(sys, "argv", ["avbench", *arguments]):
        try:
            main()
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def test_an_exported_npz_gets_the_score_of_the_original(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned(small, factor=2, dataset=small.stores[3].info).save(tmp_path / "set")
    where = ("--data", str(small.data))
    assert in_process("export", str(tmp_path / "set"), "--to", "npz", "-o", str(tmp_path / "out"), *where) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("32 samples of 4 classes (npz, 0.2 MB) in ") and "note: made up" in printed.err
    fast = ("--dataset", "small3", "--networks", "1", "--preset", "quick", "--set", "convnet.width=4", "--json")
    fast += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")
    rows = []
    for number, path in enumerate((tmp_path / "set", tmp_path / "out" / "distilled.npz")):
        numbers = ("--frames", "network", "--audio", "network", "--out", str(tmp_path / f"runs{number}"))
        assert in_process("evaluate", str(path), *fast, *numbers, *where) == 0
        (board,) = json.loads(capsys.readouterr().out)["boards"]
        rows.append(board["rows"][0])
    assert rows[0]["ipc"] == 2 and rows[1]["ipc"] == 8
    for column in ("a_mean", "v_mean", "av_mean"):
        assert rows[0][column] == rows[1][column], column


def with_record(given: DistilledSet, folder: Path, **result: Any) -> None:
    given.save(folder)
    full = RECORD | {"result": {"content_hash": given.content_hash, "steps": 30, **result}}
    (folder / "record.json").write_text(json.dumps(full), encoding="utf-8")


@pytest.mark.parametrize("to", [*LAYOUTS, "references"])
def test_the_card_says_all_that_a_user_needs_and_names_no_machine(small: Any, tmp_path: Path, to: str) -> None:
    if to == "hf":
        pytest.importorskip("pyarrow", reason="--to hf writes Parquet; in the extras `export` and `test`")
    given = selected(small) if to == "references" else learned(small, step_size={"a": 0.25, "v": 0.5})
    with_record(given, tmp_path / "set")
    export_set(tmp_path / "set", to, tmp_path / "out", small.data, decoded=False)
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    about = json.loads((tmp_path / "out" / "card.json").read_text(encoding="utf-8"))
    words = ["ant", "dog", "CC0-1.0", "m\\[lr=3\\]", "lr 3.0", "seed 7", "torch 9.9", given.content_hash, "pack"]
    words += [given.dataset.fingerprint, "8000 Hz", "-40", "15", "0.25", "## Personal data"]
    if to != "references":
        words += ["A. Author, 2020", "n\\_fft 64", "factor 2", "0.5; train with plain SGD", "made up", "TMLR 2024"]
    assert [word for word in words if word not in text] == []
    assert about["content_hash"] == given.content_hash and about["made"]["seed"] == 7
    assert about["decoding"]["audio"]["mean"] == -40.0 and about["decoding"]["frames"]["std"] == [0.25, 0.2, 0.3]
    assert about["storage_bytes"] == given.storage_bytes() and about["dataset"]["licence"] == "CC0-1.0"
    assert "secret" not in text + json.dumps(about)
    assert text.startswith("---\n" if to == "hf" else "# small3, distilled\n")


def test_a_record_of_another_set_is_not_believed_and_a_snapshot_finds_its_own(small: Any, tmp_path: Path) -> None:
    given, other = learned(small), learned(small, factor=1)
    with_record(given, tmp_path / "key", snapshots={"10": other.content_hash})
    other.save(tmp_path / "key" / "snapshots" / "10")
    export_set(tmp_path / "key" / "snapshots" / "10", "npz", tmp_path / "snapshot", small.data, True)
    assert json.loads((tmp_path / "snapshot" / "card.json").read_text(encoding="utf-8"))["made"]["steps"] == 10
    other.save(tmp_path / "key")  # the record beside it is of what lay here before
    export_set(tmp_path / "key", "npz", tmp_path / "strange", small.data, True)
    assert json.loads((tmp_path / "strange" / "card.json").read_text(encoding="utf-8"))["made"] == {}
    assert "No record of the run" in (tmp_path / "strange" / "README.md").read_text(encoding="utf-8")


NAMES = ("../../up", "/etc/passwd", "a|b<script>\nc\x00", "con. ..")


@pytest.mark.parametrize("to", LAYOUTS)
def test_class_names_that_mean_something_in_a_path_stay_inside(small: Any, tmp_path: Path, to: str) -> None:
    if to == "hf":
        pytest.importorskip("pyarrow", reason="--to hf writes Parquet; in the extras `export` and `test`")
    info = replace(small.stores[3].info, classes=NAMES)
    export(small, learned(small, dataset=info), tmp_path, to)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out", "set"]
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "<script>" not in text and "a\\|b\\<script\\>" in text
    if to == "folder":
        folders = sorted(each.name for each in (tmp_path / "out").iterdir() if each.is_dir())
        assert folders == ["000_up", "001_etc_passwd", "002_a_b_script_c", "003_con"]
        assert len(list((tmp_path / "out").rglob("*.npy"))) == 64


@pytest.mark.parametrize("store", ["absent", "another"])
def test_a_selection_without_its_store_is_refused_and_goes_as_references(
    small: Any, tmp_path: Path, store: str
) -> None:
    given = selected(small)
    if store == "another":
        given = replace(given, dataset=replace(given.dataset, fingerprint="0" * 64))
    given.save(tmp_path / "set")
    data = small.data if store == "another" else tmp_path / "nowhere"
    for to in LAYOUTS[:3]:
        with pytest.raises(RequestError, match=r"--data, or export --to references"):
            export_set(tmp_path / "set", to, tmp_path / "out", data, True)
        assert not (tmp_path / "out").exists()
    export_set(tmp_path / "set", "references", tmp_path / "out", data, True)
    lines = (tmp_path / "out" / "references.csv").read_text(encoding="utf-8").split()
    assert lines[:2] == ["item,label,class,row,video,second", "0,0,ant,8,,"]
    export_set(tmp_path / "set", "references", tmp_path / "known", small.data, True)
    known = (tmp_path / "known" / "references.csv").read_text(encoding="utf-8").split()
    assert known[1] == ("0,0,ant,8,train8," if store == "absent" else "0,0,ant,8,,")


def test_what_can_t_be_exported_is_refused_in_one_line(
    small: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    learned(small).save(tmp_path / "set")
    learned(small).save(tmp_path / "torn")
    tensors = tmp_path / "torn" / "distilled.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:1000])
    (tmp_path / "runs" / "distil").mkdir(parents=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    (tmp_path / "file").write_text("kept")
    cases = {
        ("absent", "npz", "out"): "there is no such folder",
        ("torn", "npz", "out"): "holds no readable distilled set",
        ("runs", "npz", "out"): "is a run directory: name one of its sets",
        ("full", "npz", "out"): "avbench evaluate",
        ("set", "nzp", "out"): "did you mean 'npz'",
        ("set", "webdata", "out"): "did you mean 'webdataset'",
        ("set", "references", "out"): "this set was learned",
        ("set", "npz", "full"): "is not empty, it holds mine.txt: name a new or empty folder",
        ("set", "npz", "file"): "is a file",
        ("set", "npz", "file/below"): "choose another folder",
        ("set", "npz", "/proc/nowhere"): "can't be written",
    }
    for (path, to, out), words in cases.items():
        assert in_process("export", str(tmp_path / path), "--to", to, "-o", str(tmp_path / out)) == 2, words
        printed = capsys.readouterr()
        (line,) = printed.err.strip().splitlines()
        assert words in line and line.startswith("avbench: ") and printed.out == ""
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full" / "mine.txt").read_text() == (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("case", ["NaN", "labels", "shape", "classes", "rows", "factor", "surrogate"])
def test_a_set_whose_description_or_numbers_are_broken_is_refused(small: Any, tmp_path: Path, case: str) -> None:
    given: Any = learned(small)
    if case == "NaN":
        given.items["a"][0, 0, 0, 0] = float("nan")
    if case == "labels":
        given = replace(given, labels=given.labels + 9)
    if case == "shape":
        given = replace(given, items={**given.items, "v": given.items["v"][:, :1]})
    if case == "classes":
        given = replace(given, dataset=replace(given.dataset, classes=("one",)))
    if case == "rows":
        given = replace(selected(small), rows=torch.tensor([0, 1, 2, 99]))
    if case == "factor":
        given = replace(given, factor=99)
    if case == "surrogate":
        given = replace(given, dataset=replace(given.dataset, classes=("\ud800", "b", "c", "d")))
    with pytest.raises(RequestError):
        export(small, given, tmp_path, "npz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fresh", [True, False])
def test_a_failure_on_the_way_leaves_nothing_behind(
    small: Any, tmp_path: Path, fresh: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fresh:
        (tmp_path / "out").mkdir()

    def stopped(contents: Any, folder: Path) -> None:
        (folder / "half.npz").write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(WRITERS["npz"], "write", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(small, learned(small), tmp_path, "npz")
    assert (tmp_path / "out").exists() is not fresh
    assert fresh or not list((tmp_path / "out").iterdir())
    monkeypatch.undo()
    export_set(tmp_path / "set", "npz", tmp_path / "out", small.data, True)


def test_without_pyarrow_hf_says_which_extra_is_missing(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match=r"pip install 'avbench\[export\]'"):
        export(small, learned(small), tmp_path, "hf")
    assert not (tmp_path / "out").exists()


def test_float64_sets_are_exported_as_float32_and_the_card_says_so(small: Any, tmp_path: Path) -> None:
    given = learned(small)
    wide = replace(given, items={name: tensor.double() for name, tensor in given.items.items()})
    export(small, wide, tmp_path, "npz")
    assert "stored as float64 and exported as float32" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with np.load(tmp_path / "out" / "distilled.npz") as file:
        assert file["audio"].dtype == np.float32
