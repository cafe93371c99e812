"""What a run says of itself: which tasks it means to do, who it is, and that it has ended.

``jobs/run-<attempt>.json`` is written when a run begins and again when it ends in order. One that was killed leaves the
first version. Nothing but ``avbench status`` reads it: a run never depends on another one's plan.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from avbench.claims import ProcessId
from avbench.jobs import DistilTask, EvaluateTask, Job, ShardTask, Task
from avbench.results import write_atomically


@dataclass(frozen=True)
class PlannedTask:
    """A task by its key; ``needs`` are the keys of the tasks that must be done before it."""

    key: str
    kind: str
    title: str
    needs: tuple[str, ...] = ()

    @classmethod
    def of(cls, task: Task) -> PlannedTask:
        needs: Iterable[str] = ()
        if isinstance(task, DistilTask | ShardTask):
            needs = task.cell.prerequisites.values()
        if isinstance(task, DistilTask) and task.shards:
            needs = [part.key for part in task.parts]
        if isinstance(task, EvaluateTask):
            needs = (task.cell.key,)
        return cls(task.key, task.kind, task.title, tuple(needs))

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> PlannedTask:
        return cls(str(values["key"]), str(values["kind"]), str(values["title"]), tuple(map(str, values["needs"])))


@dataclass(frozen=True)
class PlannedJob:
    """Tasks of one kind that one worker is to do."""

    id: str
    tasks: tuple[PlannedTask, ...]

    @property
    def kind(self) -> str:
        return self.tasks[0].kind


@dataclass(frozen=True)
class Announcement:
    """A run, as it describes itself.

    Attributes:
        attempt: ends the names of the folders of its jobs.
        slots: jobs at once.
        started_s, ended_s: seconds since 1970 by the clock of its machine; ``ended_s`` is ``None`` until it ends.
        interrupted: whether it was told to end before its tasks were done.
        jobs: what was to be done when it began.
        stranded: tasks that it leaves out because something they need failed before.
    """

    attempt: str
    process: ProcessId
    argv: tuple[str, ...]
    slots: int
    started_s: float
    jobs: tuple[PlannedJob, ...]
    stranded: tuple[PlannedTask, ...] = ()
    ended_s: float | None = None
    interrupted: bool = False

    @property
    def tasks(self) -> tuple[PlannedTask, ...]:
        return tuple(task for job in self.jobs for task in job.tasks)

    def write(self, root: Path) -> None:
        """Write it into a run directory, atomically.

        Raises:
            OSError: it can't be written.
        """
        write_atomically(root / "jobs" / f"run-{self.attempt}.json", json.dumps(asdict(self)))

    def end(self, root: Path, ended_s: float, interrupted: bool) -> None:
        """Write that the run has ended.

        Raises:
            OSError: it can't be written.
        """
        replace(self, ended_s=ended_s, interrupted=interrupted).write(root)


def planned_jobs(jobs: Iterable[Job]) -> tuple[PlannedJob, ...]:
    """Jobs of a plan, as they are announced."""
    return tuple(PlannedJob(job.id, tuple(map(PlannedTask.of, job.tasks))) for job in jobs)


def read_announcement(path: Path) -> Announcement | None:
    """What a run wrote of itself; ``None`` where it is damaged or of another version of avbench."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Announcement(
            attempt=str(values["attempt"]),
            process=ProcessId(**values["process"]),
            argv=tuple(map(str, values["argv"])),
            slots=max(1, int(values["slots"])),
            started_s=float(values["started_s"]),
            jobs=tuple(
                PlannedJob(str(job["id"]), tuple(map(PlannedTask.read, job["tasks"])))
                for job in values["jobs"]
                if job["tasks"]
            ),
            stranded=tuple(map(PlannedTask.read, values["stranded"])),
            ended_s=None if values["ended_s"] is None else float(values["ended_s"]),
            interrupted=bool(values["interrupted"]),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
