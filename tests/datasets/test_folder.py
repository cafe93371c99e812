"""Any tree of videos; then the five kinds of source through the command line to a board."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import media
import pytest
import sources
from packages import avbench

from avbench.api import PrepareContext, RequestError, Store
from avbench.data.prepare import prepare as prepare_by_name
from avbench.data.report import read_report
from avbench.options import resolve
from avbench_datasets.video_folder import Folder

SMALL = {"size": 24, "mels": 16}


def prepare(tmp_path: Path, source: Path, **options: Any) -> Store:
    config = resolve(Folder.Config, "folder", [({**SMALL, **options}, "test")]).config
    return Folder(config).prepare(PrepareContext(tmp_path / "data", "mine", source, lambda *_: None))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.folder(tmp_path_factory.mktemp("folder"))


def test_class_folders_are_split_by_video(tmp_path: Path, tree: Path) -> None:
    store = prepare(tmp_path, tree, val_fraction=0.25)
    assert store.info.classes == ("drum", "whistle")
    assert store.info.counts == {"train": (6, 6), "val": (2, 2), "test": (2, 2)}  # of five videos of two seconds
    videos = [{video for video, _ in store.samples(split)} for split in store.info.counts]
    assert sum(map(len, videos)) == len(set().union(*videos)) == 10
    assert any(note.startswith("test: 2 of 10 train videos") for note in store.info.notes)
    report = read_report(store.folder)
    assert report is not None and not report.lost and store.info.licence.startswith("not stated")


def test_split_folders_are_kept(tmp_path: Path, tree: Path) -> None:
    copy = tmp_path / "source"
    for split, numbers in (("Train", "01"), ("validation", "2"), ("test", "34")):
        for path in tree.rglob("*.*"):
            if path.stem in numbers:
                target = copy / split / path.relative_to(tree).parent / "deep" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
    shutil.copy(tree / "drum" / "0.mp4", copy / "Train" / "stray.mp4")
    (copy / "extra").mkdir()
    shutil.copy(tree / "drum" / "0.mp4", copy / "extra" / "other.mp4")
    store = prepare(tmp_path, copy)
    assert store.info.counts == {"train": (4, 4), "val": (2, 2), "test": (4, 4)}
    assert ("drum/deep/0", "0") in store.samples("train")
    report = read_report(store.folder)
    assert report is not None and report.reasons == {"unknown-label": 2}
    assert {lost.detail for lost in report.lost} == {"lies in no folder of a class", "lies in no folder of a split"}


def test_one_window_a_video_by_option(tmp_path: Path, tree: Path) -> None:
    store = prepare(tmp_path, tree, take="centre", val_fraction=0)
    assert store.info.counts["train"] == (4, 4)
    assert {round(float(second), 1) for _, second in store.samples("train")} == {0.5}
    with pytest.raises(RequestError, match="test_fraction"):
        prepare(tmp_path, tree, test_fraction=0)


KINDS = {
    "ave": sources.ave,
    "music21": sources.music21,
    "vggsound": sources.vggsound,
    "vggs10k": sources.vggs10k,
    "films": sources.folder,
}


@pytest.mark.parametrize(
    "names", [["films"], pytest.param(["ave", "music21", "vggsound", "vggs10k"], marks=pytest.mark.slow)]
)
def test_all_kinds_of_source_run_to_a_board(tmp_path: Path, names: list[str]) -> None:
    data = tmp_path / "data"
    options = {"size": "24", "mels": "16", "preset": "quick", "val_fraction": "0"}
    for name in names:
        plugin = "folder" if name == "films" else name
        source = KINDS[name](tmp_path / name)
        prepare_by_name(plugin, options, source, name, data, lambda *_: None, strict=True)
    quick = ["--seeds", "1", "--networks", "1", "--arch", "convnet[width=4]"]
    settings = [f"{m}.{o}" for m in ("dm", "avdd") for o in ("steps=2", "batch_real=4", "features=random", "factor=1")]
    sets = [word for setting in settings for word in ("--set", setting)]
    done = avbench(
        *("run", "--method", "random,dm,avdd", "--dataset", ",".join(names), "--ipc", "1", *quick, *sets),
        *("--data", str(data), "--out", str(tmp_path / "runs")),
        timeout_s=900.0,
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        assert f"### {name} (" in done.stdout


def test_prepare_tells_what_it_found_and_lost(tmp_path: Path, tree: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(tree, source)
    media.make(source / "drum" / "deaf.mp4", media.Media(width=64, height=48, audio=None))
    command = ["prepare", "folder[size=24,mels=16]", "--source", str(source), "--name", "mine", "--workers", "1"]
    done = avbench(*command, "--data", str(tmp_path / "data"))
    assert done.returncode == 0, done.stderr
    assert "no-audio" in done.stdout and "drum/deaf (the file has no audio stream)" in done.stdout
    assert "videos: 11 of 11" in done.stderr and "time left" in done.stderr
    strict = avbench(*command, "--data", str(tmp_path / "again"), "--strict")
    assert strict.returncode == 2
    assert "1 lost (1 no-audio), and --strict allows none; see" in strict.stderr.splitlines()[-1]
