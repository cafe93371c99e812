"""MUSIC-21: every non-overlapping second of a solo, split by video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sources

from avbench.api import PrepareContext, RequestError, Store
from avbench.data.report import read_report
from avbench.options import resolve
from avbench_datasets.music21 import Music21, read_videos

SMALL = {"size": 24, "mels": 16}


def prepare(tmp_path: Path, source: Path, **options: Any) -> Store:
    config = resolve(Music21.Config, "music21", [({**SMALL, **options}, "test")]).config
    return Music21(config).prepare(PrepareContext(tmp_path / "data", "music21", source, lambda *_: None))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.music21(tmp_path_factory.mktemp("music21"))


def test_every_second_is_a_sample_and_no_video_is_in_two_splits(tmp_path: Path, source: Path) -> None:
    store = prepare(tmp_path, source, val_fraction=0.3)
    assert store.info.classes == sources.MUSIC_CLASSES
    assert store.info.counts == {"train": (6, 6, 6), "val": (3, 3, 3), "test": (3, 3, 3)}
    videos = [{video for video, _ in store.samples(split)} for split in store.info.counts]
    assert sum(map(len, videos)) == len(set().union(*videos)) == 12
    notes = " ".join(store.info.notes)
    assert "test: 3 of 12 train videos, drawn by video in each class (seed 0)." in notes and "val: 3 of 9" in notes
    again = prepare(tmp_path, source, val_fraction=0.3)
    other = prepare(tmp_path, source, val_fraction=0.3, seed=1)
    assert again.info.fingerprint == store.info.fingerprint != other.info.fingerprint


def test_the_authors_split_is_accepted(tmp_path: Path, source: Path) -> None:
    rows = ["vid,split,label"]
    for label, ids in read_videos(source / "MUSIC21_solo_videos.json").items():
        rows += [
            f"{video},{split},{label}" for video, split in zip(ids, ("train", "train", "val", "test"), strict=True)
        ]
    path = tmp_path / "music_21.csv"
    path.write_text("\n".join(rows))
    store = prepare(tmp_path, source, split_file=str(path))
    assert store.info.counts == {"train": (6, 6, 6), "val": (3, 3, 3), "test": (3, 3, 3)}
    assert {video for video, _ in store.samples("test")} == {"ac-_3", "er-_3", "xy-_3"}
    report = read_report(store.folder)
    assert report is not None and report.expected == {"train": 146_908, "val": 7_103, "test": 42_440}
    path.write_text("vid,label\na,b")
    with pytest.raises(RequestError, match="expected a header with vid, label and split"):
        prepare(tmp_path, source, split_file=str(path))
    path.write_text("vid,split,label\na,trian,erhu")
    with pytest.raises(RequestError, match=r"line 2: unknown split 'trian'"):
        prepare(tmp_path, source, split_file=str(path))
    with pytest.raises(RequestError, match=r"--split-file .*there is no such file"):
        prepare(tmp_path, source, split_file=str(tmp_path / "absent.csv"))


def test_a_listed_video_that_is_gone_is_counted(tmp_path: Path) -> None:
    source = sources.music21(tmp_path / "source")
    (source / "erhu" / "er-_0.mp4").unlink()
    report = read_report(prepare(tmp_path, source).folder)
    assert report is not None and report.reasons == {"missing": 1} and report.lost[0].video == "er-_0"


def test_a_list_of_another_form_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "MUSIC21_solo_videos.json"
    for text in ("[]", '{"videos": 3}', "{"):
        path.write_text(text)
        with pytest.raises(RequestError, match=r"download MUSIC21_solo_videos\.json again"):
            read_videos(path)
