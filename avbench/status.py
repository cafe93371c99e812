"""How far the runs of a directory are: told from its files alone, while they go on and after they ended or died."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avbench.evidence import KINDS, Claim, Evidence, Heard
from avbench.jobs import EvaluateTask, Task, cell_of_shard, in_lock_step
from avbench.results import hash_in, is_beyond
from avbench.runs import Announcement, PlannedTask

State = Literal["done", "running", "waiting", "unfinished", "failed", "stranded"]
STATES: tuple[State, ...] = ("done", "running", "waiting", "unfinished", "failed", "stranded")
RunState = Literal["going", "can't be checked", "silent", "killed", "interrupted", "ended"]


@dataclass(frozen=True)
class TaskStatus:
    """A task and its state.

    Attributes:
        detail: of a running one the step or phase it was last heard in.
        holder: of one that is claimed: who has it, in words.
        record: the record's file, where there is one.
        error: of a failed one what its record says: ``phase``, ``reason``, ``type``, ``cause``.
    """

    key: str
    kind: str
    title: str
    state: State
    detail: str = ""
    holder: str = ""
    record: Path | None = None
    error: Mapping[str, str] | None = None


@dataclass(frozen=True)
class RunStatus:
    """A run that announced itself.

    Attributes:
        planned, settled: how many tasks it began with, and how many of those are done, failed or stranded.
        took_s: from its start until now, until its end, or until it was last heard.
        events: first and last steps and ends, as a worker tells them: what an estimate of the time left needs.
    """

    announcement: Announcement
    state: RunState
    planned: int
    settled: int
    took_s: float
    events: tuple[Mapping[str, Any], ...]

    @property
    def rate_per_h(self) -> float | None:
        """Tasks settled in an hour; ``None`` before there is one."""
        return 3600 * self.settled / self.took_s if self.settled and self.took_s > 0 else None


@dataclass(frozen=True)
class Status:
    """A run directory at one moment.

    Attributes:
        going: whether somebody is, or may be, at work.
        peak_memory_mib: the most that a recorded task took: ``resident``, and ``gpu`` where it ran on one.
        notes: what could not be read or told.
    """

    going: bool
    tasks: tuple[TaskStatus, ...]
    runs: tuple[RunStatus, ...]
    peak_memory_mib: Mapping[str, float]
    notes: tuple[str, ...]

    def counts(self) -> dict[str, dict[State, int]]:
        """Numbers of tasks by kind and state."""
        found = Counter((task.kind, task.state) for task in self.tasks)
        return {kind: {state: found[kind, state] for state in STATES} for kind in KINDS}

    def of(self, state: State) -> list[TaskStatus]:
        return [task for task in self.tasks if task.state == state]


class Observer:
    """Looks at a run directory again and again; never writes there."""

    def __init__(self, root: Path) -> None:
        self.evidence = Evidence(root)

    def look(self) -> Status:
        """The status now."""
        self.evidence.look()
        states = {each.attempt: self._run_state(each) for each in self.evidence.announcements}
        tasks = _Tasks(self.evidence, states).all()
        by_key = {task.key: task for task in tasks}
        runs = [self._run(each, states[each.attempt], by_key) for each in self.evidence.announcements]
        claimed = any(claim.lives is not False for claim in self.evidence.claims.values())
        going = claimed or any(run.state in ("going", "can't be checked") for run in runs)
        return Status(going, tuple(tasks), tuple(runs), self._peaks(), tuple(self._notes()))

    def _run_state(self, run: Announcement) -> RunState:
        if run.ended_s is not None:
            return "interrupted" if run.interrupted else "ended"
        if run.process.here:
            return "going" if run.process.alive else "killed"
        claims = [claim for claim in self.evidence.claims.values() if claim.process == run.process]
        if any(claim.lives is not False for claim in claims):
            return "can't be checked"
        return "silent" if claims or self.evidence.silence.lasts(run.attempt, 0) else "can't be checked"

    def _run(self, run: Announcement, state: RunState, tasks: Mapping[str, TaskStatus]) -> RunStatus:
        mine = {task.key for task in run.tasks}
        settled = {key for key in mine if key in tasks and tasks[key].state in ("done", "failed", "stranded")}
        heard = {
            key: heard
            for name, job in self.evidence.jobs.items()
            if name.endswith(f"-{run.attempt}")
            for key, heard in job.heard.items()
        }
        last_s = max((each.last_s for each in heard.values()), default=run.started_s)
        until_s = run.ended_s or (time.time() if state == "going" else last_s)
        events = [event for key in mine for event in _events(key, heard.get(key), key in settled)]
        return RunStatus(run, state, len(mine), len(settled), max(0.0, until_s - run.started_s), tuple(events))

    def _peaks(self) -> dict[str, float]:
        peaks = [record.get("peak_memory_mib") for record in self.evidence.records.values()]
        found: dict[str, float] = {}
        for where in ("resident", "gpu"):
            values = [peak.get(where) for peak in peaks if isinstance(peak, dict)]
            numbers = [float(value) for value in values if isinstance(value, int | float)]
            found |= {where: max(numbers)} if numbers else {}
        return found

    def _notes(self) -> list[str]:
        notes = [f"{each.path} {each.reason}." for each in self.evidence.unreadable]
        notes += [f"{path} is not whole: half-written or damaged." for path in self.evidence.damaged]
        hosts = {_host(claim) for claim in self.evidence.claims.values() if claim.lives is None}
        hosts |= {
            run.process.host
            for run in self.evidence.announcements
            if run.ended_s is None and self._run_state(run) == "can't be checked"
        }
        return notes + [
            f"whether work on {host} still goes on can't be checked from this machine; --watch takes it for dead when "
            "its claims are not touched for two minutes."
            for host in sorted(hosts)
        ]


class _Tasks:
    """The states of all tasks that a directory knows of."""

    def __init__(self, evidence: Evidence, runs: Mapping[str, RunState]) -> None:
        self._evidence = evidence
        self._full: dict[str, Task] = {key: task for job in evidence.jobs.values() for key, task in job.tasks.items()}
        self._planned: dict[str, PlannedTask] = {}
        #: Keys of tasks that a run which lives means to do and has not begun.
        self._awaited = set[str]()
        for run in evidence.announcements:
            self._planned |= {task.key: task for task in (*run.tasks, *run.stranded)}
            if runs[run.attempt] in ("going", "can't be checked"):
                own = [job for name, job in evidence.jobs.items() if name.endswith(f"-{run.attempt}")]
                begun = {key for job in own for key in job.tasks}
                self._awaited |= {task.key for task in run.tasks if task.key not in begun}
        self._planned |= {key: PlannedTask.of(task) for key, task in self._full.items()}
        self._known: dict[str, TaskStatus] = {}

    def all(self) -> list[TaskStatus]:
        found = [self._status(key) for key in self._planned]
        recorded = {(task.kind, task.record.parent.name) for task in found if task.record is not None}
        for (kind, key), record in self._evidence.records.items():
            if (kind, key) not in recorded:
                task = PlannedTask(key, kind, _title(kind, record))
                found.append(self._recorded(task, key, record))
        return sorted(
            found, key=lambda task: (KINDS.index(task.kind) if task.kind in KINDS else len(KINDS), task.title)
        )

    def _status(self, key: str) -> TaskStatus:
        if key not in self._known:
            task = self._planned[key]
            # Known for the moment: a damaged announcement may hold needs that go round in a circle.
            self._known[key] = TaskStatus(key, task.kind, task.title, "unfinished")
            self._known[key] = self._decide(task)
        return self._known[key]

    def _decide(self, task: PlannedTask) -> TaskStatus:
        claim = self._evidence.claims.get(task.key)
        record_key = self._record_key(task)
        record = self._evidence.records.get((task.kind, record_key)) if record_key else None
        if claim is not None and claim.lives is not False and (active := self._active(task, claim)) is not None:
            return active
        if record is not None and record_key is not None and record["status"] == "done":
            return self._recorded(task, record_key, record)
        if task.key in self._awaited:
            return TaskStatus(task.key, task.kind, task.title, "waiting")
        if record is not None and record_key is not None:
            return self._recorded(task, record_key, record)
        if self._has_nothing_to_judge(task):
            return TaskStatus(task.key, task.kind, task.title, "done")
        if task.kind == "shard" and self._is_done("distil", cell_of_shard(task.key)):
            return TaskStatus(task.key, task.kind, task.title, "done")  # put together, and removed
        needs = [self._status(need).state for need in task.needs if need in self._planned]
        hopeless = any(state in ("failed", "stranded") for state in needs)
        return TaskStatus(task.key, task.kind, task.title, "stranded" if hopeless else "unfinished")

    def _has_nothing_to_judge(self, task: PlannedTask) -> bool:
        """Whether a task judges a snapshot after more steps than its set has: it is done, and leaves no record."""
        full = self._full.get(task.key)
        if not isinstance(full, EvaluateTask):
            return False
        try:
            return is_beyond(self._evidence.records.get(("distil", full.cell.key)), full.snapshot)
        except (KeyError, TypeError, AttributeError):
            return False  # a record that says "done" and has no result

    def _is_done(self, kind: str, key: str) -> bool:
        record = self._evidence.records.get((kind, key))
        return record is not None and record["status"] == "done"

    def _active(self, task: PlannedTask, claim: Claim) -> TaskStatus | None:
        """The state of a claimed task; ``None`` once its worker has settled it."""
        job = self._evidence.jobs.get(claim.job)
        state: State = "running"
        heard = job.heard.get(task.key) if job else None
        if heard is not None and heard.end:
            return None
        if job is not None and not in_lock_step(task.kind):  # done in turn
            turn = next((key for key in job.tasks if not job.heard.get(key, Heard()).end), task.key)
            state = "running" if turn == task.key else "waiting"
        if job is not None and heard is None and not (job.path / "worker.json").is_file():
            state = "waiting"  # in a queue, or about to begin: nobody does it yet
        detail = (heard.phase if heard else "") or "starting"
        return TaskStatus(
            task.key, task.kind, task.title, state, detail if state == "running" else "", _host_and_process(claim)
        )

    def _recorded(self, task: PlannedTask, key: str, record: Mapping[str, Any]) -> TaskStatus:
        path = self._evidence.root / task.kind / key / "record.json"
        if record["status"] == "done":
            return TaskStatus(task.key, task.kind, task.title, "done", record=path)
        error = record.get("error")
        said = {str(name): str(value) for name, value in error.items()} if isinstance(error, dict) else {}
        return TaskStatus(task.key, task.kind, task.title, "failed", record=path, error=said)

    def _record_key(self, task: PlannedTask) -> str | None:
        """The key of a task's record; ``None`` for an evaluation whose set is not made, or that no job was given."""
        if task.kind != "evaluate":
            return task.key
        full = self._full.get(task.key)
        if not isinstance(full, EvaluateTask):
            return None
        try:
            found = hash_in(self._evidence.records.get(("distil", full.cell.key)), full.snapshot)
        except (KeyError, TypeError, AttributeError):
            return None  # a record that says "done" and has no result
        return full.record_key(found) if found else None


