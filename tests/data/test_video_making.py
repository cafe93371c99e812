"""From a plan to a store: what is lost is counted, what was decoded is kept, memory and workers behave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import media
import numpy as np
import pytest
from media import Media, make

from avbench.api import ClipOptions, Loss, Plan, PrepareContext, Recording, Store, carve, prepare_clips
from avbench.data.clips import MediaIndex, known_labels, only_classes, shared_videos
from avbench.data.prepare import prepare as by_name
from avbench.data.report import as_text, read_report
from avbench.errors import RequestError

SMALL = Media(width=64, height=48, fps=10, video_s=3.0)
OPTIONS = ClipOptions(size=24, mels=16, val_fraction=0.0, preset="quick")


def plan(recordings: list[Recording], **changes: Any) -> Plan:
    known = Plan("films", 1, recordings, ("cat", "dog"), licence="none", citation="", expected={"train": 99})
    return replace(known, **changes)


def prepare(
    tmp_path: Path,
    plan: Plan,
    options: ClipOptions = OPTIONS,
    progress: Callable[[int, int, str], None] = lambda done, total, what: None,
    **changes: Any,
) -> Store:
    context = PrepareContext(tmp_path / "data", "films", tmp_path, progress, **changes)
    return prepare_clips(plan, options, context)


def good(tmp_path: Path) -> list[Recording]:
    """One video of each class in train and in test."""
    return [
        Recording(f"{label}-{split}", make(tmp_path / split / f"{label}.mp4", SMALL), split, label, 0.0, 2.0)
        for split in ("train", "test")
        for label in ("dog", "cat")
    ]


def test_rows_are_sorted_by_class_and_say_where_they_come_from(tmp_path: Path) -> None:
    store = prepare(tmp_path, plan(good(tmp_path)))
    assert store.info.classes == ("cat", "dog") and store.info.counts["train"] == (2, 2)
    rows = [("cat-train", "0"), ("cat-train", "1"), ("dog-train", "0"), ("dog-train", "1")]
    assert store.samples("train") == rows
    assert [media.number(np.asarray(frame)) for frame in store.frames["train"]] == [5, 15, 5, 15]
    assert store.audio["train"].shape == (4, 1, 16, 56)
    assert (store.info.visual_depth, store.info.audio_depth, store.info.grid) == (3, 3, (3, 3))
    assert not list((tmp_path / "data").glob(".*"))


def test_the_paper_s_sizes_are_the_default() -> None:
    options = ClipOptions()
    assert options.log_mel.shape == (1, 128, 56) and options.depths == (5, 3) and options.grid == (7, 7)
    assert ClipOptions(seconds=10.0).log_mel.shape == (1, 128, 551)


def broken(tmp_path: Path) -> dict[Loss, Recording]:
    """A recording for each way in which a file can fail."""
    whole = make(tmp_path / "whole.mp4", SMALL).read_bytes()
    long = make(tmp_path / "long.mkv", replace(SMALL, video_s=12.0)).read_bytes()
    raw = {
        "empty.mp4": b"",
        "text.mp4": b"<html>video unavailable</html>" * 50,
        "cut.mp4": whole[: len(whole) // 2],
        "cut.mkv": long[: len(long) // 2],
        "noise.mp4": np.random.default_rng(0).bytes(50_000),
    }
    for name, content in raw.items():
        (tmp_path / name).write_bytes(content)
    files = {
        Loss.EMPTY: tmp_path / "empty.mp4",
        Loss.NOT_MEDIA: tmp_path / "text.mp4",
        Loss.NO_AUDIO: make(tmp_path / "deaf.mp4", replace(SMALL, audio=None)),
        Loss.NO_VIDEO: make(tmp_path / "blind.mp4", replace(SMALL, video=None, audio_s=3.0)),
    }
    found = {reason: Recording(f"{reason}", path, "train", "cat") for reason, path in files.items()}
    found[Loss.TRUNCATED] = Recording("cut", tmp_path / "cut.mp4", "train", "cat")
    found[Loss.PAST_END] = Recording("late", make(tmp_path / "late.mp4", SMALL), "train", "cat", 7.0, 8.0)
    found[Loss.MISSING] = Recording("gone", None, "train", "dog")
    found[Loss.UNKNOWN_LABEL] = Recording("who", tmp_path / "whole.mp4", "train", "dgo")
    return found


def test_broken_videos_are_counted_by_reason_and_stop_nothing(tmp_path: Path) -> None:
    bad = broken(tmp_path)
    noise = Recording("noise", tmp_path / "noise.mp4", "train", "dog")
    half = Recording("half", tmp_path / "cut.mkv", "train", "dog", 0.0, 12.0)
    store = prepare(tmp_path, plan([*bad.values(), *good(tmp_path), noise, half]))
    report = read_report(store.folder)
    assert report is not None
    reasons = dict(report.reasons)
    halves = reasons.pop("truncated") - 1
    assert 4 <= halves <= 8  # the seconds of the half that is gone
    assert reasons.pop("not-media") == 2
    assert reasons == {str(r): 1 for r in bad if r not in (Loss.TRUNCATED, Loss.NOT_MEDIA)}
    assert report.samples["train"] == 4 + 12 - halves == store.info.size("train")
    assert report.listed == {"train": 11, "test": 2} and report.found == {"train": 10, "test": 2}
    text = as_text(report)
    assert "interval-past-end" in text and "'dgo' is not a class; did you mean 'dog'?" in text and "99" in text
    assert any("lost of what the annotations promise" in note for note in store.info.notes)


def test_strict_makes_any_loss_an_error_and_keeps_the_work(tmp_path: Path) -> None:
    recordings = [*good(tmp_path), Recording("gone", None, "train", "dog")]
    with pytest.raises(RequestError, match=r"1 lost \(1 missing\), and --strict allows none") as caught:
        prepare(tmp_path, plan(recordings), strict=True)
    report = tmp_path / "data" / ".films.preparing" / "prepare-report.json"
    assert str(report) in str(caught.value) and json.loads(report.read_text())["reasons"] == {"missing": 1}
    assert not (tmp_path / "data" / "films").exists()
    recordings[-1] = replace(recordings[-1], path=make(tmp_path / "found.mp4", SMALL))
    done: list[int] = []
    prepare(tmp_path, plan(recordings), progress=lambda n, total, what: done.append(n), strict=True)
    assert done[0] == 4  # of five videos four need not be decoded again


def test_nothing_to_decode_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="1 recordings are listed, none has a file under"):
        prepare(tmp_path, plan([Recording("gone", None, "train", "dog")]))
    with pytest.raises(RequestError, match="name no recording of the known classes"):
        prepare(tmp_path, plan([Recording("gone", None, "train", "horse")]))
    assert not (tmp_path / "data").exists()
    only = [r for r in good(tmp_path) if r.split == "train"]
    with pytest.raises(RequestError, match=r"no sample of test could be made \(nothing lost\)"):
        prepare(tmp_path, plan(only))


def test_a_class_without_training_samples_is_left_out_and_noted(tmp_path: Path) -> None:
    recordings = [r for r in good(tmp_path) if not (r.split == "train" and r.label == "cat")]
    store = prepare(tmp_path, plan(recordings))
    assert store.info.classes == ("dog",) and store.info.counts["test"] == (2,)
    assert "Left out, for they have no training sample: cat." in store.info.notes


def test_a_video_that_kills_its_decoder_is_counted(tmp_path: Path) -> None:
    slow = make(tmp_path / "slow.mp4", replace(SMALL, width=640, height=480, fps=25, video_s=20.0))
    recordings = [Recording("slow", slow, "train", "dog"), *good(tmp_path)]
    work = tmp_path / "data" / ".films.preparing"

    def kill() -> None:
        """The worker that decodes the first video, once it writes."""
        for _ in range(2_000):
            for path in work.glob("*/*.*"):
                if path.suffix[1:].isdigit():
                    os.kill(int(path.suffix[1:]), signal.SIGKILL)
                    return
            time.sleep(0.005)

    killer = threading.Thread(target=kill)
    killer.start()
    store = prepare(tmp_path, plan(recordings), workers=1)
    killer.join()
    report = read_report(store.folder)
    assert report is not None and report.reasons == {"decoder-crashed": 1}
    assert report.lost[0].video == "slow" and "SIGKILL" in report.lost[0].detail
    assert store.info.counts["train"] == (2, 2)


PREPARE = """
import sys
from pathlib import Path
from avbench.data.prepare import prepare
if __name__ == "__main__":
    source, data = map(Path, sys.argv[1:])
    options = {"size": "24", "mels": "16", "preset": "quick"}
    prepare("folder", options, source, "films", data, lambda *_: None, workers=1)
