"""VGGS-10k: from videos, by the authors' list, or cut from a prepared VGGSound; the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
import sources

from avbench.api import Dataset, PrepareContext, RequestError, Store
from avbench.data.report import read_report
from avbench.options import resolve
from avbench_datasets.vggs10k import CLASSES, VGGS10k
from avbench_datasets.vggsound import VGGSound
from avbench_datasets.video_folder import Folder

SMALL = {"size": 24, "mels": 16, "val_fraction": 0.5}


def prepare(plugin: type[Dataset], name: str, tmp_path: Path, source: Path, **options: Any) -> Store:
    config = resolve(plugin.Config, name, [({**SMALL, **options}, "test")]).config
    return plugin(config).prepare(PrepareContext(tmp_path / "data", name, source, lambda *_: None))


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = sources.vggs10k(tmp_path_factory.mktemp("vggs10k"))
    media.make(root / "other_000007.mp4", sources.film(6.0, 800.0))
    media.make(root / "another_000007.mp4", sources.film(6.0, 800.0))
    with (root / "vggsound.csv").open("a") as file:
        file.write("other,7,zebra braying,train\nanother,7,zebra braying,test\n")
    return root


def test_cut_from_vggsound_it_is_what_videos_give(tmp_path: Path, source: Path) -> None:
    from_videos = prepare(VGGS10k, "vggs10k", tmp_path, source)
    assert from_videos.info.classes == CLASSES and from_videos.info.counts["train"] == (1,) * 10
    assert from_videos.info.counts["val"] == (1,) * 10 and from_videos.info.counts["test"] == (1,) * 10
    report = read_report(from_videos.folder)
    assert report is not None and report.expected["test"] == 444
    prepare(VGGSound, "vggsound", tmp_path, source)
    cut = prepare(VGGS10k, "vggs10k", tmp_path, tmp_path / "data" / "vggsound")
    assert cut.info.fingerprint == from_videos.info.fingerprint
    assert "Cut from the store 'vggsound' without decoding." in cut.info.notes
    assert cut.info.dataset == "vggs10k" and cut.info.name == "vggs10k" and "TMLR" in cut.info.citation
    assert np.array_equal(cut.recompute_fingerprint(), cut.info.fingerprint)


def test_the_authors_list_is_accepted_and_its_clips_are_keyed_by_start(tmp_path: Path, source: Path) -> None:
    rows = ["vid,num,label,split,label_id"]
    for cls, label in enumerate(CLASSES):
        quoted = f'"{label}"' if "," in label else label
        rows += [f"_{cls}-{i},{10 * i + 7},{quoted},{s},{cls}" for i, s in enumerate(("train", "train", "test"))]
    rows.append("other,7,zebra braying,train,11")
    (tmp_path / "vgg_subset.csv").write_text("\n".join(rows))
    listed = prepare(VGGS10k, "vggs10k", tmp_path, source, split_file=str(tmp_path / "vgg_subset.csv"))
    assert listed.info.counts["train"] == (1,) * 10
    report = read_report(listed.folder)
    assert report is not None and report.reasons == {"unknown-label": 1}


def test_the_clip_that_the_code_leaves_out_is_an_option(tmp_path: Path, source: Path) -> None:
    copy = sources.vggs10k(tmp_path / "source", train=1)
    media.make(copy / "JsxLvhJ4P6w_000030.mp4", sources.film(6.0, 800.0))
    with (copy / "vggsound.csv").open("a") as file:
        file.write("JsxLvhJ4P6w,30,driving buses,test\n")
    sizes = {o: prepare(VGGS10k, "vggs10k", tmp_path, copy, left_out=o).info.size("test") for o in ("none", "code")}
    assert sizes == {"none": 11, "code": 10}


def test_only_a_whole_vggsound_can_be_cut(tmp_path: Path) -> None:
    prepare(VGGSound, "vggsound", tmp_path, sources.vggsound(tmp_path / "few"))
    with pytest.raises(RequestError, match=r"has no class 'chicken crowing' \(8 of ten lack\)"):
        prepare(VGGS10k, "vggs10k", tmp_path, tmp_path / "data" / "vggsound")
    prepare(Folder, "folder", tmp_path, sources.folder(tmp_path / "mine"))
    with pytest.raises(RequestError, match="is a store of 'folder'; vggs10k is cut from one of vggsound"):
        prepare(VGGS10k, "vggs10k", tmp_path, tmp_path / "data" / "folder")