def _events(key: str, heard: Heard | None, settled: bool) -> list[Mapping[str, Any]]:
    steps = list(heard.steps) if heard else []
    if not settled:
        return steps
    # What another run did, or nobody heard the end of, was not timed.
    return [*steps, {"event": "done" if heard and heard.end == "done" else "failed", "task": key}]


def _title(kind: str, record: Mapping[str, Any]) -> str:
    """What a record is about, where no job says it."""

    def label(name: str) -> str:
        found = record.get(name)
        return str(found.get("label", found.get("name", ""))) if isinstance(found, dict) else ""

    seed = f"seed {record['seed']}" if "seed" in record else ""
    if kind == "prerequisite":
        return " ".join(part for part in (str(record.get("name", kind)), "for", label("dataset"), seed) if part)
    ipc = f"ipc {record['ipc']}" if record.get("ipc") else ""
    judge = f"by {label('evaluated_architecture')}" if kind == "evaluate" else ""
    shard = f"classes {record.get('classes')}" if kind == "shard" else ""
    parts = ("evaluate" if kind == "evaluate" else "", label("method"), label("dataset"), ipc, seed, judge, shard)
    return " ".join(part for part in parts if part)


def _host(claim: Claim) -> str:
    return str(claim.process.host) if claim.process else "a machine whose name can't be read"


def _host_and_process(claim: Claim) -> str:
    return f"process {claim.process.process} on {claim.process.host}" if claim.process else "another run"
