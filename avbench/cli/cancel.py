"""``avbench cancel``: end the runs of a directory, and what they left in a cluster's queue."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.places import check_run_directory

if TYPE_CHECKING:
    from avbench.runs import Announcement

_NOT_ENDED = 3
_POLL_S = 0.1


def cancel(
    directory: Path = typer.Argument(help="A run directory."),
    within_s: float = typer.Option(60.0, min=0.0, help="Seconds to wait until they have ended."),
) -> None:
    """End what is running there, in order: the same avbench run goes on later where it stopped."""
    from avbench.evidence import Evidence

    check_run_directory(directory)
    evidence = Evidence(directory)
    evidence.look()
    open_runs = [run for run in evidence.announcements if run.ended_s is None]
    told = [(run, _tell(run)) for run in open_runs if run.process.here and run.process.alive]
    beyond = [run for run in open_runs if not run.process.here] + [run for run, ours in told if not ours]
    left = [_awaited(run, within_s) for run, ours in told if ours]
    for run in beyond:
        typer.echo(_advice(run, directory), err=True)
    ended = sum(left)
    jobs = 0 if beyond else _cancel_jobs(directory, within_s)
    if ended or jobs:
        typer.echo(f"{_count(ended, 'run')} and {_count(jobs, 'job')} left in Slurm ended.", err=True)
    elif not (left or beyond):
        typer.echo(f"Nothing runs in {directory}.", err=True)
    raise typer.Exit(0 if all(left) and not beyond else _NOT_ENDED)


def _tell(run: Announcement) -> bool:
    """Tell a run on this machine to stop as Ctrl-C would; false where it is another user's."""
    try:
        os.kill(run.process.process, signal.SIGTERM)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError:
        return False
    return True


def _awaited(run: Announcement, within_s: float) -> bool:
    """Wait for a run that was told to stop; whether it has ended."""
    deadline = time.monotonic() + within_s
    while run.process.alive:
        if time.monotonic() > deadline:
            typer.echo(f"process {run.process.process} has not ended after {within_s:g} s.", err=True)
            return False
        time.sleep(_POLL_S)
    return True


def _advice(run: Announcement, directory: Path) -> str:
    from avbench.executors.slurm_queue import job_name

    if run.process.here:
        return (
            f"process {run.process.process} is another user's run, which only that user can end: ask for "
            f"avbench cancel {directory} under that name."
        )
    return (
        f"a run was started as process {run.process.process} on {run.process.host}, which can't be ended from this "
        f"machine: run avbench cancel {directory} there. Should that machine be gone for good, its Slurm jobs are "
        f"ended by: scancel --me --name={job_name(directory)}"
    )


def _cancel_jobs(directory: Path, within_s: float) -> int:
    """End the Slurm jobs that runs of this directory have left; how many there were.

    Raises:
        RequestError: there may be some, and Slurm does not answer.
    """
    from avbench.errors import RequestError
    from avbench.executors import slurm_queue
    from avbench.executors.slurm_files import submissions

    if not any(submissions(directory)):
        return 0
    try:
        return slurm_queue.cancel_all(slurm_queue.job_name(directory), within_s)
    except slurm_queue.SlurmError as error:
        raise RequestError(
            f"{directory} has jobs in Slurm, which does not answer here ({error}); run this on a login node."
        ) from None


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
