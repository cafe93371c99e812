"""Stores that are absent, damaged or replaced: one line, exit status 2 before anything starts, and nothing lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
from conftest import Small
from packages import avbench, install
from test_errors import in_process

QUICK = (
    *("--method", "random", "--ipc", "1", "--seeds", "1", "--networks", "1", "--set", "convnet.width=4"),
    *("--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1"),
)
#: Puts other stores where the plan found its own, as a colleague might who prepares one anew.
SWAPPING = '''
    """Replaces the stores that a run has planned with."""
    import os
    from avbench.hooks import hookimpl

    @hookimpl
    def run_started(run):
        os.rename("data", "planned")
        os.rename("replaced", "data")
'''


def command(folder: Path, dataset: str = "small3") -> list[str]:
    return ["run", *QUICK, "--dataset", dataset, "--data", str(folder / "data"), "--out", str(folder / "runs")]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


@pytest.fixture(scope="module")
def finished(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/small1, data/small3 and the results of small3 in runs/."""
    folder = tmp_path_factory.mktemp("finished")
    for channels in (1, 3):
        shutil.copytree(small.data / f"small{channels}", folder / "data" / f"small{channels}")
    done = avbench(*command(folder))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it to damage; whatever was refused, the results made before must still be there."""
    folder = shutil.copytree(finished, tmp_path / "place")
    yield folder
    assert contents(finished / "runs").items() <= contents(folder / "runs").items()


def remove(name: str) -> Callable[[Path], None]:
    return lambda store: (store / name).unlink()


def cut(name: str, keep: int) -> Callable[[Path], None]:
    return lambda store: (store / name).write_bytes((store / name).read_bytes()[:keep])


def save(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda store: np.save(store / name, array)


def unclose_header(store: Path) -> None:
    path = store / "test/audio.npy"
    path.write_bytes(path.read_bytes().replace(b"}", b"(", 1))


def describe(text: str) -> Callable[[Path], object]:
    return lambda store: (store / "store.json").write_text(text, encoding="utf-8")


def say(**changes: object) -> Callable[[Path], None]:
    return lambda store: edit(store / "store.json", **changes)


DAMAGES = {
    "no store": (shutil.rmtree, "did you mean 'small1'"),
    "no store.json": (remove("store.json"), "holds no store.json: prepare 'small3' again"),
    "no array": (remove("train/frames.npy"), "frames.npy can't be read"),
    "no samples": (remove("test/samples.csv"), "samples.csv is missing"),
    "sound cut": (cut("train/audio.npy", -1), "audio.npy can't be read"),
    "sound cut in its header": (cut("val/audio.npy", 40), "audio.npy can't be read"),
    "header damaged": (unclose_header, "audio.npy can't be read"),
    "pictures empty": (cut("test/frames.npy", 0), "frames.npy can't be read"),
    "pictures as floats": (save("train/frames.npy", np.zeros((36, 3, 16, 16))), "holds float64 (36, 3, 16, 16)"),
    "a picture short": (save("train/frames.npy", np.zeros((35, 3, 16, 16), "u1")), "promises uint8 (36, 3, 16, 16)"),
    "pickled": (save("test/audio.npy", np.array([{}])), "audio.npy can't be read"),
    "garbage": (describe("\0garbage"), "is not a store description"),
    "another JSON": (describe('[{"format": 1}]'), "is not a store description"),
    "brackets": (describe("[" * 100_000), "is not a store description"),
    "fields missing": (describe('{"format": 1}'), "is not a store description"),
    "a field too many": (say(colour="red"), "'colour'"),
    "another format": (say(format=2), "has store format 2, this avbench reads format 1"),
    "counts of letters": (say(counts={"train": "many"}), "counts = {'train': "),
    "counts of two classes": (say(counts={"train": [9, 12]}), "counts of train are [9, 12] for 4 classes"),
    "no training split": (say(counts={"test": [1, 1, 1, 1]}), "splits test"),
    "a split outside": (say(counts={"train": [1] * 4, "../x": [1] * 4}), "splits train, ../x"),
    "a flat shape": (say(audio_shape=[1, 16]), "audio_shape = (1, 16)"),
    "an empty shape": (say(frame_shape=[3, 0, 16]), "below 1"),
    "a depth in words": (say(visual_depth="two"), "visual_depth = 'two'"),
    "channels without mean": (say(frame_mean=[0.5]), "do not have 3 channels"),
    "nothing to divide by": (say(audio_std=0.0), "is not positive"),
    "not a number": (say(audio_mean=float("nan")), "audio_mean = nan"),
    "no fingerprint": (say(fingerprint=""), "fingerprint = ''"),
    "renamed": (say(name="small4"), "describes 'small4'"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_store_is_one_line_and_starts_nothing(
    place: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    act, words = DAMAGES[damage]
    act(place / "data/small3")
    before = contents(place)
    assert in_process(*command(place)) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("avbench: ") and words in line and len(line) < 500
    assert printed.out == ""
    assert contents(place) == before


def test_a_process_of_its_own_says_the_same_and_another_store_is_not_held_back(place: Path) -> None:
    cut("train/audio.npy", -1)(place / "data/small3")
    done = avbench(*command(place, "small1,small3"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("avbench: ") and done.stderr.count("\n") == 1
    assert in_process(*command(place, "small1"), "--dry-run") == 0


def plan(place: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, int]:
    assert in_process(*command(place), "--dry-run", "--json") == 0
    counts: dict[str, int] = json.loads(capsys.readouterr().out)["counts"]
    return counts


def test_another_fingerprint_plans_new_cells_and_leaves_the_old_results(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plan(place, capsys) == {"cached": 2, "to do": 0, "failed": 0, "stranded": 0}
    before = contents(place / "runs")
    edit(place / "data/small3/store.json", fingerprint="0" * 64)
    assert plan(place, capsys) == {"cached": 0, "to do": 2, "failed": 0, "stranded": 0}
    assert contents(place / "runs") == before


@pytest.fixture
def replaced(finished: Path, tmp_path: Path) -> tuple[Path, CompletedProcess[str]]:
    """A run whose stores are replaced once it has planned: small1 by another, small3 by a truncated one."""
    place = shutil.copytree(finished / "data", tmp_path / "place/data").parent
    shutil.copytree(place / "data", place / "replaced")
    edit(place / "replaced/small1/store.json", fingerprint="0" * 64)
    cut("train/audio.npy", -1)(place / "replaced/small3")
    site = install(tmp_path, "swapping", {"avbench.hooks": {"swap": "hook_swap"}}, {"hook_swap": SWAPPING})
    return place, avbench(*command(place, "small1,small3"), "--hook", "swap", site=site, cwd=place)


def test_a_store_replaced_after_planning_is_refused_by_the_worker_with_its_reason(
    replaced: tuple[Path, CompletedProcess[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    place, done = replaced
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    paths = (place / "runs/distil").glob("*/record.json")
    records = {r["dataset"]["name"]: r for r in (json.loads(path.read_text("utf-8")) for path in paths)}
    assert {name: r["status"] for name, r in records.items()} == {"small1": "failed", "small3": "failed"}
    reasons = {name: r["error"]["reason"] for name, r in records.items()}
    assert "the plan was made with" in reasons["small1"] and "run the command again" in reasons["small1"]
    assert "audio.npy can't be read" in reasons["small3"]
    assert all(f"failed: random {name} ipc 1 seed 0: {reason}" in done.stderr for name, reason in reasons.items())
    assert "2 tasks could not run because of these failures" in done.stderr
    # Run again, as the message says, small1 is planned with what lies there now.
    assert in_process(*command(place, "small1"), "--dry-run") == 0
    assert "2 to do" in capsys.readouterr().out
