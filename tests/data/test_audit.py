"""``avbench data``: what a store is, and the faults and leaks that an audit finds in it."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

from avbench.cli import main
from avbench.data.audit import Audit, Finding, audit
from avbench.data.report import REPORT_NAME, LostSample, Report
from avbench.data.store import Store, StoreInfo, open_store
from avbench.data.store_writer import StoreWriter

INFO = StoreInfo(
    name="heard",
    dataset="test",
    dataset_version=3,
    classes=("ant", "bee"),
    counts={"train": (3, 3), "val": (1, 1), "test": (2, 2)},
    audio_shape=(1, 8, 5),
    frame_shape=(3, 6, 7),
    audio_mean=0.0,
    audio_std=1.0,
    frame_mean=(0.5, 0.4, 0.3),
    frame_std=(0.2, 0.2, 0.2),
    visual_depth=1,
    audio_depth=1,
    grid=(3, 3),
    preset="quick",
    sample_rate_hz=11_000,
    audio_transform={"kind": "log-mel", "mels": 8},
    licence="CC0",
    citation="A. Uthor, 2024",
    options={"size": 7},
    notes=("made for a test",),
)
Change = Callable[[str, int, np.ndarray, np.ndarray], str | None]


def unchanged(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> str | None:
    return None


def build(data: Path, change: Change = unchanged, info: StoreInfo = INFO) -> Store:
    """A store of noise in which ``change`` may write; what it returns is the video id in place of a distinct one."""
    rng = np.random.default_rng(0)
    writer = StoreWriter(data, info)
    for split in info.counts:
        for row in range(info.size(split)):
            sound = rng.uniform(-60, 0, info.audio_shape).astype(np.float32)
            frame = rng.integers(0, 256, info.frame_shape, np.uint8)
            video = change(split, row, sound, frame)
            writer.put(split, row, sound, frame, f"{split}{row}" if video is None else video)
    return writer.finish()


def look(store: Store) -> Audit:
    return audit(store, lambda done, total, what: None)


def found(store: Store, check: str) -> list[Finding]:
    return [finding for finding in look(store).findings if finding.check.startswith(check) and finding.count]


def test_a_clean_store_has_no_finding(tmp_path: Path) -> None:
    report = look(build(tmp_path))
    assert report.unchanged and not report.leaks
    assert not [finding for finding in report.findings if finding.count]


def test_the_same_video_in_two_splits_is_found(tmp_path: Path) -> None:
    """As with AVE, whose official lists have eight videos in both train and test."""
    both = {("train", 0): "y2Zk1VHV8fE", ("train", 4): "mnYAL2tzuTM", ("test", 1): "y2Zk1VHV8fE"}
    both |= {("test", 3): "mnYAL2tzuTM", ("val", 0): "mnYAL2tzuTM"}
    store = build(tmp_path, lambda split, row, sound, frame: both.get((split, row)))
    leaks = {finding.splits: finding for finding in found(store, "same video")}
    assert {splits: finding.count for splits, finding in leaks.items()} == {
        ("train", "val"): 1,
        ("train", "test"): 2,
        ("val", "test"): 1,
    }
    assert leaks["train", "test"].examples == ("mnYAL2tzuTM", "y2Zk1VHV8fE")
    assert all(finding.level == "leak" for finding in leaks.values())


def test_a_video_with_several_seconds_in_one_split_is_no_leak(tmp_path: Path) -> None:
    store = build(tmp_path, lambda split, row, sound, frame: split)
    assert not look(store).leaks


def test_samples_without_a_video_id_are_not_taken_for_one_video(tmp_path: Path) -> None:
    store = build(tmp_path, lambda split, row, sound, frame: "")
    assert not look(store).leaks
    assert [(f.splits, f.count) for f in found(store, "no video id")] == [
        (("train",), 6),
        (("val",), 2),
        (("test",), 4),
    ]
    said = command("audit", "heard", data=tmp_path).stdout
    assert "without video ids, one video in two can't be seen" in said and "nothing found: same video" not in said


def test_identical_frames_and_sounds_across_splits_are_found_by_content(tmp_path: Path) -> None:
    def repeat(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        if (split, row) in (("train", 2), ("test", 1)):
            frame[:] = np.arange(126, dtype=np.uint8).reshape(3, 6, 7)
        if (split, row) in (("val", 1), ("test", 3)):
            sound[:] = -np.arange(40, dtype=np.float32).reshape(1, 8, 5)

    store = build(tmp_path, repeat)
    (frames,) = found(store, "identical frames")
    (sounds,) = found(store, "identical sounds")
    assert (frames.splits, frames.count, frames.examples) == (("train", "test"), 1, ("train 2 = test 1",))
    assert (sounds.splits, sounds.count, sounds.examples) == (("val", "test"), 1, ("val 1 = test 3",))


def test_silence_and_black_frames_are_faults_and_no_leaks(tmp_path: Path) -> None:
    def empty(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        if row == 0:
            sound[:], frame[:] = -100.0, 16
        if (split, row) == ("test", 3):
            sound[:], frame[:] = -12.0, 200

    store = build(tmp_path, empty)
    assert not look(store).leaks
    assert [(f.splits[0], f.count) for f in found(store, "silent")] == [("train", 1), ("val", 1), ("test", 2)]
    assert [(f.splits[0], f.count) for f in found(store, "black")] == [("train", 1), ("val", 1), ("test", 1)]
    assert [(f.splits[0], f.examples) for f in found(store, "frame of one colour")] == [("test", ("row 3",))]


def test_quiet_is_not_silent_and_dark_is_not_black(tmp_path: Path) -> None:
    def faint(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        sound -= 40.0
        sound[0, 0, 0] = -69.0
        frame //= 16
        frame[0, 0, 0] = 17

    store = build(tmp_path, faint)
    assert not found(store, "silent") and not found(store, "black")


def test_constant_mel_bands_are_named_whatever_silent_samples_hold(tmp_path: Path) -> None:
    def band(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        sound[0, 2] = -100.0
        if (split, row) == ("val", 0):
            sound[:] = -100.0

    (finding,) = found(build(tmp_path, band), "constant mel band")
    assert finding.examples == ("band 2: -100 dB",) and finding.total == 8 and finding.level == "note"


def test_samples_repeated_within_a_split_and_under_two_classes_are_found(tmp_path: Path) -> None:
    def repeat(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        if split == "train" and row in (0, 1, 4):
            sound[:], frame[:] = -np.arange(40).reshape(1, 8, 5), np.arange(126).reshape(3, 6, 7)

    store = build(tmp_path, repeat)
    assert [(f.count, f.examples) for f in found(store, "repeated sample")] == [(2, ("0 = 1", "0 = 4"))]
    assert [f.examples for f in found(store, "same sample, two classes")] == [("0 ant = 4 bee",)]


def test_one_equal_modality_is_no_repeated_sample(tmp_path: Path) -> None:
    def still(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        if split == "train":
            frame[:] = np.arange(126).reshape(3, 6, 7)

    assert not found(build(tmp_path, still), "repeated")


def test_numbers_that_are_none_are_found(tmp_path: Path) -> None:
    def broken(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> None:
        if split == "test" and row < 2:
            sound[0, 1, 1] = (np.nan, np.inf)[row]

    (finding,) = found(build(tmp_path, broken), "sound with NaN")
    assert finding.count == 2 and finding.splits == ("test",)


def test_uneven_and_empty_classes_are_found(tmp_path: Path) -> None:
    info = replace(INFO, counts={"train": (1, 11), "val": (2, 0), "test": (1, 1)})
    store = build(tmp_path, info=info)
    (uneven,) = found(store, "class over 10 times")
    assert uneven.splits == ("train",) and uneven.examples == ("from 1 (ant) to 11 (bee)",)
    (empty,) = found(store, "class without samples")
    assert empty.splits == ("val",) and empty.examples == ("bee",) and empty.level == "note"


def test_a_split_without_rows_is_audited(tmp_path: Path) -> None:
    assert not look(build(tmp_path, info=replace(INFO, counts={**INFO.counts, "val": (0, 0)}))).leaks


def spoil(store: Store) -> None:
    path = store.folder / "test/frames.npy"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def test_a_changed_file_is_told_by_the_fingerprint(tmp_path: Path) -> None:
    store = build(tmp_path)
    spoil(store)
    assert not look(open_store(tmp_path, "heard")).unchanged


def leak(split: str, row: int, sound: np.ndarray, frame: np.ndarray) -> str | None:
    return "abc" if row == 0 else None


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def command(*arguments: str, data: Path) -> Done:
    """``avbench data`` in this process; one of its own would import torch each time."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["avbench", "data", *arguments, "--data", str(data)]
    streams = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with mock.patch.object(sys, "argv", argv), streams[0], streams[1], pytest.raises(SystemExit) as ended:
        main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def test_audit_prints_a_table_or_json_and_strict_makes_leaks_an_exit_status(tmp_path: Path) -> None:
    build(tmp_path / "clean")
    store = build(tmp_path, leak)
    plain = command("audit", "heard", data=tmp_path)
    assert plain.returncode == 0 and "leak  same video" in plain.stdout and "abc" in plain.stdout
    assert "scores may be too good" in plain.stdout
    told: dict[str, Any] = json.loads(command("audit", "heard", "--json", data=tmp_path).stdout)
    assert told["unchanged"] and told["leaks"] == 3
    assert {f["check"] for f in told["findings"] if f["level"] == "leak" and f["count"]} == {"same video"}
    assert command("audit", "heard", "--strict", data=tmp_path).returncode == 3
    assert command("audit", "heard", "--strict", data=tmp_path / "clean").returncode == 0
    spoil(store)
    spoiled = command("audit", "heard", data=tmp_path)
    assert spoiled.returncode == 0 and "FINGERPRINT DIFFERS" in spoiled.stdout


