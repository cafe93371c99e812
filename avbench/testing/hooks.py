"""Checks of a hook plugin: that it registers, and takes every event."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avbench.grammar import Variant
from avbench.hooks import Hooks
from avbench.jobs import DistilTask, EvaluateTask, task_to_json
from avbench.testing.bench import Bench, Scene
from avbench.testing.given import SELECTS
from avbench.testing.registry import Failure, register
from avbench.testing.subject import NAME, Subject

_Event = tuple[str, dict[str, Any]]


@register("hook", name="registers", promise="functions marked by hookimpl that are named like events")
def registers(subject: Subject) -> None:
    """As ``avbench run --hook`` does."""
    Hooks((NAME,))


@register("hook", name="events", promise="every event taken without raising")
def events(subject: Subject) -> None:
    """The events of a run, in order: a worker's, then the coordinator's, as each would be in its own process.

    What a hook raises is reported and harms no run, but is lost.
    """
    scene, out = Scene(), subject.bench.new_folder("hooks")
    data = subject.bench.data(scene)
    distil, evaluate, folders = _judged(subject.bench, scene, out)
    processes = {"worker": list(_worker(distil)), "coordinator": list(_coordinator(distil, evaluate, folders, out))}
    with contextlib.redirect_stderr(io.StringIO()) as told:
        for role, fired in processes.items():
            hooks = Hooks((NAME,))
            hooks.begin(out, data, role)
            for event, arguments in fired:
                hooks.fire(event, **arguments)
            hooks.end()
    if "raised in" in told.getvalue():  # what it prints is told there, too
        found = " ".join(told.getvalue().split())
        raise Failure("every event taken", found, "Catch what may fail, and read by get() what may be absent.")


def _judged(bench: Bench, scene: Scene, out: Path) -> tuple[DistilTask, EvaluateTask, list[Path]]:
    """A selection made and judged as a run does: the tasks, and the folders of their records."""
    planned = bench.planned(scene, {"method": Variant(SELECTS)})
    desk = bench.desk(scene, out)
    bench.distil(desk, [planned])
    distil, evaluate = DistilTask(planned.cell), EvaluateTask(planned.cell, planned.evaluations[0].judged_by, 1)
    bench.judge(desk, evaluate)
    set_hash = desk.directory.set_hash(planned.cell.key)
    assert set_hash is not None  # the kit's own selection
    keys = {"distil": distil.key, "evaluate": evaluate.record_key(set_hash)}
    return distil, evaluate, [desk.directory.folder(kind, key) for kind, key in keys.items()]


def _worker(distil: DistilTask) -> Iterator[_Event]:
    yield "step", {"task": distil.key, "step": 0, "metrics": {"loss": 1.0}}


def _coordinator(distil: DistilTask, evaluate: EvaluateTask, folders: list[Path], out: Path) -> Iterator[_Event]:
    run = {"argv": ["avbench", "run"], "out": str(out), "jobs": 2}
    yield "run_started", {"run": run}
    tasks: tuple[DistilTask | EvaluateTask, ...] = (distil, evaluate)
    for task, folder in zip(tasks, folders, strict=True):
        job = {"id": f"{task.kind}-0", "tasks": [task_to_json(task)], "out": str(out), "argv": run["argv"]}
        about = {"task": task.key, "kind": task.kind, "title": task.title}
        yield "job_started", {"job": job}
        yield "task_finished", {**about, "status": "done", "folder": folder}
        yield "job_finished", {"job": job, "status": "done"}
    # A task may end without a record: its set could not be had.
    yield "task_finished", {**about, "status": "stranded", "folder": None}
    yield "run_finished", {"run": run, "failed": 0, "stranded": 1, "interrupted": False}
