"""The store: what is written comes back, and what is broken is refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avbench.data.store import (
    STORE_FORMAT,
    Store,
    StoreInfo,
    available,
    class_offsets,
    open_store,
    read_info,
)
from avbench.data.store_writer import StoreWriter
from avbench.errors import RequestError, StoreError

INFO = StoreInfo(
    name="tiny",
    dataset="test",
    dataset_version=1,
    classes=("cat", "dog"),
    counts={"train": (3, 2), "val": (1, 0), "test": (1, 1)},
    audio_shape=(1, 4, 5),
    frame_shape=(3, 6, 7),
    audio_mean=0.0,
    audio_std=1.0,
    frame_mean=(0.5, 0.5, 0.5),
    frame_std=(0.2, 0.2, 0.2),
    visual_depth=1,
    audio_depth=1,
    grid=(3, 3),
    preset="quick",
    sample_rate_hz=11_000,
    audio_transform={"kind": "log-mel"},
    licence="none",
    citation="none",
    notes=("a note",),
)


def audio(row: int) -> np.ndarray:
    return np.full(INFO.audio_shape, -row, np.float32)


def frame(row: int) -> np.ndarray:
    return np.full(INFO.frame_shape, row, np.uint8)


def fill(writer: StoreWriter, reverse: bool = False) -> StoreWriter:
    for split in writer.info.counts:
        rows = range(writer.info.size(split))
        for row in reversed(rows) if reverse else rows:
            writer.put(split, row, audio(row), frame(row), f"{split}-{row}", str(row))
    return writer


def build(data: Path, info: StoreInfo = INFO, reverse: bool = False) -> Store:
    return fill(StoreWriter(data, info), reverse).finish()


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    build(tmp_path)
    store = open_store(tmp_path, "tiny")
    assert store.info == replace(INFO, fingerprint=store.info.fingerprint)
    assert store.info.size("train") == 5 and store.info.shape("v") == (3, 6, 7) and store.info.depth("a") == 1
    assert [int(a.flat[0]) for a in store.audio["train"]] == [0, -1, -2, -3, -4]
    assert [int(f.flat[0]) for f in store.frames["train"]] == [0, 1, 2, 3, 4]
    assert store.samples("test") == [("test-0", "0"), ("test-1", "1")]
    assert available(tmp_path) == ["tiny"]


def test_rows_may_arrive_out_of_order(tmp_path: Path) -> None:
    forward, backward = build(tmp_path / "a"), build(tmp_path / "b", reverse=True)
    assert forward.info.fingerprint == backward.info.fingerprint


def test_arrays_are_mapped_not_read(tmp_path: Path) -> None:
    store = build(tmp_path)
    assert isinstance(store.audio["train"], np.memmap) and isinstance(store.frames["test"], np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.audio["train"][0] = 0


def test_a_split_may_be_empty(tmp_path: Path) -> None:
    info = replace(INFO, counts={**INFO.counts, "val": (0, 0)})
    assert build(tmp_path, info).audio["val"].shape == (0, 1, 4, 5)


def test_fingerprint_follows_the_samples_and_not_the_name(tmp_path: Path) -> None:
    store = build(tmp_path)
    renamed = build(tmp_path, replace(INFO, name="other", licence="another", preset="paper"))
    assert renamed.info.fingerprint == store.info.fingerprint
    normalised = build(tmp_path, replace(INFO, name="third", audio_mean=1.0))
    assert normalised.info.fingerprint != store.info.fingerprint
    assert store.recompute_fingerprint() == store.info.fingerprint
    path = tmp_path / "tiny/val/frames.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    assert open_store(tmp_path, "tiny").recompute_fingerprint() != store.info.fingerprint


@pytest.mark.parametrize("name", ["audio.npy", "frames.npy"])
@pytest.mark.parametrize("keep", [0, 40, -1])
def test_a_truncated_array_is_refused(tmp_path: Path, name: str, keep: int) -> None:
    build(tmp_path)
    path = tmp_path / "tiny/train" / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StoreError, match="prepare 'tiny' again"):
        open_store(tmp_path, "tiny")


def test_a_missing_or_misshapen_array_is_refused(tmp_path: Path) -> None:
    build(tmp_path)
    path = tmp_path / "tiny/test/audio.npy"
    np.save(path, np.zeros((2, 1, 4, 6), np.float32))
    with pytest.raises(StoreError, match=r"holds float32 \(2, 1, 4, 6\)"):
        open_store(tmp_path, "tiny")
    np.save(path, np.zeros((2, 1, 4, 5), np.float64))
    with pytest.raises(StoreError, match="holds float64"):
        open_store(tmp_path, "tiny")
    path.unlink()
    with pytest.raises(StoreError, match="can't be read"):
        open_store(tmp_path, "tiny")


def test_another_format_is_refused(tmp_path: Path) -> None:
    build(tmp_path)
    path = tmp_path / "tiny/store.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "format": STORE_FORMAT + 1}))
    with pytest.raises(StoreError, match=f"store format {STORE_FORMAT + 1}"):
        read_info(tmp_path, "tiny")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1, "counts": []}', '{"format": 1}'])
def test_a_broken_description_is_refused(tmp_path: Path, text: str) -> None:
    build(tmp_path)
    (tmp_path / "tiny/store.json").write_text(text)
    with pytest.raises(StoreError, match="not a store description"):
        read_info(tmp_path, "tiny")


def test_an_unknown_name_offers_the_nearest(tmp_path: Path) -> None:
    build(tmp_path)
    with pytest.raises(StoreError, match="did you mean 'tiny'"):
        open_store(tmp_path, "tyni")


def test_nothing_is_visible_before_finish(tmp_path: Path) -> None:
    writer = fill(StoreWriter(tmp_path, INFO))
    assert available(tmp_path) == []
    with pytest.raises(StoreError):
        open_store(tmp_path, "tiny")
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_killed_rebuild_leaves_the_old_store_whole(tmp_path: Path) -> None:
    before = build(tmp_path)
    pid = os.fork()
    if not pid:  # a process that dies without a chance to tidy up
        writer = StoreWriter(tmp_path, INFO)
        writer.put("train", 0, audio(9), frame(9), "x")
        os._exit(9)
    os.waitpid(pid, 0)
    assert available(tmp_path) == ["tiny"]
    assert open_store(tmp_path, "tiny").recompute_fingerprint() == before.info.fingerprint


def test_a_finished_rebuild_replaces_the_old_store(tmp_path: Path) -> None:
    build(tmp_path)
    smaller = build(tmp_path, replace(INFO, counts={"train": (1, 1), "test": (1, 1)}))
    assert open_store(tmp_path, "tiny").info == smaller.info
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_row_that_was_never_written_is_noticed(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path, INFO)
    writer.put("train", 0, audio(0), frame(0), "x")
    with pytest.raises(StoreError, match="1 of 5 rows of train"):
        writer.finish()
    assert available(tmp_path) == []


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "ü", "x" * 65, "a b"])
def test_a_name_that_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RequestError, match="dataset name"):
        StoreWriter(tmp_path, replace(INFO, name=name))
    assert list(tmp_path.iterdir()) == []


def test_a_store_can_be_moved(tmp_path: Path) -> None:
    store = build(tmp_path / "a")
    shutil.move(tmp_path / "a", tmp_path / "b")
    assert open_store(tmp_path / "b", "tiny").recompute_fingerprint() == store.info.fingerprint


def test_class_offsets() -> None:
    assert list(class_offsets((3, 0, 2))) == [(0, 3), (3, 3), (3, 5)]