"""


def test_killed_midway_it_goes_on_without_decoding_again(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for split, count in (("train", 6), ("test", 2)):
        for label in ("cat", "dog"):
            for i in range(count):
                tone = 400.0 + 100.0 * i
                film = replace(SMALL, video_s=6.0, tone_hz=lambda second, tone=tone: tone + second)
                make(source / split / label / f"{i}.mp4", film)
    (tmp_path / "prepare.py").write_text(PREPARE)
    command = [sys.executable, str(tmp_path / "prepare.py"), str(source)]
    options = {"size": "24", "mels": "16", "preset": "quick"}
    by_name("folder", options, source, "films", tmp_path / "undisturbed", lambda *_: None, workers=2)
    running = subprocess.Popen([*command, str(tmp_path / "data")])
    journal = tmp_path / "data" / ".films.preparing" / "journal.jsonl"
    finished: list[str] = []
    while len(finished) < 3 and running.poll() is None:
        finished = [line for line in journal.read_text().split("\n") if line] if journal.is_file() else []
        time.sleep(0.002)
    running.kill()
    running.wait()
    assert 3 <= len(finished) < 16
    # What was finished is spoilt, its size and time kept: were it decoded again, it would be lost.
    done = {json.loads(line)["key"] for line in finished if line.endswith("}")}
    spoilt = spoil(source, done, tmp_path)
    assert spoilt >= 3
    subprocess.run([*command, str(tmp_path / "data")], check=True)
    infos = [json.loads((tmp_path / d / "films" / "store.json").read_text()) for d in ("undisturbed", "data")]
    assert infos[0]["fingerprint"] == infos[1]["fingerprint"]
    assert not journal.parent.exists()


def spoil(source: Path, keys: set[str], tmp_path: Path) -> int:
    """Overwrite the videos of finished tasks; how many."""
    from avbench.data.shards import Recipe, Stretch, task_for
    from avbench.data.video import ClipFormat

    options = ClipOptions(size=24, mels=16)
    recipe = Recipe(1.0, ClipFormat(24, 24, 11_000, "centre"), options.log_mel)
    count = 0
    for path in source.rglob("*.mp4"):
        if task_for(path, [Stretch("every", 0.0, None)], recipe).key in keys:
            stat = path.stat()
            path.write_bytes(bytes(stat.st_size))
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            count += 1
    return count


def test_two_preparations_of_one_name_do_not_meet(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    work = tmp_path / "data" / ".films.preparing"
    work.mkdir(parents=True)
    with (work / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(RequestError, match="another avbench is preparing 'films'"):
            prepare(tmp_path, plan(good(tmp_path)))


def test_val_is_carved_by_video_and_the_same_for_a_partial_copy() -> None:
    films = [Recording(f"v{i}", None, "train", "cat" if i % 2 else "dog", float(s)) for i in range(40) for s in (0, 1)]
    whole = carve(plan(films), "train", "val", 0.25, seed=0)
    splits = {r.video: {x.split for x in whole.recordings if x.video == r.video} for r in films}
    assert all(len(found) == 1 for found in splits.values()) and not shared_videos(whole.recordings)
    for label in ("cat", "dog"):
        assert len({r.video for r in whole.recordings if r.split == "val" and r.label == label}) == 5
    assert whole.notes == ("val: 10 of 40 train videos, drawn by video in each class (seed 0).",)
    other = carve(plan(films), "train", "val", 0.25, seed=1)
    assert [r.split for r in other.recordings] != [r.split for r in whole.recordings]
    fewer = carve(plan(films[:-2]), "train", "val", 0.25, seed=0)
    moved = [{r.video for r in p.recordings if r.split == "val"} for p in (whole, fewer)]
    assert len(moved[0] ^ moved[1]) <= 2


def test_videos_of_two_classes_or_splits_are_not_carved() -> None:
    films = [Recording("both", None, "train", label) for label in ("cat", "dog")]
    films += [Recording(f"v{i}", None, "train", "cat") for i in range(4)]
    films += [Recording("v0", None, "test", "cat"), Recording("alone", None, "train", "dog")]
    moved = {r.video for r in carve(plan(films), "train", "val", 0.9, seed=0).recordings if r.split == "val"}
    assert moved and moved <= {"v1", "v2", "v3"}


def test_classes_can_be_chosen() -> None:
    films = [Recording("a", None, "train", "cat"), Recording("b", None, "train", "dog")]
    chosen = only_classes(plan(films), "dog ; ")
    assert chosen.classes == ["dog"] and [r.video for r in chosen.recordings] == ["b"] and chosen.expected == {}
    with pytest.raises(RequestError, match="no class 'dgo'; did you mean 'dog'"):
        only_classes(plan(films), "dgo")
    assert known_labels(plan([*films, Recording("c", None, "train", "cow")])).lost[0][:2] == ("c", Loss.UNKNOWN_LABEL)


def test_files_are_found_by_stem_with_the_nearest_folder_first(tmp_path: Path) -> None:
    for name in ("a/x.mp4", "test/x.webm", ".trash/y.mp4", "b/y.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    index = MediaIndex(tmp_path)
    assert len(index) == 2 and index.find(["y"]) is None
    assert index.find(["z", "x"]) == tmp_path / "a" / "x.mp4"
    assert index.find(["x"], ["Test"]) == tmp_path / "test" / "x.webm"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"seconds": 0.0}, "0.1 to 60"),
        ({"size": 5}, "size from 6"),
        ({"mels": 8}, "too small for frames of 224"),
        ({"sample_rate_hz": 100}, "4000 to 48000"),
        ({"val_fraction": 1.0}, "below 1"),
    ],
)
def test_wrong_options_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClipOptions(**wrong)
