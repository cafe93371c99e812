"""Walks the graph of jobs: starts what is ready, follows the workers' events, writes records for those killed."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avbench.claims import Claims, ProcessId, look_afresh
from avbench.desk import describe_task
from avbench.environment import environment
from avbench.events import ENDS, fresh_lines, phase_after, read_event
from avbench.executors.base import Ended, Executor
from avbench.hooks import Hooks
from avbench.jobs import DistilTask, Engine, EvaluateTask, Job, PrerequisiteTask, ShardTask, Task, task_to_json
from avbench.plan import Plan
from avbench.results import RunDirectory, write_atomically
from avbench.runs import Announcement, PlannedTask, planned_jobs

_POLL_S = 0.1
#: How often to look again at a task that another run is doing.
_LOOK_AGAIN_S = 1.0

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
    phases: dict[str, str] = field(default_factory=dict)


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
        self._claims = Claims(directory.root)
        self._tasks = {task.key: task for job in plan.jobs for task in job.tasks}
        self._unsettled = set(self._tasks)
        self._waiting = {job.id: job for job in plan.jobs}
        self._look_again: dict[str, float] = {}
        self._elsewhere = set[str]()
        self._active: dict[str, _Active] = {}
        self._launches = Counter[str]()
        # Two runs in one directory must not write into each other's job folders.
        self._attempt = f"{os.getpid()}-{secrets.token_hex(3)}"

    def run(self) -> Outcome:
        """Run until no job is left; on an interrupt end the workers and let it pass."""
        about = {"argv": self.argv, "out": str(self.directory.root), "jobs": len(self.plan.jobs)}
        self.hooks.begin(self.directory.root.resolve(), self.data.resolve(), "coordinator")
        self.hooks.fire("run_started", run=about)
        announcement, interrupted = self._announcement(), True
        try:
            announcement.write(self.directory.root)
            while self._waiting or self._active:
                self._start_ready()
                self._follow()
                over = self.executor.ended()
                for ended in over:
                    self._settle(ended)
                self._beat()
                if not over:  # what has become free is filled at once
                    time.sleep(_POLL_S)
            interrupted = False
        finally:
            self.executor.stop()
            self._claims.release_all()
            with contextlib.suppress(OSError):  # a full disk: whoever asks sees that the process is gone
                announcement.end(self.directory.root, time.time(), interrupted)
            counts = {"failed": len(self.outcome.failed), "stranded": len(self.outcome.stranded)}
            self.hooks.fire("run_finished", run=about, interrupted=interrupted, **counts)
            self.hooks.end()
        return self.outcome

    def _announcement(self) -> Announcement:
        stranded = tuple(map(PlannedTask.of, self.plan.stranded))
        slots, jobs = self.executor.resources.slots, planned_jobs(self.plan.jobs)
        return Announcement(self._attempt, ProcessId.own(), self.argv, slots, time.time(), jobs, stranded)

    def _start_ready(self) -> None:
        if not self.executor.has_room():
            return
        now = time.monotonic()
        for job_id, job in list(self._waiting.items()):
            if not job.needs & self._unsettled and now >= self._look_again.get(job_id, 0.0):
                del self._waiting[job_id]
                self._start(job)
                self._beat()  # what other runs have done is passed over here, and may take long
                if not self.executor.has_room():
                    return

    def _beat(self) -> None:
        """Show other machines that we are alive; leave to them what they took over while we hung."""
        overtaken = set(self._claims.beat())
        for job_id, active in self._active.items():
            if overtaken.intersection(task.key for task in active.job.tasks):
                self.executor.end(job_id)

    def _start(self, job: Job) -> None:
        """Start what of a job no other run is doing; the rest waits for that run."""
        folder = self._folder(job)
        claimed = [task for task in job.tasks if self._claims.take(task.key, folder)]
        held = tuple(task for task in job.tasks if task not in claimed)
        if held:
            self._wait_for(held, job)
            self._tell_held(held)
        mine = tuple(task for task in claimed if not self._settled_elsewhere(task))
        if mine:
            self._launches[job.id] += 1
            self._launch(Job(mine, job.needs), folder)

    def _folder(self, job: Job) -> Path:
        """The folder of a job's next launch. Whoever still writes for the last one, or left word there, has another."""
        before = self._launches[job.id]
        name = f"{job.id}.{before + 1}" if before else job.id
        return self.directory.root / "jobs" / f"{name}-{self._attempt}"

    def _wait_for(self, tasks: tuple[Task, ...], job: Job) -> None:
        """Look at some tasks of a job again later."""
        rest = Job(tasks, job.needs)
        self._waiting[rest.id] = rest
        self._look_again[rest.id] = time.monotonic() + _LOOK_AGAIN_S

    def _tell_held(self, held: tuple[Task, ...]) -> None:
        news = [task for task in held if task.key not in self._elsewhere]
        self._elsewhere.update(task.key for task in news)
        for task in news:
            self.listener({"event": "held", "title": task.title, "by": self._claims.holder(task.key)})

    def _settled_elsewhere(self, task: Task) -> bool:
        """Whether another run has settled a task since ours was planned."""
        if self._found_done(task):
            return True
        key = self._record_key(task)
        record = self.directory.record(task.kind, key) if key else None
        # What failed before is in the plan because it is to be retried; what failed while we waited has just been.
        if record is not None and record["status"] == "failed" and task.key in self._elsewhere:
            self._note({"event": "failed", "task": task.key, "reason": f"{record['error']['reason']} (in another run)"})
            return True
        return False

    def _found_done(self, task: Task) -> bool:
        """Whether a task's record says that it is done; this is noted then."""
        root = self.directory.root
        if not isinstance(task, PrerequisiteTask):
            look_afresh(root, "distil", task.cell.key)
        key = self._record_key(task)
        if key is not None:
            look_afresh(root, task.kind, key)
        if isinstance(task, DistilTask | ShardTask):
            done = self.directory.distilled(task)
        else:
            done = key is not None and self.directory.done(task.kind, key)
        if done:
            self._note({"event": "done", "task": task.key})
        return done

    def _launch(self, job: Job, folder: Path) -> None:
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
        self.hooks.fire("job_started", job=self._active[job.id].spec)
        self.listener({"event": "job", "job": job.id, "tasks": [task.key for task in job.tasks]})
        try:
            self.executor.start(job.id, folder)
        except OSError as error:
            self._settle(Ended(job.id, 1, "not started", str(error)))

    def _follow(self) -> None:
        """Pass on what the workers have written since the last look."""
        for active in self._active.values():
            lines, active.read_bytes = fresh_lines(active.events, active.read_bytes)
            for line in lines:
                event = read_event(line)
                if event is not None and event["event"] == "hook":
                    self.hooks.report(event["hook"], f"{event['reason']} in a worker")
                elif event is not None:
                    active.phases[event["task"]] = phase_after(event)
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
        if event["event"] in ENDS:
            self._unsettled.discard(task.key)
            self._claims.release(task.key)
            self._tell_hooks(task, event["event"])
        self.listener({**event, "title": task.title, "kind": task.kind})

    def _tell_hooks(self, task: Task, status: str) -> None:
        key = self._record_key(task)
        folder = self.directory.folder(task.kind, key).resolve() if key else None
        known = folder is not None and (folder / "record.json").is_file()
        about = {"task": task.key, "kind": task.kind, "title": task.title, "status": status}
        self.hooks.fire("task_finished", **about, folder=folder if known else None)

    def _settle(self, ended: Ended) -> None:
        """A job is over: what it left unfinished has failed, and somebody must say so."""
        self._follow()
        active = self._active.pop(ended.job_id)
        left = tuple(task for task in active.job.tasks if task.key in self._unsettled)
        if ended.cause == "taken over" and left:
            for task in left:
                self._claims.release(task.key)
            self._wait_for(left, active.job)
            left = ()
        for task in left:
            if not self._found_done(task):  # the worker may have died between a record and the word of it
                self._bury(task, ended, active)
        status = "failed" if ended.status else "done"
        self.hooks.fire("job_finished", job=active.spec, status=status)
        self.listener({"event": "job ended", "job": ended.job_id, "status": ended.status})

    def _bury(self, task: Task, ended: Ended, active: _Active) -> None:
        """Write the record of a task whose worker can't: with the reason, and the phase it was last heard in."""
        phase = active.phases.get(task.key) or "start"
        reason = f"{ended.reason}; see {active.events.with_name('log.txt')}"
        key = self._record_key(task)
        if key is not None:
            cause = ended.cause or "worker ended"
            record = {
                "status": "failed",
                "error": {"phase": phase, "reason": reason, "type": "WorkerDied", "cause": cause},
                **describe_task(task),
                "argv": list(self.argv),
                "engine": asdict(self.engine),
                "environment": environment(),
                "duration_s": round(time.monotonic() - active.began, 3),
                "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
            self.directory.write_record(task.kind, key, record)
        self._note({"event": "failed", "task": task.key, "reason": f"{reason} (in {phase})"})

    def _record_key(self, task: Task) -> str | None:
        """The key of a task's record; ``None`` for an evaluation whose set is not made."""
        if not isinstance(task, EvaluateTask):
            return task.key
        set_hash = self.directory.set_hash(task.cell.key, task.snapshot)
        return task.record_key(set_hash) if set_hash else None
