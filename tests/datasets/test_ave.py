"""AVE from its official lists: every annotated second of every video, in the lists' splits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
import sources

from avbench.api import PrepareContext, RequestError, Store
from avbench.data.report import read_report
from avbench.options import resolve
from avbench_datasets.ave import AVE, CLASSES, LEFT_OUT, read_rows

SMALL = {"size": 24, "mels": 16}


def prepare(tmp_path: Path, source: Path, **options: Any) -> Store:
    config = resolve(AVE.Config, "ave", [({**SMALL, **options}, "test")]).config
    return AVE(config).prepare(PrepareContext(tmp_path / "data", "ave", source, lambda *_: None))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sources.ave(tmp_path_factory.mktemp("ave"))


def test_each_annotated_second_is_a_sample(tmp_path: Path, source: Path) -> None:
    store = prepare(tmp_path, source)
    assert store.info.classes == sources.AVE_CLASSES
    assert store.info.counts == {"train": (4, 4, 4), "val": (2, 2, 2), "test": (2, 2, 2)}
    rows = [(video, second) for video in ("-va_00", "-va_10", "-va_20") for second in ("1", "2")]
    assert store.samples("val") == rows
    # The 4th of 8 frames of a second: at 10 frames a second the one shown from 0.4 s on.
    assert [media.number(np.asarray(f)) for f in store.frames["val"][:2]] == [14, 24]
    assert store.info.preset == "paper" and store.info.options["frame"] == "grid"
    report = read_report(store.folder)
    assert report is not None and report.expected == {"train": 27_726, "val": 3_288, "test": 3_305}
    lists = {"trainSet.txt", "valSet.txt", "testSet.txt", "Annotations.txt"}
    assert not report.lost and set(store.info.sources) == lists


def test_the_paper_s_frame_is_an_option(tmp_path: Path, source: Path) -> None:
    store = prepare(tmp_path, source, frame="centre")
    assert [media.number(np.asarray(f)) for f in store.frames["val"][:2]] == [15, 25]


def test_ten_seconds_take_the_whole_video(tmp_path: Path) -> None:
    source = sources.ave(tmp_path / "source", videos={"train": 1, "val": 0, "test": 1})
    for path in (source / "AVE").glob("*.mp4"):
        media.make(path, sources.film(9.98, 500.0))
    store = prepare(tmp_path, source, seconds=10, val_fraction=0)
    assert store.info.counts == {"train": (1, 1, 1), "val": (0, 0, 0), "test": (1, 1, 1)}
    assert store.info.audio_shape == (1, 16, 551) and {second for _, second in store.samples("test")} == {"0"}


def test_a_list_with_a_header_and_one_without_are_the_same(tmp_path: Path) -> None:
    with_header = tmp_path / "with.txt"
    with_header.write_text("Category&VideoID&Quality&StartTime&EndTime\nBark&a_b&good&0&10\n\n")
    without = tmp_path / "without.txt"
    without.write_text("\ufeffBark&a_b&good&0&10")
    assert read_rows(with_header, "train") == read_rows(without, "train")
    (tmp_path / "wrong.txt").write_text("Bark,a_b,good,0,10\n")
    with pytest.raises(RequestError, match=r"wrong.txt, line 1: .*expected Category&VideoID"):
        read_rows(tmp_path / "wrong.txt", "train")


def test_the_six_videos_are_left_out_by_option(tmp_path: Path, source: Path) -> None:
    copy = sources.ave(tmp_path / "source", videos={"train": 1, "val": 1, "test": 1})
    media.make(copy / "AVE" / f"{LEFT_OUT[0]}.mp4", sources.film(4.0, 500.0))
    with (copy / "trainSet.txt").open("a") as file:
        file.write(f"Bark&{LEFT_OUT[0]}&good&0&4\n")
    left, kept = (prepare(tmp_path, copy, left_out=choice) for choice in ("code", "none"))
    assert left.info.size("train") == 6 and kept.info.size("train") == 10
    assert "Left out, as the AVDD code does" in left.info.notes[0]
    report = read_report(tmp_path / "data" / "ave")
    assert report is not None and report.expected["train"] == 27_759


def test_videos_in_two_splits_stay_and_are_noted(tmp_path: Path) -> None:
    copy = sources.ave(tmp_path / "source", videos={"train": 1, "val": 1, "test": 1})
    with (copy / "testSet.txt").open("a") as file:
        file.write("Bark&-tr_00&good&0&1\n")
    store = prepare(tmp_path, copy)
    assert "1 videos occur in both test and train, as in the dataset's lists." in store.info.notes
    assert store.info.size("test") == 7


def test_another_split_can_be_given(tmp_path: Path, source: Path) -> None:
    rows = ["vid,split,label"]
    for path in sorted((source / "AVE").glob("*.mp4")):
        rows.append(f"{path.stem},{'test' if path.stem.endswith('1') else 'train'},x")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    store = prepare(tmp_path, source, split_file=str(tmp_path / "mine.csv"), val_fraction=0.3)
    assert store.info.size("test") == 6 and store.info.counts["val"] == (2, 2, 2)
    assert any(note.startswith("val: 3 of 9 train videos") for note in store.info.notes)


def test_a_source_without_lists_or_videos_says_what_to_do(tmp_path: Path, source: Path) -> None:
    with pytest.raises(RequestError, match="is no folder; write avbench prepare ave --source DIR"):
        prepare(tmp_path, tmp_path / "absent")
    with pytest.raises(RequestError, match=r"no video \(\.mp4"):
        prepare(tmp_path, tmp_path)
    with pytest.raises(RequestError, match=r"no trainSet.txt under .*docs/datasets/ave.md"):
        prepare(tmp_path, source / "AVE")


def test_the_classes_are_the_28_of_the_owners() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 28
