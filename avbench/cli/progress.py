"""Progress on stderr: bars on a terminal, plain lines elsewhere. Data never goes through here."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from avbench.cli.clock import Clock
from avbench.events import ENDS
from avbench.plan import Plan

_LINE_EVERY_S = 10.0


class Lines:
    """Plain lines for a file or a pipe: one a finished task, and one every ten seconds."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._last = time.monotonic()

    def __call__(self, event: Mapping[str, Any]) -> None:
        self.clock.note(event)
        kind = event["event"]
        if kind in ENDS:
            reason = f": {event['reason']}" if kind != "done" else ""
            self._say(f"{kind}: {event['title']}{reason}")
        elif kind == "held":
            self._say(_held(event))
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
        elif kind == "held":
            self.progress.console.print(_held(event), markup=False)
        left = self.clock.left()
        self.progress.update(self._all, completed=self.clock.settled, left=f"time left: {left}" if left else "")


def _held(event: Mapping[str, Any]) -> str:
    return f"waiting: another run does {event['title']} ({event['by']})"


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
    clock = Clock(plan.jobs, slots)
    if not sys.stderr.isatty():
        yield Lines(clock)
        return
    with _columns() as progress:
        yield Bars(clock, progress)


class _Rate:
    """How fast a preparation goes, from its first report on: what an earlier one finished was not timed here."""

    def __init__(self) -> None:
        self._what, self._from, self._since_s = "", 0, 0.0

    def __call__(self, done: int, total: int, what: str) -> str:
        """Rate and time left, once there is something to tell."""
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._from, self._since_s = what, done, now_s
        made, took_s = done - self._from, now_s - self._since_s
        if not made or took_s <= 0.0:
            return ""
        rate = made / took_s
        return f"{rate:.1f} a second, time left: {timedelta(seconds=round((total - done) / rate))}"


@contextmanager
def preparation() -> Iterator[Callable[[int, int, str], None]]:
    """Progress of a preparation: call it with (done, total, what)."""
    rate = _Rate()
    if sys.stderr.isatty():
        with _columns() as progress:
            bar = progress.add_task("preparing", total=None, left="")
            yield lambda done, total, what: progress.update(
                bar, description=what, completed=done, total=total or None, left=rate(done, total, what)
            )
        return
    told_at, told_what = 0.0, ""

    def line(done: int, total: int, what: str) -> None:
        nonlocal told_at, told_what
        now = time.monotonic()
        told = rate(done, total, what)
        if what != told_what or now - told_at >= _LINE_EVERY_S or done == total:
            told_at, told_what = now, what
            print(f"{what}: {done} of {total}{f' ({told})' if told else ''}", file=sys.stderr, flush=True)

    yield line
