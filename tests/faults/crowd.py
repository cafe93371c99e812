"""Many at once: processes on one run directory for the length of a grid, and on one store, while others read.

    python tests/faults/crowd.py [--processes 8] [--seeds 2] [--rounds 5]

Prints JSON; what does not hold is in ``problems``, and the exit status is 3.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from media import Media, make

from avbench.data.store import open_store
from avbench.report.board import build_boards
from avbench.report.render import to_markdown
from avbench.results import RunDirectory, Unreadable, read_record
from avbench.testing.stores import PLAIN, write_store
from faults.processes import Ended, start

_GRID = ("run", "--method", "random", "--dataset", PLAIN, "--ipc", "1", "--networks", "1", "--preset", "quick")
_GRID += ("--set", "convnet.width=4", "--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1")
_NEEDED = ("avbench.cli.running", "avbench.cli.progress", "avbench.executors.local", "avbench.tuning")
_NEEDED += ("avbench_methods.random", "avbench.data.making", "avbench_datasets.video_folder")
#: Between two looks of a reader.
_PAUSE_S = 0.05


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--processes", type=int, default=8, help="at once, on one run directory")
    parser.add_argument("--seeds", type=int, default=2, help="the size of their grid")
    parser.add_argument("--rounds", type=int, default=5, help="how often three write one store at once")
    asked = parser.parse_args(arguments)
    for name in _NEEDED:
        importlib.import_module(name)
    torch.set_num_threads(1)
    problems: list[str] = []
    with tempfile.TemporaryDirectory(prefix="crowd-") as folder:
        root = Path(folder)
        found = {
            "grid": one_grid(root / "grid", asked.processes, asked.seeds, problems),
            "preparations": one_preparation(root / "films", problems),
            "stores": one_store(root / "store", asked.rounds, problems),
        }
    print(json.dumps({**found, "problems": problems}, indent=1))
    return 3 if problems else 0


def one_grid(root: Path, processes: int, seeds: int, problems: list[str]) -> dict[str, Any]:
    """All of them run the same grid in one folder, while another reads its board: no task twice, one board."""
    write_store(root / "data", PLAIN)
    out = root / "runs"
    command = (*_GRID, "--seeds", str(seeds), "--jobs", "1", "--data", str(root / "data"), "--out", str(out))
    reading = _Reader(lambda: _read_board(out))
    running = [start(command, {"FAULTS_ROOTS": str(out)}) for _ in range(processes)]
    ended = [each.wait(600) for each in running]
    reads = reading.stop(problems)
    _sound(ended, (0,), problems)
    boards = {each.stdout for each in ended}
    done = [event["task"] for event in _events(out) if event["event"] == "done"]
    _hold(len(boards) == 1, f"{len(boards)} different boards", problems)
    _hold(len(done) == len(set(done)) == 2 * seeds, f"{len(done)} tasks done, {len(set(done))} of them once", problems)
    left = [path.name for path in out.glob("claims/*")]
    _hold(not left, f"claims left: {left}", problems)
    return {"processes": processes, "tasks": len(done), "reads": reads}


def one_preparation(root: Path, problems: list[str]) -> dict[str, Any]:
    """Two prepare one dataset at once: one does it, the other is told; the store is whole."""
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            make(root / "source" / split / label / f"{label}.mp4", Media(width=64, height=48, fps=10, video_s=2.0))
    data = root / "data"
    data.mkdir()
    command = ("prepare", "folder", "--source", str(root / "source"), "--data", str(data), "--name", "films")
    command += ("--size", "24", "--mels", "16", "--val-fraction", "0", "--workers", "1")
    ended = [each.wait() for each in [start(command, {"FAULTS_ROOTS": str(data)}) for _ in range(2)]]
    _sound(ended, (0, 2), problems)
    refused = [each for each in ended if each.status == 2]
    told = all("another avbench is preparing 'films'" in each.stderr for each in refused)
    _hold(len(refused) < 2 and told, f"{[each.stderr[-300:] for each in ended]}", problems)
    store = open_store(data, "films")
    _hold(store.recompute_fingerprint() == store.info.fingerprint, "a store that is not whole", problems)
    return {"processes": 2, "refused": len(refused)}


def one_store(root: Path, rounds: int, problems: list[str]) -> dict[str, Any]:
    """Three write one store at once, time and again, while another opens it: always one of theirs, whole."""
    fingerprints = {write_store(root / str(number), PLAIN, secret=number).info.fingerprint for number in range(3)}
    data = root / "data"
    write_store(data, PLAIN)
    reading = _Reader(lambda: _read_store(data, fingerprints))
    for _ in range(rounds):
        for child in [_fork(lambda number=number: write_store(data, PLAIN, secret=number)) for number in range(3)]:
            _, status = os.waitpid(child, 0)
            _hold(status == 0, f"a writer ended with {os.waitstatus_to_exitcode(status)}", problems)
    reads = reading.stop(problems)
    left = [path.name for path in data.glob(".*")]
    _hold(not left, f"left lying about: {left}", problems)
    return {"writers": 3, "rounds": rounds, "reads": reads}


class _Reader:
    """A process that looks again and again; what it objects to ends it."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._told, telling = os.pipe()
        self._stop, self._stopping = os.pipe()
        self._process = _fork(lambda: self._look(look, telling))
        os.close(telling)

    def _look(self, look: Callable[[], None], telling: int) -> None:
        os.set_blocking(self._stop, False)
        reads = 0
        while True:
            try:
                look()
            except Exception as error:
                os.write(telling, f"a reader met {type(error).__name__}: {error}".encode())
                return
            reads += 1
            try:
                os.read(self._stop, 1)
                break
            except BlockingIOError:
                time.sleep(_PAUSE_S)
        os.write(telling, str(reads).encode())

    def stop(self, problems: list[str]) -> int:
        """End it; how often it looked."""
        os.write(self._stopping, b"x")
        os.waitpid(self._process, 0)
        told = os.read(self._told, 1 << 16).decode()
        _hold(told.isdigit(), told, problems)
        return int(told) if told.isdigit() else 0


def _fork(act: Callable[[], object]) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)


def _read_board(out: Path) -> None:
    for path in out.glob("*/*/record.json"):
        found = read_record(path)
        assert not isinstance(found, Unreadable), found
    to_markdown(build_boards([RunDirectory(out)]))


def _read_store(data: Path, fingerprints: set[str]) -> None:
    assert open_store(data, PLAIN).info.fingerprint in fingerprints


def _events(out: Path) -> list[dict[str, Any]]:
    files = out.glob("jobs/*/events.jsonl")
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def _sound(ended: list[Ended], statuses: tuple[int, ...], problems: list[str]) -> None:
    for each in ended:
        _hold(each.status in statuses and "Traceback" not in each.stderr, f"{each.status}: {each.stderr}", problems)


def _hold(holds: bool, why: str, problems: list[str]) -> None:
    if not holds:
        problems.append(why)


if __name__ == "__main__":
    sys.exit(main())
