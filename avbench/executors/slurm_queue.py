"""Slurm's own commands: what of a run directory is queued or running, cancelling, queueing again.

All Slurm jobs of a run directory have one name, made from its path. So they are found even where whoever submitted
them died before it could write down their numbers.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from avbench.errors import RequestError

COMMANDS = ("sbatch", "squeue", "scancel", "scontrol", "srun")
_TAKES_S = 60.0
_POLL_S = 0.2
#: Jobs in these states will do nothing more; a job that has left the queue counts as one that is through.
_OVER = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)


class SlurmError(Exception):
    """A command of Slurm failed; the text is what it said."""


@dataclass(frozen=True)
class Queued:
    """A job as ``squeue`` shows it: ``state`` such as ``PENDING``, and Slurm's ``reason``."""

    state: str
    reason: str

    @property
    def over(self) -> bool:
        return self.state in _OVER


def check_there() -> None:
    """Refuse a machine without Slurm.

    Raises:
        RequestError: a command is absent, or no controller answers.
    """
    absent = [name for name in COMMANDS if shutil.which(name) is None]
    if absent:
        raise RequestError(
            f"--executor slurm: {', '.join(absent)} not found on PATH; start the run on a login node of a cluster, or "
            "use --executor local."
        )
    try:
        queue("avbench")
    except SlurmError as error:
        raise RequestError(
            f"--executor slurm: Slurm does not answer ({error}); look at sinfo, or use --executor local."
        ) from None


def job_name(root: Path) -> str:
    """The name of all Slurm jobs of a run directory."""
    return "avbench-" + hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]


def queue(name: str) -> Mapping[str, Queued]:
    """My jobs of this name by their numbers, ``ARRAY_INDEX``; also those that ended a short while ago.

    Raises:
        SlurmError: the controller does not answer.
    """
    shown = _ask("squeue", "--me", f"--name={name}", "--array", "--states=all", "--noheader", "--format=%i|%T|%r")
    found = {}
    for line in shown.splitlines():
        number, _, rest = line.strip().partition("|")
        state, _, reason = rest.partition("|")
        if number and state:
            found[number] = Queued(state, reason)
    return found


def cancel(numbers: Iterable[str]) -> None:
    """End jobs, queued or running; those that are over already are none of a fault.

    Raises:
        SlurmError: the controller does not answer.
    """
    chosen = sorted(numbers)
    if chosen:
        _ask("scancel", "--quiet", *chosen)


def cancel_all(name: str, within_s: float) -> int:
    """End my jobs of this name, and wait until they are gone, or for so long; how many there were.

    Raises:
        SlurmError: the controller does not answer.
    """
    going = {number for number, queued in queue(name).items() if not queued.over}
    end_together(going, name, within_s)
    return len(going)


def end_together(numbers: Iterable[str], name: str, within_s: float) -> None:
    """End jobs of this name, and wait until they are gone, or for so long.

    Raises:
        SlurmError: the controller does not answer.
    """
    left = set(numbers)
    cancel(left)
    deadline = time.monotonic() + within_s
    while left and time.monotonic() < deadline:
        there = queue(name)
        left = {number for number in left if number in there and not there[number].over}
        time.sleep(_POLL_S)


def requeue(number: str) -> None:
    """Queue a running job again, which ends it.

    Raises:
        SlurmError: Slurm refuses.
    """
    _ask("scontrol", "requeue", number)


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=_TAKES_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SlurmError(f"{command[0]}: {error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise SlurmError(said[0] if said else f"{command[0]} ended with status {done.returncode}")
    return done.stdout
