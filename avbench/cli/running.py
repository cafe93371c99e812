"""What ``avbench run`` does once its options are read: plan, execute, show. Imports torch."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import typer

from avbench import plugins
from avbench.cli.progress import preparation, watching
from avbench.coordinator import Coordinator, Mishap, Outcome
from avbench.data.prepare import current, ensure
from avbench.data.store import StoreInfo
from avbench.diagnosis import cores
from avbench.errors import RequestError, nearest
from avbench.executors.base import Resources
from avbench.grammar import Variant, parse_variants
from avbench.grid import MODALITIES, Request
from avbench.hooks import Hooks
from avbench.jobs import DistilTask, Engine, Task
from avbench.plan import Plan, make_plan
from avbench.report.board import Board, Planned, build_boards
from avbench.report.render import to_json, to_markdown, to_table
from avbench.results import RunDirectory

SOME_FAILED = 3


def prepared(text: str, data: Path) -> tuple[StoreInfo, ...]:
    """The stores that ``--dataset`` names; an embedded one that is absent is built, and this is said on stderr."""
    variants = parse_variants(text, "--dataset")
    options = [v.label for v in variants if v.options]
    if options:
        raise RequestError(f"--dataset {options[0]}: options belong to avbench prepare; a run takes the store's name.")
    for name in [v.name for v in variants if current(v.name, data) is None]:
        print(f"dataset {name!r} is not under {data}/ or is outdated: it is built now, once.", file=sys.stderr)
    with preparation() as progress:
        return tuple(ensure(v.name, data, progress) for v in variants)


def parse_ipcs(text: str) -> tuple[int, ...]:
    """``1,10,20`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        if not part.strip().isascii() or not part.strip().isdigit() or int(part) < 1:
            raise RequestError(f"--ipc {text!r}: {part.strip()!r} is not a whole number of at least 1.")
        found.append(int(part))
    if len(set(found)) != len(found):
        raise RequestError(f"--ipc {text!r}: a number is listed twice.")
    return tuple(found)


def parse_modalities(text: str) -> tuple[str, ...]:
    """``a,v,av`` as a tuple."""
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if name not in MODALITIES:
            raise RequestError(f"--modality {text!r}: {nearest(name, MODALITIES)}")
    if len(set(found)) != len(found):
        raise RequestError(f"--modality {text!r}: one is listed twice.")
    return found


def parse_precision(text: str) -> str:
    """A precision by name."""
    if text not in ("float32", "float64"):
        raise RequestError(f"--precision {text!r}: {nearest(text, ('float32', 'float64'))}")
    return text


def single(variants: tuple[Variant, ...], flag: str) -> Variant | None:
    """At most one variant."""
    if len(variants) > 1:
        raise RequestError(f"{flag} takes one architecture.")
    return variants[0] if variants else None


def resolve_device(name: str) -> str:
    """``auto`` becomes the GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise RequestError(f"--device {name!r}: {nearest(name, ('auto', 'cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch sees no CUDA device here; use --device cpu, or look at the driver.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name


def carry_out(
    request: Request,
    engine: Engine,
    out: Path,
    data: Path,
    executor_name: str,
    jobs: int | None,
    hook_names: tuple[str, ...],
    dry_run: bool,
    as_json: bool,
) -> int:
    """Plan, run what remains, print the board; returns the exit status."""
    hooks = Hooks(hook_names)
    loaded = plugins.load("executors", executor_name)
    directory = RunDirectory(out)
    plan = make_plan(request, directory)
    if dry_run:
        _show_plan(plan, as_json)
        return 0
    _check_writable(out)
    slots = jobs or (1 if engine.device == "cuda" else max(1, cores() // engine.threads))
    _announce(plan, engine, slots)
    outcome = Outcome()
    if plan.jobs:
        with plugins.guard(loaded.info, "construction"):
            executor = loaded.target(Resources(slots, engine.device, engine.threads))
        with watching(plan, slots) as listener:
            argv = ("avbench", *sys.argv[1:])
            outcome = Coordinator(plan, directory, data, executor, engine, argv, hooks, listener).run()
    planned = Planned(plan.cells[0].planned_seeds, plan.cells[0].planned_networks)
    boards = build_boards([directory], only={cell.key for cell in plan.cells}, planned=planned)
    _show_results(boards, outcome, plan, out, as_json)
    return SOME_FAILED if outcome.failed or outcome.stranded or plan.failed or plan.stranded else 0


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise RequestError(f"--out {out}: can't be written ({error.strerror}); choose another folder.") from None


def _announce(plan: Plan, engine: Engine, slots: int) -> None:
    cell = plan.cells[0]
    presets = ", ".join(sorted({f"{c.dataset}: preset {c.preset}" for c in plan.cells}))
    networks = ", ".join(sorted({str(task.networks) for task in plan.evaluations}))
    print(
        f"{len(plan.cells)} cells ({presets}; {cell.planned_seeds} seeds × {networks} networks), "
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


def _show_plan(plan: Plan, as_json: bool) -> None:
    grid: list[Task] = [*plan.prerequisites, *map(DistilTask, plan.cells), *plan.evaluations]
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
