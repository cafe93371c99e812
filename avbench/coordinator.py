"""Walks the graph of jobs: starts what is ready, follows the workers' events, writes records for those killed."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avbench.desk import describe_task
from avbench.environment import environment
from avbench.executors.base import Ended, Executor
from avbench.hooks import Hooks
from avbench.jobs import Engine, EvaluateTask, Job, Task, task_to_json
from avbench.plan import Plan
from avbench.results import RunDirectory, write_atomically

_POLL_S = 0.1

#: Called with every event of a worker, and with those of the coordinator itself.
Listener = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True)
class Mishap:
    """Why a task has no result."""

    title: str
    reason: str


@dataclass
class Outcome:
    """How the tasks of a run ended, by their keys."""

    done: set[str] = field(default_factory=set)
    failed: dict[str, Mishap] = field(default_factory=dict)
    stranded: dict[str, Mishap] = field(default_factory=dict)


@dataclass
class _Active:
    job: Job
    spec: Mapping[str, Any]
    events: Path
    began: float
    read_bytes: int = 0


class Coordinator:
    """Runs a plan on an executor."""

    def __init__(
        self,
        plan: Plan,
        directory: RunDirectory,
        data: Path,
        executor: Executor,
        engine: Engine,
        argv: tuple[str, ...],
        hooks: Hooks,
        listener: Listener,
    ) -> None:
        self.plan, self.directory, self.data = plan, directory, data
        self.executor, self.engine, self.argv = executor, engine, argv
        self.hooks, self.listener = hooks, listener
        self.outcome = Outcome()
        self._tasks = {task.key: task for job in plan.jobs for task in job.tasks}
        self._unsettled = set(self._tasks)
        self._waiting = list(plan.jobs)
        self._active: dict[str, _Active] = {}
        # Two runs in one directory must not write into each other's job folders.
        self._attempt = f"{os.getpid()}-{secrets.token_hex(3)}"

    def run(self) -> Outcome:
        """Run until no job is left; on an interrupt end the workers and let it pass."""
        about = {"argv": self.argv, "out": str(self.directory.root), "jobs": len(self.plan.jobs)}
        self.hooks.fire("run_started", run=about)
        interrupted = True
        try:
            while self._waiting or self._active:
                self._start_ready()
                self._follow()
                for ended in self.executor.ended():
                    self._settle(ended)
                time.sleep(_POLL_S)
            interrupted = False
        finally:
            self.executor.stop()
            counts = {"failed": len(self.outcome.failed), "stranded": len(self.outcome.stranded)}
            self.hooks.fire("run_finished", run=about, interrupted=interrupted, **counts)
        return self.outcome

    def _start_ready(self) -> None:
        for job in list(self._waiting):
            if not self.executor.has_room():
                return
            if not job.needs & self._unsettled:
                self._waiting.remove(job)
                self._start(job)

    def _start(self, job: Job) -> None:
        folder = self.directory.root / "jobs" / f"{job.id}-{self._attempt}"
        spec = {
            "tasks": [task_to_json(task) for task in job.tasks],
            "out": str(self.directory.root.resolve()),
            "data": str(self.data.resolve()),
            "engine": asdict(self.engine),
            "argv": list(self.argv),
            "hooks": list(self.hooks.names),
        }
        write_atomically(folder / "spec.json", json.dumps(spec, indent=1))
        events = folder / "events.jsonl"
        events.write_text("", encoding="utf-8")
        self._active[job.id] = _Active(job, {"id": job.id, **spec}, events, time.monotonic())
        self.executor.start(job.id, folder)
        self.hooks.fire("job_started", job=self._active[job.id].spec)
        self.listener({"event": "job", "job": job.id, "tasks": [task.key for task in job.tasks]})

    def _follow(self) -> None:
        """Pass on what the workers have written since the last look."""
        for active in self._active.values():
            with active.events.open("rb") as file:
                file.seek(active.read_bytes)
                fresh = file.read()
            whole = fresh[: fresh.rfind(b"\n") + 1]  # a last line may still be in the making
            active.read_bytes += len(whole)
            for line in whole.splitlines():
                event = _event(line)
                if event is not None:
                    self._note(event)

    def _note(self, event: Mapping[str, Any]) -> None:
        task = self._tasks.get(event["task"])
        if task is None:  # a by-product: an evaluation of the whole data keeps its networks for others
            return
        if event["event"] == "done":
            self.outcome.done.add(task.key)
        elif event["event"] == "failed":
            self.outcome.failed[task.key] = Mishap(task.title, event["reason"])
        elif event["event"] == "stranded":
            self.outcome.stranded[task.key] = Mishap(task.title, event["reason"])
        if event["event"] in ("done", "failed", "stranded"):
            self._unsettled.discard(task.key)
        self.listener({**event, "title": task.title, "kind": task.kind})

    def _settle(self, ended: Ended) -> None:
        """A job is over: what it left unfinished has failed, and somebody must say so."""
        self._follow()
        active = self._active.pop(ended.job_id)
        left = [task for task in active.job.tasks if task.key in self._unsettled]
        log = active.events.with_name("log.txt")
        for task in left:
            reason = f"{ended.reason}; see {log}"
            self._record_death(task, reason, time.monotonic() - active.began)
            self._note({"event": "failed", "task": task.key, "reason": reason})
        status = "failed" if ended.status else "done"
        self.hooks.fire("job_finished", job=active.spec, status=status)
        self.listener({"event": "job ended", "job": ended.job_id, "status": ended.status})

    def _record_death(self, task: Task, reason: str, duration_s: float) -> None:
        key = task.key
        if isinstance(task, EvaluateTask):
            set_hash = self.directory.set_hash(task.cell.key)
            if set_hash is None:
                return
            key = task.record_key(set_hash)
        record = {
            "status": "failed",
            "error": {"phase": "worker", "reason": reason, "type": "WorkerDied"},
            **describe_task(task),
            "argv": list(self.argv),
            "engine": asdict(self.engine),
            "environment": environment(),
            "duration_s": round(duration_s, 3),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        self.directory.write_record(task.kind, key, record)


def _event(line: bytes) -> dict[str, Any] | None:
    """A line of a worker's events; ``None`` where it is not whole, as after a full disk: the record decides then."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    needed = {"step": {"time", "done", "steps", "step_s"}, "failed": {"reason"}, "stranded": {"reason"}}
    if not isinstance(found, dict) or not {"event", "task"} <= found.keys():
        return None
    return found if needed.get(str(found["event"]), set()) <= found.keys() else None
