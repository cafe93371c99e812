"""Re-evaluation: recorded sets are judged again, by the very tasks, workers and coordinator of a run."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avbench import plugins
from avbench.coordinator import Coordinator, Listener, Outcome
from avbench.data.store import StoreInfo, available, read_info
from avbench.errors import RequestError, nearest
from avbench.executors.base import Resources
from avbench.grid import Planned
from avbench.hooks import Hooks
from avbench.jobs import Engine, EvaluateTask
from avbench.plan import Plan, plan_cells
from avbench.presets import PRESETS
from avbench.results import RunDirectory
from avbench.verification import rebuild
from avbench.verification.agreement import DIFFERS, Repeated, Verdict, compare
from avbench.verification.files import TENSORS
from avbench.verification.integrity import Results


@dataclass(frozen=True)
class Wanted:
    """Which evaluations are done again, and with how many of their networks.

    Attributes:
        only: keys of evaluate or distil records; empty for all.
        sample: so many, drawn with ``seed``; ``None`` for all.
        networks: the first so many of each; ``None`` for all.
    """

    only: tuple[str, ...] = ()
    sample: int | None = None
    seed: int = 0
    networks: int | None = None


@dataclass(frozen=True)
class Bench:
    """Where and with what evaluations are done again.

    Attributes:
        scratch: a run directory for them, in which an interrupted verification goes on.
        watch: gives a listener for the coordinator's events.
    """

    data: Path
    scratch: Path
    engine: Engine
    slots: int
    argv: tuple[str, ...]
    watch: Callable[[Plan, int], AbstractContextManager[Listener]]


def reevaluate(results: Results, wanted: Wanted, bench: Bench) -> list[Verdict]:
    """Judge recorded sets again and compare; what differs or can't be done becomes a problem of the findings.

    Raises:
        RequestError: an unknown key, or nothing that could be judged again: no store, no artefact.
    """
    if bench.scratch.resolve() == results.root.resolve():
        raise RequestError(f"--out {bench.scratch} is what is verified: give another folder.")
    stores = _stores(bench.data)
    keys = _draw(_possible(results, _chosen(results, wanted.only), stores, bench.data), wanted)
    scratch = RunDirectory(bench.scratch)
    tasks = {key: _task(results, key, stores, wanted.networks) for key in keys}
    for key, task in tasks.items():
        _lend(results, key, task, scratch)
    planned = [Planned(task.cell, None, True, PRESETS[task.cell.preset].bundle, (), (task,)) for task in tasks.values()]
    outcome = _run(plan_cells(planned, scratch, stores.values(), retry_failed=True), scratch, bench)
    repeated = []
    for key, task in tasks.items():
        found = scratch.record("evaluate", task.record_key(results.evaluate[key]["set_hash"]))
        if found is None or found["status"] != "done":
            _fail(results, key, _reason(task, found, outcome))
            continue
        samples = stores[task.cell.fingerprint].size(task.split)
        repeated.append(Repeated(key, results.evaluate[key], found, samples))
    verdicts = compare(repeated)
    for verdict in verdicts:
        results.findings.see("re-evaluation")
        if verdict.verdict == DIFFERS:
            where = f"evaluate/{verdict.key}/record.json"
            results.findings.fail("re-evaluation", where, verdict.text, [verdict.key])
    return verdicts


def _fail(results: Results, key: str, reason: str) -> None:
    """What failed here, for want of memory or of a plugin, makes nobody's record suspect."""
    results.findings.see("re-evaluation")
    where = f"evaluate/{key}/record.json"
    results.findings.fail("re-evaluation", where, f"could not be judged again: {reason}")


def _reason(task: EvaluateTask, found: dict[str, Any] | None, outcome: Outcome) -> str:
    mishap = outcome.failed.get(task.key) or outcome.stranded.get(task.key)
    if mishap is not None:
        return mishap.reason
    return str(found["error"]["reason"]) if found is not None else "it has no result"


