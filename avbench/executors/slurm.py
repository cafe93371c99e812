"""The Slurm executor: what is ready at one moment is submitted as arrays, whose jobs the local executor runs on nodes.

The run itself stays a process of the machine where it was started; it submits, looks for files that jobs leave, and
asks ``squeue`` now and then. Should it die, its jobs go on and hold their tasks by claims of their own.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from avbench import __version__
from avbench.claims import ProcessId
from avbench.errors import RequestError
from avbench.executors import slurm_queue
from avbench.executors.base import Cause, Ended, Executor, Resources
from avbench.executors.slurm_claims import forget
from avbench.executors.slurm_files import (
    Submission,
    SubmittedJob,
    attempts_of,
    ended_of,
    log_of,
    lose,
    submissions,
    write_submitted,
)
from avbench.executors.slurm_queue import Queued, SlurmError
from avbench.executors.slurm_resources import Asked, Table, read_table
from avbench.options import option

_LOOK_S = 0.5
#: What a look at one job's folder may cost a shared file system.
_LOOK_EACH_S = 0.02
#: Slurm's own limit is 1001 where nothing else is set.
_MOST_IN_ARRAY = 500
_STOP_S = 30.0
#: A file that a node wrote may be seen so much later on a shared file system.
_SEEN_LATE_S = 60.0
#: States in which Slurm, not the job, is at fault: the job is submitted again while it has attempts left.
_AGAIN = frozenset({"BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "TIMEOUT"})
#: What a busy or absent controller says: the submission is tried again later.
_PASSING = ("Unable to contact slurm controller", "Socket timed out", "temporarily unable")
_CAUSES: Mapping[str, Cause] = {
    "DEADLINE": "time limit",
    "OUT_OF_MEMORY": "out of memory",
    "TIMEOUT": "time limit",
    "FAILED": "not started",
}


@dataclass(frozen=True)
class SlurmConfig:
    """Options of the executor: ``slurm[resources=slurm.toml]``."""

    resources: str = option("", "TOML file of what jobs ask of Slurm, by method")
    poll_s: float = option(15.0, "seconds between two questions to squeue")

    def __post_init__(self) -> None:
        if self.poll_s < 0.5:
            raise ValueError(f"poll_s = {self.poll_s:g}: expected at least 0.5")
        self.table()  # what is wrong with the file is told before anything is prepared

    def table(self) -> Table:
        """What the file says; where none is named, that everything is left to the cluster.

        Raises:
            RequestError: it can't be read, or says what is not understood.
        """
        return read_table(Path(self.resources)) if self.resources else Table()


@dataclass
class _Job:
    """A job of ours: to be submitted while ``number`` is "", else in Slurm under that number."""

    folder: Path
    keys: tuple[str, ...]
    asked: Asked
    number: str = ""
    submitted: int = 0
    gone_since: float | None = None
    taken_over: bool = False


class SlurmExecutor(Executor):
    """Jobs as job arrays of the Slurm cluster that this machine belongs to."""

    Config: ClassVar[type] = SlurmConfig
    #: A login node has seldom a GPU: whether ``--device cuda`` can be had is the cluster's to say.
    devices_elsewhere: ClassVar[bool] = True

    def __init__(self, resources: Resources, config: SlurmConfig | None = None) -> None:
        """Look for Slurm and read the file of resources.

        Raises:
            RequestError: Slurm or submitit is absent, or the file is wrong.
        """
        super().__init__(resources)
        self._config = config or SlurmConfig()
        self._table = self._config.table().settled(resources, self._config.resources or "--executor slurm")
        _check_submitit()
        slurm_queue.check_there()
        self._jobs: dict[str, _Job] = {}
        self._token = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._arrays = 0
        self._looked = self._asked_slurm = self._submit_after = 0.0
        self._root: Path | None = None

    def has_room(self) -> bool:
        return len(self._jobs) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        """Take a job; all that were taken since the last call of :meth:`ended` are submitted there together."""
        from avbench.desk import Spec
        from avbench.jobs import PrerequisiteTask

        folder = folder.resolve()
        if self._root is None:
            self._root = folder.parent.parent
            _cancel_waiting_of_dead_runs(self._root)
        tasks = Spec.read(folder).tasks
        cells = [task.owner if isinstance(task, PrerequisiteTask) else task.cell for task in tasks]
        asked = self._table.asked(cell.method.name for cell in cells)
        self._jobs[job_id] = _Job(folder, tuple(task.key for task in tasks), asked)

    def ended(self) -> list[Ended]:
        found = self._submit_waiting()
        now = time.monotonic()
        if now - self._looked >= max(_LOOK_S, _LOOK_EACH_S * len(self._jobs)):
            self._looked = now
            found += [ended for job_id, job in self._jobs.items() if (ended := ended_of(job_id, job.folder))]
        if self._jobs and now - self._asked_slurm >= self._config.poll_s:
            self._asked_slurm = now
            told = {ended.job_id for ended in found}
            found += [ended for ended in self._over() if ended.job_id not in told]
        return [self._let_go(ended) for ended in found]

    def _let_go(self, ended: Ended) -> Ended:
        job = self._jobs.pop(ended.job_id)
        forget(self._home, job.folder)
        return replace(ended, cause="taken over") if job.taken_over else ended

    def end(self, job_id: str) -> None:
        job = self._jobs.get(job_id)
        if job is not None and not job.taken_over:
            job.taken_over = True
            with contextlib.suppress(SlurmError):
                slurm_queue.cancel([job.number] if job.number else [])

    @property
    def _home(self) -> Path:
        assert self._root is not None  # there are jobs only after a start
        return self._root

    def stop(self) -> None:
        """Cancel what is ours and wait until it is gone."""
        numbers = [job.number for job in self._jobs.values() if job.number]
        if numbers:
            with contextlib.suppress(SlurmError):
                slurm_queue.end_together(numbers, slurm_queue.job_name(self._home), _STOP_S)
        for job in self._jobs.values():
            forget(self._home, job.folder)
        self._jobs.clear()

    def _submit_waiting(self) -> list[Ended]:
        """Submit what waits, an array for each kind of request; the jobs that Slurm refuses have ended."""
        if time.monotonic() < self._submit_after:
            return []
        arrays: list[tuple[Asked, dict[str, _Job]]] = []
        for job_id, job in self._jobs.items():
            if not job.number:
                fits = (jobs for asked, jobs in arrays if asked == job.asked and len(jobs) < _MOST_IN_ARRAY)
                array = next(fits, None)
                if array is None:
                    array = {}
                    arrays.append((job.asked, array))
                array[job_id] = job
        found = []
        for asked, jobs in arrays:
            try:
                self._submit(asked, jobs)
            except (SlurmError, OSError) as error:
                if any(sign in str(error) for sign in _PASSING):
                    self._submit_after = time.monotonic() + self._config.poll_s
                    continue
                self._withdraw(jobs)
                found += [Ended(job_id, 1, "not started", f"Slurm refuses it: {error}") for job_id in jobs]
        return found

    def _withdraw(self, jobs: Mapping[str, _Job]) -> None:
        """End those of these jobs that are in Slurm all the same: what tells of them could not be written."""
        with contextlib.suppress(SlurmError):
            slurm_queue.cancel(job.number for job in jobs.values() if job.number)

    def _submit(self, asked: Asked, jobs: Mapping[str, _Job]) -> None:
        from avbench.executors.slurm_submit import submit

        self._arrays += 1
        folder = self._home / "jobs" / f"slurm-{self._token}-{self._arrays}"
        listed = tuple(SubmittedJob(job_id, job.folder.name, job.keys) for job_id, job in jobs.items())
        about = (ProcessId.own(), __version__, self.resources, asked.attempts, asked.time_min, asked.notice_s, listed)
        Submission(*about).write(folder)
        number = submit(folder, asked, slurm_queue.job_name(self._home), len(jobs))
        for index, job in enumerate(jobs.values()):
            job.number, job.gone_since = f"{number}_{index}", None
            job.submitted += 1
        Submission(*about, number=number).write(folder)
        for job in jobs.values():
            write_submitted(job.folder, job.number, folder)
        self._asked_slurm = time.monotonic()

    def _over(self) -> list[Ended]:
        """Jobs that Slurm says are over, or knows no more, and that left no word of their end."""
        try:
            there = slurm_queue.queue(slurm_queue.job_name(self._home))
        except SlurmError:
            return []  # a controller that is being restarted: jobs go on meanwhile
        found = []
        for job_id, job in self._jobs.items():
            queued = there.get(job.number)
            if not job.number or (queued is not None and not queued.over):
                job.gone_since = None
                continue
            ended = ended_of(job_id, job.folder) or self._account(job_id, job, queued)
            found += [ended] if ended else []
        return found

    def _account(self, job_id: str, job: _Job, queued: Queued | None) -> Ended | None:
        """How a job ended that said nothing; ``None`` where word may still come, or it is submitted again."""
        now = time.monotonic()
        job.gone_since = now if job.gone_since is None else job.gone_since
        if (queued is None or queued.state == "COMPLETED") and now - job.gone_since < _SEEN_LATE_S:
            return None
        state = queued.state if queued is not None else "no longer in the queue"
        reason = f" ({queued.reason})" if queued is not None and queued.reason not in ("", "None") else ""
        why = f"Slurm's job {job.number} is {state}{reason}"
        cause = _CAUSES.get(state, "killed")
        if state in _AGAIN:
            attempts = lose(job.folder, job.asked.attempts, why)
            if len(attempts.lost) < job.asked.attempts and job.submitted < job.asked.attempts:
                forget(self._home, job.folder)
                job.number = ""
                return None
            why = attempts.told
        elif cause == "not started" and attempts_of(job.folder, 1).number:
            cause = "killed"
        if state == "FAILED":
            why += _last_line(job)
        return Ended(job_id, -signal.SIGTERM if cause != "not started" else 1, cause, why)


def _check_submitit() -> None:
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise RequestError("--executor slurm needs submitit: pip install 'avbench[slurm]'.") from None


def _cancel_waiting_of_dead_runs(root: Path) -> None:
    """End what runs that died here left waiting in the queue; what is running holds its tasks and is waited for."""
    with contextlib.suppress(SlurmError):
        there = slurm_queue.queue(slurm_queue.job_name(root))
        waiting = {number for number, queued in there.items() if queued.state == "PENDING"}
        dead = {each.number for _, each in submissions(root) if each.run.here and not each.run.alive}
        slurm_queue.cancel(number for number in waiting if number.partition("_")[0] in dead)


def _last_line(job: _Job) -> str:
    """What a job wrote last for Slurm, such as why Python did not start."""
    log = log_of(job.folder)
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() if log else []
    return f": {lines[-1]}" if lines else ""
