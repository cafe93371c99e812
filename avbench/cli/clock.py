"""How long the rest of a run takes, from the events of its workers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avbench.events import ENDS
from avbench.jobs import Job, in_lock_step
from avbench.runs import PlannedJob


@dataclass
class _Pace:
    """How fast a task steps, from its first event on: steps made before a resume were not timed here."""

    first_done: int
    first_time: float
    step_s: float
    done: int
    steps: int
    time: float

    @property
    def rate_s(self) -> float:
        """Seconds a step, with all that happens between steps; the step's own time where there was but one event."""
        made = self.done - self.first_done
        return (self.time - self.first_time) / made if made else self.step_s

    @property
    def left_s(self) -> float:
        return self.rate_s * (self.steps - self.done)


@dataclass
class Clock:
    """Estimates the time left from what has been timed: steps of running tasks, durations of finished ones."""

    jobs: Sequence[Job | PlannedJob]
    slots: int
    _pending: dict[str, str] = field(default_factory=dict)
    _paces: dict[str, _Pace] = field(default_factory=dict)
    _stepped: dict[str, list[float]] = field(default_factory=dict)
    _stepless: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._pending = {task.key: task.kind for job in self.jobs for task in job.tasks}
        self.total = len(self._pending)

    def note(self, event: Mapping[str, Any]) -> None:
        """Learn from a worker's event."""
        key = event.get("task", "")
        if event["event"] == "step":
            done, now = event["done"], event["time"]
            pace = self._paces.setdefault(key, _Pace(done, now, event["step_s"], done, event["steps"], now))
            pace.done, pace.steps, pace.time = done, event["steps"], now
        elif event["event"] in ENDS:
            kind, pace_or_none = self._pending.pop(key, None), self._paces.pop(key, None)
            if kind is None or event["event"] != "done":
                return
            if pace_or_none is None:  # cached, or a mere selection: says nothing of those that make steps
                self._stepless.add(kind)
            else:
                self._stepped.setdefault(kind, []).append(pace_or_none.rate_s * pace_or_none.steps)

    @property
    def settled(self) -> int:
        return self.total - len(self._pending)

    def left(self) -> str:
        """Time left as text; "" before anything was timed."""
        means = dict.fromkeys(self._stepless, 0.0)
        means |= {kind: sum(values) / len(values) for kind, values in self._stepped.items()}
        if not self._paces and not means:
            return ""
        jobs_s = [self._job_left_s(job, means) for job in self.jobs]
        unknown = any(kind not in means and key not in self._paces for key, kind in self._pending.items())
        left_s = max([sum(jobs_s) / self.slots, *jobs_s])
        return ("at least " if unknown else "about ") + _spell(left_s)

    def _job_left_s(self, job: Job | PlannedJob, means: Mapping[str, float]) -> float:
        """Cells of one job distil in lock-step and end together; other tasks of a job are done in turn."""
        pending = [task.key for task in job.tasks if task.key in self._pending]
        known = [self._paces[key].left_s if key in self._paces else means.get(job.kind, 0.0) for key in pending]
        return max(known, default=0.0) if in_lock_step(job.kind) else sum(known)


def _spell(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