# --- which --------------------------------------------------------------------------------------------------------


def _chosen(results: Results, only: Sequence[str]) -> list[str]:
    """Keys of the finished evaluations asked for."""
    done = {key: record for key, record in results.evaluate.items() if record["status"] == "done"}
    known = done.keys() | {record["distil_key"] for record in done.values()}
    for key in only:
        if key not in known:
            raise RequestError(f"--only {key}: no finished evaluation or cell of {results.root}; {nearest(key, known)}")
    return [key for key, record in done.items() if not only or {key, record["distil_key"]} & set(only)]


def _possible(results: Results, keys: Sequence[str], stores: dict[str, StoreInfo], data: Path) -> list[str]:
    """Those that pass integrity, whose artefact is here and whose store is prepared; notes what of them is not."""
    left: dict[str, int] = {}
    found = []
    for key in keys:
        record = results.evaluate[key]
        why = ""
        if not results.sound(key):
            why = "integrity failed"
        elif record["dataset"]["fingerprint"] not in stores:
            name, fingerprint = record["dataset"]["name"], record["dataset"]["fingerprint"]
            why = f"no store under {data} has the fingerprint {fingerprint[:12]} of {name!r}"
        elif not (_set_folder(results, key) / TENSORS).is_file():
            why = "the artefact is not here"
        if why:
            left[why] = left.get(why, 0) + 1
        else:
            found.append(key)
    for why, count in left.items():
        results.findings.notes.append(f"{count} evaluations were not done again: {why}.")
    if not found:
        reasons = "; ".join(left) or "there are none"
        raise RequestError(f"none of the evaluations of {results.root} can be done again: {reasons}.")
    return found


def _draw(keys: Sequence[str], wanted: Wanted) -> list[str]:
    if wanted.sample is None or wanted.sample >= len(keys):
        return list(keys)
    return sorted(random.Random(wanted.seed).sample(sorted(keys), wanted.sample))


def _stores(data: Path) -> dict[str, StoreInfo]:
    """The stores under a data folder, by fingerprint: what they are called there does not matter."""
    infos = (read_info(data, name) for name in available(data))
    return {info.fingerprint: info for info in infos}


# --- doing it -----------------------------------------------------------------------------------------------------


def _task(results: Results, key: str, stores: dict[str, StoreInfo], networks: int | None) -> EvaluateTask:
    record = results.evaluate[key]
    count = len(record["result"]["networks"])
    task = rebuild.evaluation(record, results.distil[record["distil_key"]], min(count, networks or count))
    here = stores[task.cell.fingerprint]
    return replace(task, cell=replace(task.cell, dataset=here.name))


def _set_folder(results: Results, key: str) -> Path:
    record = results.evaluate[key]
    task = rebuild.evaluation(record, results.distil[record["distil_key"]], 1)
    return RunDirectory(results.root).set_folder(task.cell.key, task.snapshot)


def _lend(results: Results, key: str, task: EvaluateTask, scratch: RunDirectory) -> None:
    """Copy a set with its record, and given weights, to where workers look for them."""
    cell = task.cell.key
    target = scratch.folder("distil", cell)
    try:
        shutil.copytree(results.root / "distil" / cell, target, dirs_exist_ok=True)
        if (results.root / "weights").is_dir():
            shutil.copytree(results.root / "weights", scratch.root / "weights", dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        raise RequestError(f"--out {scratch.root}: can't be written ({error}); choose another folder.") from None


def _run(plan: Plan, scratch: RunDirectory, bench: Bench) -> Outcome:
    if not plan.jobs:
        return Outcome()
    loaded = plugins.load("executors", "local")
    with plugins.guard(loaded.info, "construction"):
        executor = loaded.target(Resources(bench.slots, bench.engine.device, bench.engine.threads))
    with bench.watch(plan, bench.slots) as listener:
        return Coordinator(plan, scratch, bench.data, executor, bench.engine, bench.argv, Hooks(), listener).run()
