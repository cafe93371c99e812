"""The contract of an executor plugin: take job folders, run them somewhere, say which have ended."""

from __future__ import annotations

import signal
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from avbench.dataset import NoOptions
from avbench.executors.gpus import Gpu

#: Why a job was ended, where that is known: records carry it as ``error.cause``.
Cause = Literal["", "time limit", "memory limit", "out of memory", "killed", "not started", "taken over"]


@dataclass(frozen=True)
class Resources:
    """What an executor may use, and what each job may.

    Attributes:
        slots: jobs at once.
        device: ``"cpu"`` or ``"cuda"``.
        threads: CPU threads of each job.
        timeout_s: seconds that a job may run; the executor ends one that takes longer.
        memory_mib: memory of its own that a job may take, without what it maps from files; likewise.
        gpus: the GPUs of this machine that jobs may use, each job one of them; empty for what there is.
        gpu_memory_mib: memory of its GPU that a job declares to need, so that several may share one.
    """

    slots: int
    device: str
    threads: int
    timeout_s: float | None = None
    memory_mib: float | None = None
    gpus: tuple[Gpu, ...] = ()
    gpu_memory_mib: float | None = None


@dataclass(frozen=True)
class Ended:
    """A job that ended: by itself with a status, or killed (a negative signal number, as subprocess has it)."""

    job_id: str
    status: int
    cause: Cause = ""
    detail: str = ""

    @property
    def reason(self) -> str:
        """Why its unfinished tasks failed, and what to do about it."""
        after = f" ({self.detail})" if self.detail else ""
        if self.cause == "time limit":
            return f"the job was ended at its time limit{after}; --retry-failed goes on from its checkpoint"
        if self.cause in ("memory limit", "out of memory"):
            who = "at its memory limit" if self.cause == "memory limit" else "by the kernel, which was out of memory"
            return f"the worker was killed {who}{after}; try fewer --jobs or a smaller --micro-batch"
        if self.cause == "not started":
            return f"the job could not be started{after}"
        if self.status < 0:
            return f"the worker was killed by signal {-self.status} ({signal_name(-self.status)}){after}"
        return f"the worker ended with status {self.status} before this task was finished{after}"


def signal_name(number: int) -> str:
    """A signal's name; "unknown" where this system has none of that number."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


class Executor(ABC):
    """Runs jobs. The coordinator asks whether there is room, starts a job, and asks again and again what ended.

    One with options of its own declares ``Config`` and is made as ``Executor(resources, config)``.
    """

    version: ClassVar[int] = 1
    Config: ClassVar[type] = NoOptions
    #: Whether it heeds ``gpus`` and ``gpu_memory_mib``; a run that gives them is refused otherwise.
    places_gpus: ClassVar[bool] = False
    #: Whether jobs run on other machines: the device is then not looked for on this one.
    devices_elsewhere: ClassVar[bool] = False

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    @abstractmethod
    def has_room(self) -> bool:
        """Whether a job could be started now."""

    @abstractmethod
    def start(self, job_id: str, folder: Path) -> None:
        """Start the job whose ``spec.json`` lies in ``folder``.

        Raises:
            OSError: it can't be started; the run records its tasks as failed and goes on.
        """

    @abstractmethod
    def ended(self) -> list[Ended]:
        """Jobs that ended since the last call. Also holds the running ones to their limits."""

    def end(self, job_id: str) -> None:
        """End a running job that another run has taken over; ``ended`` then gives it the cause ``"taken over"``.

        An executor that can't do so lets it run: what it makes has the same bits as what the other run makes.
        """

    @abstractmethod
    def stop(self) -> None:
        """End all running jobs and wait until they are gone."""
