"""Runs one job alone, in its own process: ``python -m avbench.worker JOB_FOLDER``.

It reads ``spec.json``, does the job's tasks, writes their artefacts and records into the run directory, and tells
its progress in ``events.jsonl``. It needs no coordinator: the same command by hand does the same.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import torch

from avbench.claims import announce_worker
from avbench.desk import Desk, Spec
from avbench.jobs import DistilTask, EvaluateTask, PrerequisiteTask, ShardTask
from avbench.precision import use_exact_products
from avbench.tasks.distilling import distil
from avbench.tasks.evaluating import evaluate
from avbench.tasks.merging import merge
from avbench.tasks.prerequisites import build_prerequisite

#: Exit status of a worker some of whose tasks failed; each failure has its record.
SOME_FAILED = 3
_WATCH_EVERY_S = 0.5


def run_job(folder: Path) -> int:
    """Do the job in ``folder`` and return the exit status."""
    announce_worker(folder)
    spec = Spec.read(folder)
    settle_torch(spec.engine.threads)
    desk = Desk(spec, folder / "events.jsonl")
    for task in spec.tasks:
        desk.tell(event="task", task=task.key, title=task.title, kind=task.kind)
    desk.hooks.begin(spec.out, spec.data, "worker")
    distil(desk, [t for t in spec.tasks if isinstance(t, ShardTask) or (isinstance(t, DistilTask) and not t.shards)])
    for task in spec.tasks:
        if isinstance(task, PrerequisiteTask):
            build_prerequisite(desk, task)
        elif isinstance(task, EvaluateTask):
            evaluate(desk, task)
        elif isinstance(task, DistilTask) and task.shards:
            merge(desk, task)
    desk.hooks.end()
    return SOME_FAILED if desk.failures else 0


def settle_torch(threads: int) -> None:
    """Set torch up as a worker works: the conformance kit sets it up likewise.

    Args:
        threads: their number changes rounding: it comes from the job, whatever the environment says.
    """
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    use_exact_products()
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid that costs time


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: a killed run must leave no worker beside the one that resumes it."""
    if os.getppid() != parent:
        os._exit(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(1)  # what is on disk was written atomically

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    if "AVBENCH_END_WITH" in os.environ:
        _end_with(int(os.environ["AVBENCH_END_WITH"]))
    sys.exit(run_job(Path(sys.argv[1])))
