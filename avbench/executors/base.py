"""The contract of an executor plugin: take job folders, run them somewhere, say which have ended."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from avbench.dataset import NoOptions


@dataclass(frozen=True)
class Resources:
    """What an executor may use.

    Attributes:
        slots: jobs at once.
        device: ``"cpu"`` or ``"cuda"``.
        threads: CPU threads of each job.
    """

    slots: int
    device: str
    threads: int


@dataclass(frozen=True)
class Ended:
    """A job that ended: by itself with a status, or killed (a negative signal number, as subprocess has it)."""

    job_id: str
    status: int

    @property
    def reason(self) -> str:
        """Why its unfinished tasks failed."""
        if self.status < 0:
            return f"the worker was killed by signal {-self.status}"
        return f"the worker ended with status {self.status} before this task was finished"


class Executor(ABC):
    """Runs jobs. The coordinator asks whether there is room, starts a job, and asks again and again what ended."""

    version: ClassVar[int] = 1
    Config: ClassVar[type] = NoOptions

    def __init__(self, resources: Resources) -> None:
        self.resources = resources

    @abstractmethod
    def has_room(self) -> bool:
        """Whether a job could be started now."""

    @abstractmethod
    def start(self, job_id: str, folder: Path) -> None:
        """Start the job whose ``spec.json`` lies in ``folder``."""

    @abstractmethod
    def ended(self) -> list[Ended]:
        """Jobs that ended since the last call."""

    @abstractmethod
    def stop(self) -> None:
        """End all running jobs and wait until they are gone."""
