"""``avbench logs``: what the worker of a job wrote, and what became of its attempts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.places import check_run_directory

if TYPE_CHECKING:
    from avbench.evidence import JobFolder


def logs(
    job: str = typer.Argument(help="A job: the start of its name, or words of a task's title such as 'dm ave ipc 10'."),
    out: Path = typer.Option(Path("runs"), help="The run directory; it is only read."),
    every: bool = typer.Option(False, "--all", help="All attempts of runs at the job, not the last one alone."),
) -> None:
    """Print the logs of jobs; of jobs on a cluster also what it wrote itself."""
    from avbench.evidence import Evidence

    check_run_directory(out)
    evidence = Evidence(out)
    evidence.look()
    for found in _chosen(list(evidence.jobs.values()), job, out, every):
        _show(found)


def _chosen(jobs: list[JobFolder], wanted: str, out: Path, every: bool) -> list[JobFolder]:
    """Those that were meant, the oldest first."""
    from avbench.errors import RequestError, nearest

    if not jobs:
        raise RequestError(f"{out} has no jobs: nothing was run there, or its folder jobs/ was removed.")
    by_name = [each for each in jobs if wanted and each.path.name.startswith(wanted)]
    found = by_name or [each for each in jobs if any(_means(wanted, task.title) for task in each.tasks.values())]
    if not found:
        known = {each.path.name for each in jobs} | {task.title for each in jobs for task in each.tasks.values()}
        raise RequestError(f"{out} has no job {wanted!r}; {nearest(wanted, known)}")
    found.sort(key=lambda each: (_began_s(each.path), each.path.name))
    # The same job, started again or by several runs: a folder is named after the job, which start it is, and the run.
    last = {each.path.name.rsplit("-", 2)[0].partition(".")[0]: each for each in found}
    return found if every else [each for each in found if each in last.values()]


def _means(wanted: str, title: str) -> bool:
    """Whether all the words are in a title; a number is not a part of another one."""
    words = title.lower().replace(",", " ").split()
    return bool(wanted.split()) and all(
        part in words or (not part.isdigit() and any(part in word for word in words)) for part in wanted.lower().split()
    )


def _began_s(folder: Path) -> float:
    try:
        return (folder / "spec.json").stat().st_mtime
    except OSError:
        return 0.0


def _show(job: JobFolder) -> None:
    """The texts on stdout; which job they are of on stderr."""
    from avbench.executors.slurm_files import log_of, read_json

    titles = ", ".join(task.title for task in job.tasks.values())
    typer.echo(f"{job.path.name}: {titles}", err=True)
    for lost in read_json(job.path / "attempts.json", list):
        if isinstance(lost, dict):
            told = f"attempt {lost.get('attempt')} on {lost.get('host')} was lost: {lost.get('why')}"
            typer.echo(told, err=True)
    wrote = False
    for path in filter(None, (job.path / "log.txt", log_of(job.path))):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        wrote = wrote or bool(text)
        typer.echo(text, nl=False)
    if not wrote:
        typer.echo("It wrote nothing: a worker writes only what goes wrong.", err=True)
