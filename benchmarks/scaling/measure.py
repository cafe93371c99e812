"""How a run scales: real workers on this machine, and its coordinator alone with simulated jobs.

Command: ``python benchmarks/scaling/measure.py``; ``--only workers,shards,overhead,slots`` does a part,
``--jobs N`` changes how many jobs the coordinator is measured with. Tables go to stdout and, with the hardware, into
``benchmarks/scaling/results/DATE.json``. It takes about 12 minutes on two cores.

workers    a grid of dm on the embedded dataset, with 1 and 2 jobs at once
shards     one cell of dm in 1 and 2 class shards, 2 jobs at once
overhead   the coordinator's time a job, when jobs take no time: claims, specifications, events, records looked at
slots      jobs of given durations on 1 to 64 slots: how much of the slots' time is work
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simulated import Beside, Simulated, request
from tabulate import tabulate

from avbench.coordinator import Coordinator
from avbench.executors.base import Executor
from avbench.hooks import Hooks
from avbench.jobs import Engine
from avbench.plan import make_plan
from avbench.results import RunDirectory

HERE = Path(__file__).resolve().parent
SLOTS = (1, 2, 4, 8, 16, 32, 64)
#: A few jobs a slot, whose durations differ as those of cells do: log-normal about a median, in seconds.
JOBS_PER_SLOT, MEDIAN_S, SPREAD = 8, {"distil": 2.0, "evaluate": 0.5}, 0.5
#: One step of dm on the embedded dataset takes about 40 ms of a core.
GRID = ("--dataset", "avdigits", "--ipc", "1", "--networks", "1", "--device", "cpu", "--threads", "1")
GRID += ("--set", "convnet.width=16", "--set", "recognition-quick.updates=100")
Row = dict[str, Any]


def machine() -> dict[str, Any]:
    """The hardware. How many processes wanted its cores before a measurement, others' too, stands in the tables."""
    cpu = platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    return {"cores": len(os.sched_getaffinity(0)), "cpu": cpu}


def command(data: Path, out: Path, *more: str) -> float:
    """Seconds that ``avbench run`` takes.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    began = time.monotonic()
    places = ("--data", str(data), "--out", str(out))
    done = subprocess.run(
        [sys.executable, "-c", "from avbench.cli import main; main()", "run", *GRID, *more, *places],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return time.monotonic() - began


def in_jobs_s(out: Path) -> float:
    """Seconds that workers spent on tasks, from their records: without their start."""
    records = [record for kind in ("shard", "distil", "evaluate") for record in RunDirectory(out).records(kind)]
    return float(sum(record["duration_s"] for record in records))


def workers(data: Path, scratch: Path) -> list[Row]:
    """The same grid with one job at once, and with two."""
    rows: list[Row] = []
    for at_once in (1, 2):
        out = scratch / f"workers{at_once}"
        asked = ("--method", "dm", "--seeds", "4", "--set", "dm.steps=150", "--jobs", str(at_once))
        load = os.getloadavg()[0]
        took_s = command(data, out, *asked)
        rows.append({"jobs at once": at_once, "wall s": took_s, "in tasks s": in_jobs_s(out), "load before": load})
    return _with_efficiency(rows, "jobs at once")


def shards(data: Path, scratch: Path) -> list[Row]:
    """One cell whole, and cut into two shards that are distilled at once."""
    rows: list[Row] = []
    for count in (1, 2):
        out = scratch / f"shards{count}"
        asked = ("--method", "dm", "--seeds", "1", "--set", "dm.steps=400", "--jobs", "2", "--shards", str(count))
        load = os.getloadavg()[0]
        took_s = command(data, out, *asked)
        rows.append({"shards": count, "wall s": took_s, "load before": load})
    return _with_efficiency(rows, "shards")


def _with_efficiency(rows: list[Row], count: str) -> list[Row]:
    for row in rows:
        row["efficiency"] = rows[0]["wall s"] / (row["wall s"] * row[count])
    return rows


def simulate(seeds: int, executor: Executor, scratch: Path) -> Row:
    """A plan of two jobs a seed, carried out by the real coordinator on simulated workers.

    Raises:
        RuntimeError: not all was done.
    """
    load = os.getloadavg()[0]
    out = RunDirectory(Path(tempfile.mkdtemp(dir=scratch)))
    began = time.monotonic()
    plan = make_plan(request(seeds), out)
    planned = time.monotonic()
    outcome = Coordinator(plan, out, scratch, executor, Engine(), (), Hooks(), lambda event: None).run()
    took_s = time.monotonic() - planned
    if len(outcome.done) != 2 * seeds or len(plan.jobs) != 2 * seeds:
        raise RuntimeError(f"{len(outcome.done)} of {2 * seeds} tasks are done")
    row = {"jobs": len(plan.jobs), "slots": executor.resources.slots, "load before": load}
    return row | {"plan s": planned - began, "wall s": took_s}


def overhead(jobs: int, scratch: Path) -> list[Row]:
    """The coordinator's time a job, growing with the number of jobs or not. It never sleeps: jobs end at once."""
    rows = []
    for count in sorted({max(2, jobs // 10), jobs}):
        executor = Simulated(64)
        row = simulate(count // 2, executor, scratch)
        row["ms a job"] = 1e3 * (row["wall s"] - executor.own_s) / row["jobs"]
        rows.append(row | {"jobs a second": 1e3 / row["ms a job"]})
    return rows


def slots(scratch: Path) -> list[Row]:
    """Work grows with the slots; the ideal is the sum of durations over the slots."""
    simulate(4, Simulated(1), scratch)  # what is imported or asked for once
    rows = []
    for count in SLOTS:
        draw = random.Random(0)
        executor = Beside(count, lambda kind, draw=draw: draw.lognormvariate(0, SPREAD) * MEDIAN_S[kind])
        row = simulate(count * JOBS_PER_SLOT // 2, executor, scratch)
        row["ideal s"] = executor.worked_s / count
        rows.append(row | {"efficiency": row["ideal s"] / row["wall s"]})
    return rows


def main() -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="workers,shards,overhead,slots")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=None, help="a data folder that holds avdigits; else it is built")
    asked = parser.parse_args()
    found: dict[str, Any] = {"date": time.strftime("%Y-%m-%d"), "machine": machine()}
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = asked.data or scratch / "data"
        parts: dict[str, Callable[[], list[Row]]] = {
            "workers": lambda: workers(data, scratch),
            "shards": lambda: shards(data, scratch),
            "overhead": lambda: overhead(asked.jobs, scratch),
            "slots": lambda: slots(scratch),
        }
        for name in asked.only.split(","):
            if name not in parts:
                parser.error(f"--only {name}: expected some of {', '.join(parts)}")
            found[name] = parts[name]()
            print(
                f"\n## {name}\n\n{tabulate(found[name], headers='keys', floatfmt='.3g', tablefmt='github')}", flush=True
            )
    path = HERE / "results" / f"{found['date']}.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
