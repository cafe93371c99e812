"""Checks of a hook plugin: that it registers, and takes every event."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from avbench.hooks import Hooks
from avbench.testing.registry import Failure, register
from avbench.testing.subject import NAME, Subject

_RUN: dict[str, Any] = {"argv": ["avbench", "run"], "out": "runs", "jobs": 1, "tasks": 1}
_JOB: dict[str, Any] = {"id": "distil-0", "tasks": []}
_EVENTS: dict[str, dict[str, Any]] = {
    "run_started": {"run": _RUN},
    "job_started": {"job": _JOB},
    "step": {"task": "0" * 20, "step": 0, "metrics": {"loss": 1.0}},
    "job_finished": {"job": _JOB, "status": "done"},
    "run_finished": {"run": _RUN, "failed": 0, "stranded": 0, "interrupted": False},
}


@register("hook", name="registers", promise="functions marked by hookimpl that are named like events")
def registers(subject: Subject) -> None:
    """As ``avbench run --hook`` does."""
    Hooks((NAME,))


@register("hook", name="events", promise="every event taken without raising")
def events(subject: Subject) -> None:
    """The events of a run, in order. What a hook raises is reported and harms no run, but is lost."""
    hooks = Hooks((NAME,))
    with contextlib.redirect_stderr(io.StringIO()) as told:
        for event, arguments in _EVENTS.items():
            hooks.fire(event, **arguments)
    if "raised in" in told.getvalue():  # what it prints is told there, too
        found = " ".join(told.getvalue().split())
        raise Failure("every event taken", found, "Catch what may fail, and read by get() what may be absent.")
