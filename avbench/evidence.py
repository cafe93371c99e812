"""What lies in a run directory, read again and again while runs write there: nothing is locked, changed or trusted.

Files that are half-written, damaged or just removed are passed over or named; what did not change is not read twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avbench.claims import ProcessId, Silence
from avbench.events import ENDS, fresh_lines
from avbench.jobs import Task, task_from_json
from avbench.results import RunDirectory, Unreadable, read_record
from avbench.runs import Announcement, read_announcement

KINDS = ("prerequisite", "shard", "distil", "evaluate")


@dataclass
class Heard:
    """What a worker told of one task: its first and last step here, where it is, and how it ended."""

    steps: list[Mapping[str, Any]] = field(default_factory=list)
    phase: str = ""
    end: str = ""
    reason: str = ""
    last_s: float = 0.0

    def note(self, event: Mapping[str, Any]) -> None:
        """Learn from one event.

        Raises:
            KeyError, TypeError, ValueError: it is none of a worker's.
        """
        kind, self.last_s = event["event"], float(event["time"])
        if kind == "step":
            self.phase = f"step {int(event['done'])} of {int(event['steps'])}"
            float(event["step_s"])
            self.steps = [self.steps[0] if self.steps else event, event]
        elif kind == "phase":
            self.phase = str(event["phase"])
        elif kind in ENDS:
            self.end, self.reason = kind, str(event.get("reason", ""))


@dataclass
class JobFolder:
    """A job of an attempt: its tasks in their order, and what its worker told of each, by key."""

    path: Path
    tasks: Mapping[str, Task]
    heard: dict[str, Heard] = field(default_factory=dict)
    read_bytes: int = 0

    def listen(self) -> None:
        """Read what the worker has written since the last time, up to the last whole line."""
        try:
            lines, self.read_bytes = fresh_lines(self.path / "events.jsonl", self.read_bytes)
        except OSError:
            return
        for line in lines:
            try:
                event = json.loads(line)
                if event["task"] in self.tasks:
                    self.heard.setdefault(event["task"], Heard()).note(event)
            except (ValueError, TypeError, KeyError, RecursionError):
                continue


@dataclass(frozen=True)
class Claim:
    """Who has a task, and in which job's folder; ``lives`` is ``None`` where that can't be told from here."""

    process: ProcessId | None
    job: str
    lives: bool | None


class Evidence:
    """Reads a run directory; :meth:`look` again for what is new."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.unreadable: list[Unreadable] = []
        self.jobs: dict[str, JobFolder] = {}
        self.claims: dict[str, Claim] = {}
        self.announcements: list[Announcement] = []
        self.damaged: list[Path] = []
        self._read: dict[Path, tuple[tuple[int, int], dict[str, Any] | Unreadable]] = {}
        self.silence = Silence()

    def look(self) -> None:
        """Read what has changed. Claims first: a task that is settled meanwhile then has its record."""
        self._read_claims()
        self._read_jobs()
        self._read_records()

    def _read_claims(self) -> None:
        latest: dict[str, tuple[int, Path]] = {}
        for path in _entries(self.root / "claims"):
            key, _, generation = path.name.partition(".")
            if key and generation.isdigit():
                latest[key] = max(latest.get(key, (0, path)), (int(generation), path))
        self.claims = {key: found for key, (_, path) in latest.items() if (found := self._claim(path)) is not None}

    def _claim(self, path: Path) -> Claim | None:
        try:
            stamp = path.stat().st_mtime_ns
            values = json.loads(path.read_text(encoding="utf-8"))
            process, job = ProcessId(**values["run"]), Path(values["job"]).name
        except OSError:
            return None  # just given up
        except (ValueError, TypeError, KeyError, RecursionError):
            process, job = None, ""
        if process is not None and process.here:
            return Claim(process, job, process.alive)
        return Claim(process, job, False if self.silence.lasts(path, stamp) else None)

    def _read_jobs(self) -> None:
        found, announcements, self.damaged = dict[str, JobFolder](), list[Announcement](), []
        for path in _entries(self.root / "jobs"):
            if path.name.startswith("run-") and path.suffix == ".json":
                announcement = read_announcement(path)
                announcements += [announcement] if announcement else []
                self.damaged += [] if announcement else [path]
            elif (path / "spec.json").is_file():
                job = self.jobs.get(path.name) or _job(path)
                if job is None:
                    self.damaged.append(path / "spec.json")
                else:
                    job.listen()
                    found[path.name] = job
        self.jobs = found
        self.announcements = sorted(announcements, key=lambda each: each.started_s)

    def _read_records(self) -> None:
        found: dict[tuple[str, str], dict[str, Any]] = {}
        self.unreadable = []
        for kind in KINDS:
            for folder in _entries(self.root / kind):
                record = self._record(kind, folder)
                if isinstance(record, Unreadable):
                    self.unreadable.append(record)
                elif record is not None:
                    found[kind, folder.name] = record
        self.records = found

    def _record(self, kind: str, folder: Path) -> dict[str, Any] | Unreadable | None:
        """A record; ``None`` where there is none, or its artefact has gone."""
        path = folder / "record.json"
        try:
            state = path.stat()
        except OSError:
            return None
        stamp = (state.st_mtime_ns, state.st_size)
        if path not in self._read or self._read[path][0] != stamp:
            self._read[path] = (stamp, read_record(path))
        record = self._read[path][1]
        done = isinstance(record, dict) and record["status"] == "done"
        # Asked each time: an artefact may go while its record stays as it is.
        return None if done and RunDirectory(self.root).lacks_artefact(kind, folder.name) else record


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _job(path: Path) -> JobFolder | None:
    """The job of a folder; ``None`` while its specification is not whole."""
    try:
        values = json.loads((path / "spec.json").read_text(encoding="utf-8"))
        tasks = [task_from_json(each) for each in values["tasks"]]
        return JobFolder(path, {task.key: task for task in tasks})
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
