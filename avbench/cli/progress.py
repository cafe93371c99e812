"""Progress on stderr: bars on a terminal, plain lines elsewhere. Data never goes through here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from avbench.plan import Plan

_LINE_EVERY_S = 10.0


@dataclass
class Clock:
    """Estimates the time left from what has been timed: steps of running tasks, durations of finished ones."""

    plan: Plan
    slots: int
    _began: dict[str, float] = field(default_factory=dict)
    _running: dict[str, tuple[int, int, float]] = field(default_factory=dict)
    _spent: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._pending = {task.key: task.kind for job in self.plan.jobs for task in job.tasks}

    def note(self, event: Mapping[str, Any]) -> None:
        """Learn from a worker's event."""
        key = event.get("task", "")
        if event["event"] == "step":
            self._began.setdefault(key, event["time"] - event["step_s"])
            self._running[key] = (event["done"], event["steps"], event["time"] - self._began[key])
        elif event["event"] in ("done", "failed", "stranded"):
            kind = self._pending.pop(key, None)
            _, _, spent_s = self._running.pop(key, (0, 0, 0.0))
            if kind is not None and event["event"] == "done":
                self._spent.setdefault(kind, []).append(spent_s)

    @property
    def total(self) -> int:
        return sum(len(job.tasks) for job in self.plan.jobs)

    @property
    def settled(self) -> int:
        return self.total - len(self._pending)

    def left(self) -> str:
        """Time left as text; "" before anything was timed."""
        means = {kind: sum(values) / len(values) for kind, values in self._spent.items()}
        left_s, unknown = 0.0, False
        for key, kind in self._pending.items():
            done, steps, spent_s = self._running.get(key, (0, 0, 0.0))
            if done:
                left_s += spent_s / done * (steps - done)
            elif kind in means:
                left_s += means[kind]
            else:
                unknown = True
        if not self._running and not means:
            return ""
        return ("at least " if unknown else "about ") + _spell(left_s / self.slots)


def _spell(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Lines:
    """Plain lines for a file or a pipe: one a finished task, and one every ten seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._last = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.clock.note(event)
        kind = event["event"]
        if kind in ("done", "failed", "stranded"):
            reason = f": {event['reason']}" if kind != "done" else ""
            self._say(f"{kind}: {event['title']}{reason}")
        elif kind == "step" and time.monotonic() - self._last >= _LINE_EVERY_S:
            self._say(f"step {event['done']}/{event['steps']} of {event['title']}")

    def _say(self, text: str) -> None:
        self._last = time.monotonic()
        left = self.clock.left()
        tail = f" (time left: {left})" if left else ""
        print(f"[{self.clock.settled}/{self.clock.total}] {text}{tail}", file=sys.stderr, flush=True)


class Bars:
    """Bars on a terminal: all tasks, and the latest step of each running job."""

    def __init__(self, clock: Clock, progress: Progress) -> None:
        self.clock, self.progress = clock, progress
        self._all = progress.add_task("all tasks", total=clock.total, left="")
        self._job_of: dict[str, str] = {}
        self._bars: dict[str, TaskID] = {}

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.clock.note(event)
        kind = event["event"]
        if kind == "job":
            self._job_of.update(dict.fromkeys(event["tasks"], event["job"]))
            self._bars[event["job"]] = self.progress.add_task("starting", total=None, left="")
        elif kind == "job ended":
            self.progress.remove_task(self._bars.pop(event["job"]))
        elif kind == "step":
            bar = self._bars[self._job_of[event["task"]]]
            self.progress.update(bar, description=event["title"], completed=event["done"], total=event["steps"])
        elif kind in ("failed", "stranded"):
            self.progress.console.print(f"{kind}: {event['title']}: {event['reason']}", markup=False)
        left = self.clock.left()
        self.progress.update(self._all, completed=self.clock.settled, left=f"time left: {left}" if left else "")


def _columns() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


@contextmanager
def watching(plan: Plan, slots: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """A listener for the coordinator's events."""
    clock = Clock(plan, slots)
    if not sys.stderr.isatty():
        yield Lines(clock)
        return
    with _columns() as progress:
        yield Bars(clock, progress)


@contextmanager
def preparation() -> Iterator[Callable[[int, int, str], None]]:
    """Progress of a preparation: call it with (done, total, what)."""
    if sys.stderr.isatty():
        with _columns() as progress:
            bar = progress.add_task("preparing", total=None, left="")
            yield lambda done, total, what: progress.update(bar, description=what, completed=done, total=total or None)
        return
    told_at, told_what = 0.0, ""

    def line(done: int, total: int, what: str) -> None:
        nonlocal told_at, told_what
        now = time.monotonic()
        if what != told_what or now - told_at >= _LINE_EVERY_S:
            told_at, told_what = now, what
            print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

    yield line
