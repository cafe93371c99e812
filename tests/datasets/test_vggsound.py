"""VGGSound from its list and the folder layouts of mirrors; one second of each clip."""

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
from avbench_datasets.vggsound import VGGSound, read_csv

SMALL = {"size": 24, "mels": 16, "val_fraction": 0}


def prepare(tmp_path: Path, source: Path, **options: Any) -> Store:
    config = resolve(VGGSound.Config, "vggsound", [({**SMALL, **options}, "test")]).config
    return VGGSound(config).prepare(PrepareContext(tmp_path / "data", "vggsound", source, lambda *_: None))


def test_every_layout_of_mirrors_gives_the_same_store(tmp_path: Path) -> None:
    stores = {
        layout: prepare(tmp_path, sources.vggsound(tmp_path / layout, layout=layout)) for layout in sources.VGG_LAYOUTS
    }
    assert {store.info.fingerprint for store in stores.values()} == {stores["flat"].info.fingerprint}
    info = stores["flat"].info
    assert info.classes == tuple(sorted(sources.VGG_CLASSES)) and info.counts["train"] == (2, 2, 2)
    for store in stores.values():
        report = read_report(store.folder)
        assert report is not None and not report.lost


def test_the_second_is_the_code_s_or_the_one_in_the_middle(tmp_path: Path) -> None:
    source = sources.vggsound(tmp_path / "source")
    code, centre = (prepare(tmp_path / second, source, second=second) for second in ("code", "centre"))
    assert {second for _, second in code.samples("train")} == {"4"}
    assert {second for _, second in centre.samples("train")} == {"2.5"}  # of six seconds
    assert media.number(np.asarray(code.frames["train"][0])) == 45
    assert media.number(np.asarray(centre.frames["train"][0])) == 30


def test_clips_of_one_video_are_told_apart_by_their_start(tmp_path: Path) -> None:
    source = sources.vggsound(tmp_path / "source")
    media.make(source / "_0-0_000100.mp4", sources.film(6.0, 900.0))
    with (source / "vggsound.csv").open("a") as file:
        file.write("_0-0,100,zebra braying,train\n")
    store = prepare(tmp_path, source)
    assert store.info.size("train") == 7
    twice = [row for row, (video, _) in enumerate(store.samples("train")) if video == "_0-0"]
    assert len(twice) == 2 and not np.array_equal(store.audio["train"][twice[0]], store.audio["train"][twice[1]])
    # A file named by the id alone could be either clip, so it is neither.
    for path in source.glob("_0-0_*.mp4"):
        path.unlink()
    media.make(source / "_0-0.mp4", sources.film(6.0, 900.0))
    report = read_report(prepare(tmp_path, source).folder)
    assert report is not None and report.reasons == {"missing": 2}


def test_whole_videos_are_cut_by_the_list(tmp_path: Path) -> None:
    source = tmp_path / "source"
    rows = []
    for i, split in enumerate(("train", "train", "test")):
        media.make(source / f"v{i}.webm", whole())
        rows.append(f"v{i},8,bees,{split}")
    (source / "vggsound.csv").write_text("\n".join(rows))
    store = prepare(tmp_path, source, layout="videos")
    assert [media.number(np.asarray(frame)) for frame in store.frames["train"]] == [125, 125]  # at 8 + 4.5 s
    centre = prepare(tmp_path, source, layout="videos", second="centre")
    assert centre.samples("test") == [("v2", "12.5")]


def whole() -> media.Media:
    return media.Media(video="vp9", audio="opus", rate_hz=48_000, width=64, height=48, fps=10, video_s=20.0)


def test_val_is_carved_from_train_by_video(tmp_path: Path) -> None:
    store = prepare(tmp_path, sources.vggsound(tmp_path / "source", train=4), val_fraction=0.25)
    assert store.info.counts == {"train": (3, 3, 3), "val": (1, 1, 1), "test": (1, 1, 1)}
    assert not {v for v, _ in store.samples("train")} & {v for v, _ in store.samples("val")}


def test_the_list_may_have_a_header_and_quoted_commas(tmp_path: Path) -> None:
    path = tmp_path / "vggsound.csv"
    path.write_text('youtube_id,start,label,split\n--a_,30,"dog barking, bow-wow",train\n\n-b,0,bees,test\n')
    rows = read_csv(path)
    assert [(r.video, r.start_s, r.label, r.split) for r in rows] == [
        ("--a_", 30, "dog barking, bow-wow", "train"),
        ("-b", 0, "bees", "test"),
    ]
    path.write_text("a,30,dog barking, bow-wow,train\n")
    with pytest.raises(RequestError, match=r"line 1: .*expected id,start second,label,split"):
        read_csv(path)
