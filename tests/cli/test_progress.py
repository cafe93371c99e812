"""The time left: cells of a distil job share it, steps before a resume are not timed, selections say nothing."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import pytest

from avbench.cli.clock import Clock


@dataclass(frozen=True)
class Task:
    key: str
    kind: str


def job(kind: str, *keys: str) -> SimpleNamespace:
    return SimpleNamespace(kind=kind, tasks=tuple(Task(key, kind) for key in keys))


def clock(*jobs: SimpleNamespace, slots: int = 1) -> Clock:
    return Clock(cast(Any, jobs), slots)


def step(on: Clock, task: str, done: int, time: float, steps: int = 100) -> None:
    on.note({"event": "step", "task": task, "done": done, "steps": steps, "time": time, "step_s": 0.5})


def finish(on: Clock, *tasks: str) -> None:
    for task in tasks:
        on.note({"event": "done", "task": task})


def test_cells_in_lock_step_end_together() -> None:
    found = clock(job("distil", "a", "b", "c"))
    for task, steps in (("a", 100), ("b", 100), ("c", 50)):
        step(found, task, 1, 10.0, steps)
        step(found, task, 11, 20.0, steps)
    assert found.left() == "about 1:29"


@pytest.mark.parametrize("kind", ["evaluate", "prerequisite"])
def test_tasks_done_in_turn_add_up(kind: str) -> None:
    found = clock(job(kind, "a", "b", "c"))
    step(found, "a", 1, 0.0)
    step(found, "a", 100, 99.0)
    finish(found, "a")
    step(found, "b", 1, 100.0)
    step(found, "b", 51, 150.0)
    assert found.left() == "about 2:29"  # 49 steps of b, then c


def test_slots_share_the_jobs_but_not_the_longest_one() -> None:
    jobs = [job("distil", name) for name in "abcd"]
    found = clock(*jobs, slots=2)
    for name, steps in zip("abcd", (101, 101, 101, 101), strict=True):
        step(found, name, 1, 0.0, steps)
        step(found, name, 2, 1.0, steps)
    assert found.left() == "about 3:18"  # 4 × 99 s on two slots
    finish(found, "b", "c", "d")
    assert found.left() == "about 1:39"  # one job is not halved by an idle slot


def test_steps_before_a_resume_are_not_timed() -> None:
    found = clock(job("distil", "a"))
    step(found, "a", 5001, 1000.0, 10000)
    step(found, "a", 5011, 1010.0, 10000)
    assert found.left() == "about 1:23:09"  # 4,989 steps of a second each
    alone = clock(job("evaluate", "a", "b"))
    step(alone, "a", 91, 0.0)
    step(alone, "a", 100, 9.0)
    finish(alone, "a")
    assert alone.left() == "about 1:40"  # b has no checkpoint to go on from


def test_what_made_no_step_says_nothing_of_what_does() -> None:
    found = clock(job("distil", "picked", "cached", "a", "b"), job("distil", "c"))
    finish(found, "picked", "cached")
    step(found, "a", 1, 0.0)
    step(found, "a", 100, 99.0)
    finish(found, "a", "b")
    assert found.left() == "about 1:40"
    nothing = clock(job("distil", "picked"), job("distil", "other"), job("evaluate", "e"))
    finish(nothing, "picked")
    assert nothing.left() == "at least 0:00"


def test_nothing_is_said_before_anything_was_timed() -> None:
    found = clock(job("distil", "a"), job("evaluate", "b"))
    assert found.left() == ""
    step(found, "a", 1, 0.0)
    assert found.left() == "at least 0:50"  # the step's own time, until there are two events
    assert (found.settled, found.total) == (0, 2)
