"""What ``avbench run`` does once its options are read: plan, execute, show. Imports torch."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import typer

from avbench import plugins
from avbench.cli.progress import preparation, watching
from avbench.coordinator import Coordinator, Outcome
from avbench.data.prepare import ensure
from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.executors.base import Resources
from avbench.grammar import Variant, parse_variants
from avbench.hooks import Hooks
from avbench.jobs import Engine
from avbench.plan import MODALITIES, Plan, Request, make_plan
from avbench.report.board import Board, Planned, build_boards
from avbench.report.render import to_json, to_markdown, to_table
from avbench.results import RunDirectory

SOME_FAILED = 3


def prepared(text: str, data: Path) -> tuple[StoreInfo, ...]:
    """The stores that ``--dataset`` names, embedded ones prepared where they are absent."""
    variants = parse_variants(text, "--dataset")
    options = [v.label for v in variants if v.options]
    if options:
        raise RequestError(f"--dataset {options[0]}: options belong to avbench prepare; a run takes the store's name.")
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
    executor_type = plugins.load("executors", executor_name).target
    directory = RunDirectory(out)
    plan = make_plan(request, directory)
    if dry_run:
        _show_plan(plan, as_json)
        return 0
    _check_writable(out)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    slots = jobs or (1 if engine.device == "cuda" else max(1, cores // engine.threads))
    _announce(plan, engine, slots)
    outcome = Outcome()
    if plan.jobs:
        executor = executor_type(Resources(slots, engine.device, engine.threads))
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
    rows = [
        {"job": job.id, "kind": job.kind, "task": task.title, "key": task.key, "state": "to do"}
        for job in plan.jobs
        for task in job.tasks
    ]
    rows += [{"job": "", "kind": t.kind, "task": t.title, "key": t.key, "state": "failed"} for t in plan.failed]
    rows += [{"job": "", "kind": t.kind, "task": t.title, "key": t.key, "state": "stranded"} for t in plan.stranded]
    done = [
        {"job": "", "kind": kind, "task": title, "key": key, "state": "cached"}
        for kind, title, key in _grid_tasks(plan)
        if key in plan.done
    ]
    if as_json:
        typer.echo(json.dumps({"tasks": done + rows, "disk_bytes": plan.disk_bytes}, indent=2))
        return
    for row in done + rows:
        typer.echo(f"{row['state']:8}  {row['kind']:12}  {row['job'] or '–':26}  {row['task']}")
    typer.echo(
        f"{len(done)} tasks cached, {len(rows)} to do in {len(plan.jobs)} jobs; "
        f"about {plan.disk_bytes / 1e6:.1f} MB of disk."
    )


def _grid_tasks(plan: Plan) -> list[tuple[str, str, str]]:
    distil = [("distil", cell.name, cell.key) for cell in plan.cells]
    return distil + [(task.kind, task.title, task.key) for task in plan.evaluations]


def _show_results(boards: Sequence[Board], outcome: Outcome, plan: Plan, out: Path, as_json: bool) -> None:
    failures = {**outcome.failed, **{task.title: "failed before" for task in plan.failed}}
    stranded = {**outcome.stranded, **{task.title: "needs what failed before" for task in plan.stranded}}
    if as_json:
        plain = {
            "boards": json.loads(to_json(boards)),
            "failed": failures,
            "stranded": stranded,
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
    for title, reason in failures.items():
        print(f"failed: {title}: {reason}", file=sys.stderr)
    if stranded:
        print(f"{len(stranded)} tasks could not run because of these failures.", file=sys.stderr)
