"""A status in words and as JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from shlex import join
from typing import Any

from avbench.status import STATES, RunStatus, Status, TaskStatus

_LISTED = 20


def to_text(status: Status, directory: Path) -> str:
    """The status as lines to read; the longest lists are cut, JSON holds them whole."""
    if not status.tasks and not status.runs:
        nothing = f"nothing has been run in {directory} yet: avbench run --out {directory} begins."
        return "\n".join([nothing, *(f"note: {note}" for note in status.notes)])
    parts = [_runs(status), _table(status), _running(status), _failures(status), _stranded(status), _memory(status)]
    parts.append("\n".join(f"note: {note}" for note in status.notes))
    return "\n\n".join(part for part in parts if part)


def to_json(status: Status, directory: Path) -> str:
    """The whole status as JSON; durations in seconds, memory in MiB."""
    plain = {
        "directory": str(directory.resolve()),
        "going": status.going,
        "counts": status.counts(),
        "runs": [_plain_run(run) for run in status.runs],
        "running": [
            {**_plain_task(task), "phase": task.detail, "holder": task.holder} for task in status.of("running")
        ],
        "waiting": [_plain_task(task) for task in status.of("waiting")],
        "unfinished": [_plain_task(task) for task in status.of("unfinished")],
        "failed": [
            {**_plain_task(task), "error": dict(task.error or {}), "record": str(task.record)}
            for task in status.of("failed")
        ],
        "stranded": [_plain_task(task) for task in status.of("stranded")],
        "peak_memory_mib": dict(status.peak_memory_mib),
        "notes": list(status.notes),
    }
    return json.dumps(plain, indent=2, ensure_ascii=False)


def time_left(run: RunStatus) -> str:
    """An estimate for a run that goes on, as the run itself makes it; "" before anything was timed."""
    from avbench.cli.clock import Clock

    clock = Clock(run.announcement.jobs, run.announcement.slots)
    for event in run.events:
        clock.note(event)
    return clock.left()


def _plain_task(task: TaskStatus) -> dict[str, str]:
    return {"kind": task.kind, "task": task.title, "key": task.key}


def _plain_run(run: RunStatus) -> dict[str, Any]:
    about = run.announcement
    return {
        "run": about.attempt,
        "state": run.state,
        "host": about.process.host,
        "process": about.process.process,
        "argv": list(about.argv),
        "slots": about.slots,
        "started": _moment(about.started_s),
        "ended": None if about.ended_s is None else _moment(about.ended_s),
        "planned": run.planned,
        "settled": run.settled,
        "took_s": round(run.took_s, 3),
        "rate_per_h": run.rate_per_h,
        "time_left": _left(run) or None,
    }


def _left(run: RunStatus) -> str:
    goes_on = run.state in ("going", "can't be checked") and run.settled < run.planned
    return time_left(run) if goes_on else ""


def _runs(status: Status) -> str:
    """Those that go on, and the last one."""
    goes_on = ("going", "can't be checked")
    shown = [run for run in status.runs if run.state in goes_on] or list(status.runs[-1:])
    lines = [line for run in shown for line in _run(run)]
    if len(shown) < len(status.runs):
        lines.append(f"{_count(len(status.runs) - len(shown), 'other run')} here ended before.")
    if not status.runs:
        who = "somebody is at work" if status.going else "nobody is at work"
        lines.append(f"No run here has left word of its plan: {who}, and what was not begun is not known.")
    return "\n".join(lines)


def _run(run: RunStatus) -> Iterator[str]:
    about = run.announcement
    ended = f" at {_moment(about.ended_s)}" if about.ended_s is not None else ""
    state = {"can't be checked": "can't be checked from here", "silent": "silent for two minutes, taken for dead"}
    yield f"{join(about.argv)}"
    yield (
        f"  {state.get(run.state, run.state)}{ended}; process {about.process.process} on {about.process.host}, "
        f"started {_moment(about.started_s)}, {_count(about.slots, 'job')} at once"
    )
    rate = f", {run.rate_per_h:.1f} an hour" if run.rate_per_h is not None else ""
    left = _left(run)
    yield (
        f"  {run.settled} of {_count(run.planned, 'planned task')} settled in {timedelta(seconds=round(run.took_s))}"
        f"{rate}{f', time left: {left}' if left else ''}"
    )


def _table(status: Status) -> str:
    from tabulate import tabulate

    counts = status.counts()
    rows: list[list[Any]] = [
        [kind, *(numbers[state] for state in STATES)] for kind, numbers in counts.items() if any(numbers.values())
    ]
    rows.append(["all", *(sum(numbers[state] for numbers in counts.values()) for state in STATES)])
    return tabulate(rows, headers=["tasks", *STATES], tablefmt="simple")


def _running(status: Status) -> str:
    found = [f"  {task.title}: {task.detail} ({task.holder})" for task in status.of("running")]
    return _listing("Running:", found)


def _failures(status: Status) -> str:
    found = []
    for task in status.of("failed"):
        error = task.error or {}
        phase = f"in {error['phase']}: " if error.get("phase") else ""
        found.append(f"  {task.title}: {phase}{error.get('reason', 'no reason is recorded')} ({task.record})")
    return _listing("Failed (avbench run --retry-failed tries again):", found)


def _stranded(status: Status) -> str:
    found = [f"  {task.title}" for task in status.of("stranded")]
    return _listing("Stranded, because something they need failed:", found)


def _listing(head: str, lines: list[str]) -> str:
    more = [f"  … and {len(lines) - _LISTED} more: --json lists all"] if len(lines) > _LISTED else []
    return "\n".join([head, *lines[:_LISTED], *more]) if lines else ""


def _memory(status: Status) -> str:
    names = {"resident": "MiB resident", "gpu": "MiB on the GPU"}
    found = [f"{value:.0f} {names[where]}" for where, value in status.peak_memory_mib.items()]
    return f"Most memory of a recorded task: {', '.join(found)}." if found else ""


def _moment(seconds: float) -> str:
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, ValueError, OSError):
        return "an unknown time"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
