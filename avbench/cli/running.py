"""What ``avbench run`` does once its options are read: plan, execute, show. Imports torch."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import typer

from avbench.cli.parsing import resolve_device
from avbench.cli.progress import watching
from avbench.coordinator import Coordinator, Mishap, Outcome
from avbench.diagnosis import cores
from avbench.errors import RequestError
from avbench.executors.base import Resources
from avbench.executors.choosing import choose as choose_executor
from avbench.executors.gpus import Gpu, parse_gpus, places_on, seen_gpus
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import DistilTask, Engine, Task
from avbench.plan import Plan, make_plan
from avbench.report.board import Board, Planned, build_boards
from avbench.report.render import to_json, to_markdown, to_table
from avbench.report.scores import BoardKey, board_key
from avbench.results import RunDirectory
from avbench.shards import cut
from avbench.tuning import choose, open_trials

SOME_FAILED = 3


@dataclass(frozen=True)
class Limits:
    """What each job may take; ``None`` for as much as there is. ``gpu_memory_mib`` is held to only on ``How.gpus``."""

    timeout_s: float | None = None
    memory_mib: float | None = None
    gpu_memory_mib: float | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True)
class How:
    """Where and with what a plan is carried out.

    Attributes:
        jobs: at once; ``None`` for what the machine has.
        gpus: those that jobs may use, one each; empty for what there is.
        shards: jobs by class into which each distil job is cut, where its method allows it.
    """

    engine: Engine
    out: Path
    data: Path
    executor: str = "local"
    jobs: int | None = None
    limits: Limits = NO_LIMITS
    hooks: tuple[str, ...] = ()
    as_json: bool = False
    gpus: tuple[Gpu, ...] = ()
    shards: int = 1

    def check(self) -> None:
        """Refuse unknown plugins and a folder that can't be written, before anything is planned or done.

        Raises:
            AvbenchError: says which.
        """
        Hooks(self.hooks)
        places_gpus = getattr(choose_executor(self.executor).target, "places_gpus", False)
        if self.gpus and not places_gpus:
            raise RequestError(
                f"--gpus: the executor {self.executor!r} chooses devices itself; leave --gpus out, or use "
                "--executor local."
            )
        if self.limits.gpu_memory_mib is not None and not self.gpus:
            raise RequestError("--gpu-memory-mib says how many jobs share a GPU of --gpus; give both, or neither.")
        places_on(self.gpus, self.limits.gpu_memory_mib)

    @property
    def slots(self) -> int:
        """Jobs at once."""
        if self.gpus:
            places = places_on(self.gpus, self.limits.gpu_memory_mib)
            most = places if self.limits.gpu_memory_mib is not None else self.jobs or places
            return min(self.jobs or most, most)
        return self.jobs or (1 if self.engine.device == "cuda" else max(1, cores() // self.engine.threads))


def gpus_of(text: str, device: str) -> tuple[Gpu, ...]:
    """The GPUs that ``--gpus`` names; none for "".

    Raises:
        RequestError: they are not there, or ``--device`` says otherwise.
    """
    if not text:
        return ()
    if device not in ("auto", "cuda"):
        raise RequestError(f"--gpus {text!r} means --device cuda, but --device {device!r} was given; leave one out.")
    return parse_gpus(text, seen_gpus())


def device_of(text: str, executor: str) -> str:
    """The device that ``--device`` means for the jobs of an executor.

    Raises:
        RequestError: there is no such device, and jobs run here.
        PluginError: there is no such executor.
    """
    elsewhere = choose_executor(executor).target.devices_elsewhere
    return text if elsewhere and text == "cuda" else resolve_device(text)


def plan_run(request: Request, how: How, dry_run: bool) -> int:
    """``avbench run``: choose what is to be chosen, plan, and carry it out or show it; returns the exit status."""
    directory = RunDirectory(how.out)
    while (trials := open_trials(request, directory)) is not None:
        if trials.plan.jobs and dry_run:
            show_plan(trials.plan, how.as_json)
            print("The rest follows from what is chosen on the validation split.", file=sys.stderr)
            return 0
        if trials.plan.jobs:
            print("Values are tried on the validation split:", file=sys.stderr)
            _execute(cut(trials.plan, directory, how.shards), how)
        choices = [choose(trial, directory) for trial in trials.trials]
        for choice in choices:
            print(choice.text, file=sys.stderr)
            if not dry_run:
                choice.write(directory)
        request = replace(
            request, choices={**request.choices, **{each.trial.point.place: each.value for each in choices}}
        )
    plan = make_plan(request, directory)
    if dry_run:
        show_whole(plan, how)
        return 0
    return carry_out(plan, how)


def show_whole(plan: Plan, how: How) -> None:
    """A dry run: the plan as it would be carried out, and what its user should know of it."""
    plan = cut(plan, RunDirectory(how.out), how.shards)
    show_plan(plan, how.as_json)
    _tell_notes(plan)


def carry_out(plan: Plan, how: How) -> int:
    """Run what remains, print the board; returns the exit status."""
    plan = cut(plan, RunDirectory(how.out), how.shards)
    _tell_notes(plan)
    outcome = _execute(plan, how)
    boards = build_boards([RunDirectory(how.out)], {cell.key for cell in plan.cells}, planned_boards(plan))
    _show_results(boards, outcome, plan, how.out, how.as_json)
    return SOME_FAILED if outcome.failed or outcome.stranded or plan.failed or plan.stranded else 0


def planned_boards(plan: Plan) -> dict[BoardKey, Planned]:
    """How many seeds and networks make a row complete on each board of a plan; the most where its blocks differ."""
    found: dict[BoardKey, Planned] = {}
    for task in plan.evaluations:
        cell, by = task.cell, task.judged_by
        ways = [asdict(each) for each in (by.protocol, by.architecture, by.fusion)]
        key = board_key(cell.fingerprint, cell.precision, ways)
        known = found.get(key, Planned(0, 0))
        found[key] = Planned(max(known.seeds, cell.planned_seeds), max(known.networks, task.networks))
    return found


def _execute(plan: Plan, how: How) -> Outcome:
    """Run what remains."""
    check_writable(how.out)
    engine, limits = how.engine, how.limits
    slots = how.slots
    _announce(plan, engine, slots)
    if not plan.jobs:
        return Outcome()
    chosen, hooks = choose_executor(how.executor), Hooks(how.hooks)
    each = (limits.timeout_s, limits.memory_mib, how.gpus, limits.gpu_memory_mib)
    executor = chosen.build(Resources(slots, engine.device, engine.threads, *each))
    with watching(plan, slots) as listener:
        argv = ("avbench", *sys.argv[1:])
        return Coordinator(plan, RunDirectory(how.out), how.data, executor, engine, argv, hooks, listener).run()


def _tell_notes(plan: Plan) -> None:
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)


def check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RequestError(f"--out {out}: can't be written ({error.strerror}); choose another folder.") from None


def _announce(plan: Plan, engine: Engine, slots: int) -> None:
    grids = {
        f"{task.cell.dataset}: preset {task.cell.preset}, {task.cell.planned_seeds} seeds × {task.networks} networks"
        for task in plan.evaluations
    }
    print(
        f"{len(plan.cells)} cells ({'; '.join(sorted(grids))}), "
        f"{len(plan.done)} tasks done before, {sum(len(job.tasks) for job in plan.jobs)} to do in "
        f"{len(plan.jobs)} jobs, {slots} at once on {engine.device}.",
        file=sys.stderr,
    )
    if plan.retried:
        print(f"{plan.retried} tasks failed before and are tried again.", file=sys.stderr)
    if plan.failed:
        print(
            f"{len(plan.failed)} tasks failed before and are left alone; --retry-failed tries them again.",
            file=sys.stderr,
        )


def show_plan(plan: Plan, as_json: bool) -> None:
    grid: list[Task] = [*plan.prerequisites, *plan.shards, *map(DistilTask, plan.cells), *plan.evaluations]
    states: list[tuple[str, str, Task]] = [("cached", "", task) for task in grid if task.key in plan.done]
    states += [("to do", job.id, task) for job in plan.jobs for task in job.tasks]
    states += [("failed", "", task) for task in plan.failed]
    states += [("stranded", "", task) for task in plan.stranded]
    counts = Counter(state for state, _, _ in states)
    if as_json:
        rows = [
            {"job": job, "kind": task.kind, "task": task.title, "key": task.key, "state": state}
            for state, job, task in states
        ]
        numbers = {state: counts[state] for state in ("cached", "to do", "failed", "stranded")}
        typer.echo(json.dumps({"tasks": rows, "counts": numbers, "disk_bytes": plan.disk_bytes}, indent=2))
        return
    for state, job, task in states:
        typer.echo(f"{state:8}  {task.kind:12}  {job or '–':26}  {task.title}")
    typer.echo(
        f"{counts['cached']} tasks cached, {counts['to do']} to do in {len(plan.jobs)} jobs, {counts['failed']} failed "
        f"before, {counts['stranded']} stranded by them; about {plan.disk_bytes / 1e6:.1f} MB of disk."
    )


def _show_results(boards: Sequence[Board], outcome: Outcome, plan: Plan, out: Path, as_json: bool) -> None:
    failures = [*outcome.failed.values(), *(Mishap(task.title, "failed before") for task in plan.failed)]
    needing = (Mishap(task.title, "needs what failed before") for task in plan.stranded)
    stranded = [*outcome.stranded.values(), *needing]
    if as_json:
        plain = {
            "boards": json.loads(to_json(boards)),
            "failed": [asdict(mishap) for mishap in failures],
            "stranded": [asdict(mishap) for mishap in stranded],
            "results": str(out.resolve()),
        }
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
    elif sys.stdout.isatty():
        from rich.console import Console

        console = Console()
        for board in boards:
            console.print(to_table(board, console.width))
        typer.echo(f"results: {out.resolve()}")
    else:
        typer.echo(to_markdown(boards))
        typer.echo(f"results: {out.resolve()}")
    for mishap in failures:
        print(f"failed: {mishap.title}: {mishap.reason}", file=sys.stderr)
    if stranded:
        print(f"{len(stranded)} tasks could not run because of these failures.", file=sys.stderr)
