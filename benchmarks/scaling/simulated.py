"""An executor that simulates workers: each job takes a given time, then leaves on disk what a worker leaves.

The coordinator, its plan, claims, specifications and records are the real ones. What is written stands for the work
of other processes: :class:`Simulated` does it in between and keeps its time apart, :class:`Beside` does it in threads.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avbench.claims import announce_worker
from avbench.data.store import StoreInfo
from avbench.desk import Spec, describe_task
from avbench.executors.base import Ended, Executor, Resources
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.jobs import EvaluateTask, Task
from avbench.results import RunDirectory

#: Seconds that a job takes, by its kind.
Duration = Callable[[str], float]


def request(seeds: int) -> Request:
    """dm at IPC 1 on the shapes of a small dataset: each seed makes a job that distils and one that evaluates."""
    info = StoreInfo(
        name="simulated",
        dataset="simulated",
        dataset_version=1,
        classes=tuple(f"class{number}" for number in range(10)),
        counts={"train": (50,) * 10, "val": (5,) * 10, "test": (20,) * 10},
        audio_shape=(1, 32, 32),
        frame_shape=(3, 32, 32),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.5,) * 3,
        frame_std=(0.25,) * 3,
        visual_depth=3,
        audio_depth=3,
        grid=(4, 4),
        preset="quick",
        sample_rate_hz=8000,
        audio_transform={},
        licence="CC0-1.0",
        citation="",
    )
    return Request(parse_variants("dm", "--method"), (info,), (1,), seeds=seeds, networks=1)


class Simulated(Executor):
    """Jobs that are over at the next look; ``own_s`` is what their simulation itself took."""

    def __init__(self, slots: int) -> None:
        super().__init__(Resources(slots, "cpu", 1))
        self.own_s = 0.0
        self._running: dict[str, Path] = {}

    def has_room(self) -> bool:
        return len(self._running) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        self._running[job_id] = folder

    def ended(self) -> list[Ended]:
        began = time.monotonic()
        for folder in self._running.values():
            _leave(folder)
        found = [Ended(job_id, 0) for job_id in self._running]
        self._running.clear()
        self.own_s += time.monotonic() - began
        return found

    def stop(self) -> None:
        self._running.clear()


class Beside(Executor):
    """Jobs that take what ``duration`` says, each in a thread of its own; ``worked_s`` is the sum of that."""

    def __init__(self, slots: int, duration: Duration) -> None:
        super().__init__(Resources(slots, "cpu", 1))
        self.duration = duration
        self.worked_s = 0.0
        self._threads: dict[str, threading.Thread] = {}

    def has_room(self) -> bool:
        return len(self._threads) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        takes_s = self.duration(job_id.partition("-")[0])
        self.worked_s += takes_s
        self._threads[job_id] = threading.Thread(target=_work, args=(folder, takes_s))
        self._threads[job_id].start()

    def ended(self) -> list[Ended]:
        found = [job_id for job_id, thread in self._threads.items() if not thread.is_alive()]
        for job_id in found:
            del self._threads[job_id]
        return [Ended(job_id, 0) for job_id in found]

    def stop(self) -> None:
        for thread in self._threads.values():
            thread.join()


def _work(folder: Path, takes_s: float) -> None:
    time.sleep(takes_s)
    _leave(folder)


def _leave(folder: Path) -> None:
    """What a worker leaves: word of itself, artefacts, a record for each task, and events that tell of them."""
    announce_worker(folder)
    spec = Spec.read(folder)
    directory = RunDirectory(spec.out)
    with (folder / "events.jsonl").open("a", encoding="utf-8") as events:
        for task in spec.tasks:
            _record(directory, task)
            about = {"time": time.time(), "task": task.key}
            steps = {"event": "step", "done": 1, "steps": 1, "step_s": 0.0}
            for event in ({"event": "task", "kind": task.kind, "title": task.title}, steps, {"event": "done"}):
                events.write(json.dumps({**about, **event}) + "\n")


def _record(directory: RunDirectory, task: Task) -> None:
    result: dict[str, Any] = {"networks": [{"av": {"accuracy": 0.5}}]}
    key = task.key
    if isinstance(task, EvaluateTask):
        set_hash = directory.set_hash(task.cell.key)
        assert set_hash is not None, "its set was to be distilled before"
        key = task.record_key(set_hash)
    else:
        folder = directory.folder(task.kind, key)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("distilled.json", "distilled.safetensors"):
            (folder / name).write_bytes(b"{}")
        result = {"content_hash": f"hash of {key}", "steps": 1}
    about = {"environment": _environment(), "duration_s": 0.0}
    directory.write_record(task.kind, key, {"status": "done", **describe_task(task), **about, "result": result})


@functools.cache
def _environment() -> dict[str, Any]:
    """Once: a worker asks once in its life, and there are thousands of lives here in one process."""
    from avbench.environment import environment

    return environment()