def test_info_tells_all_there_is_to_know(tmp_path: Path) -> None:
    store = build(tmp_path)
    said = command("info", "heard", data=tmp_path).stdout
    for words in ("6 train, 2 val, 4 test", "CC0", "A. Uthor, 2024", "size 7", "note: made for a test", "quick"):
        assert words in said
    assert store.info.fingerprint in said and "test (version 3)" in said
    assert said.splitlines()[-1].split() == ["bee", "3", "1", "2"]
    told = json.loads(command("info", "heard", "--json", data=tmp_path).stdout)
    assert told["counts"] == {"train": [3, 3], "val": [1, 1], "test": [2, 2]}
    assert told["fingerprint"] == store.info.fingerprint and told["disk_bytes"] > 1000


def test_info_tells_what_the_preparation_lost(tmp_path: Path) -> None:
    store = build(tmp_path)
    assert json.loads(command("info", "heard", "--json", data=tmp_path).stdout)["lost"] == {}
    split = {"train": 8}
    lost = [LostSample("abc", "train", "abc.mp4", None, reason, "") for reason in ("missing", "no-audio", "missing")]
    path = Report("test", "heard", split, split, split, split, lost).write(store.folder)
    assert path.name == REPORT_NAME
    assert "lost in the preparation: missing 2, no-audio 1" in command("info", "heard", data=tmp_path).stdout
    assert json.loads(command("info", "heard", "--json", data=tmp_path).stdout)["lost"] == {"missing": 2, "no-audio": 1}
    path.write_text("{", encoding="utf-8")
    done = command("info", "heard", data=tmp_path)
    assert done.returncode == 2 and "can't be read" in done.stderr


@pytest.mark.parametrize("verb", ["info", "audit"])
def test_an_unknown_store_is_one_line_with_what_to_do(tmp_path: Path, verb: str) -> None:
    build(tmp_path)
    for name, words in (("herd", "did you mean 'heard'"), ("avdigits", "run avbench prepare avdigits first")):
        done = command(verb, name, data=tmp_path)
        assert done.returncode == 2 and words in done.stderr and len(done.stderr.splitlines()) == 1
    (tmp_path / "heard/train/frames.npy").write_bytes(b"cut")
    done = command("audit", "heard", data=tmp_path)
    assert done.returncode == 2 and "prepare 'heard' again" in done.stderr


def test_info_imports_no_torch(tmp_path: Path) -> None:
    build(tmp_path)
    code = (
        f"import sys; sys.argv = ['avbench', 'data', 'info', 'heard', '--data', {str(tmp_path)!r}]\n"
        "from avbench.cli import main\ntry: main()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
