"""How long ``avbench leaderboard`` takes over 10,000 records, and its memory, for each format.

Command: ``python benchmarks/speed/boards.py``. 50 variants of dm on 4 stores at 5 IPCs and 5 seeds make 5,000 cells,
each judged once: 10,000 records of the size and shape that a run writes, in a temporary folder. Each format is
rendered by a process of its own, imports included.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avbench.environment import environment
from avbench.results import SCHEMA_VERSION

VARIANTS, STORES, IPCS, SEEDS, NETWORKS = 50, 4, (1, 5, 10, 20, 50), 5, 5
FORMATS = ("md", "html", "latex", "csv", "json")


def reference(name: str, label: str = "", **options: Any) -> dict[str, Any]:
    """A plugin as records name it."""
    origins = dict.fromkeys(options, "class default")
    common = {"distribution": "avbench", "distribution_version": "0.1.0", "origins": origins}
    return {"name": name, "label": label or name, "version": 1, "options": options, **common}


def write(out: Path) -> int:
    """Write all records; returns how many."""
    noise = random.Random(0)
    about = {"argv": ["avbench", "run", "--method", "dm"], "environment": environment(), "threads": 1}
    written = 0
    for store in range(STORES):
        for ipc in IPCS:
            for variant in range(VARIANTS):
                for seed in range(SEEDS):
                    cell = {**_cell(f"store{store}", ipc, variant, seed), **about}
                    _write_pair(out, cell, 0.3 + variant / 200 + noise.gauss(0, 0.02), noise)
                    written += 2
    return written


def _cell(store: str, ipc: int, variant: int, seed: int) -> dict[str, Any]:
    lr = round(0.1 + variant / 100, 3)
    options = {f"option_{i}": i for i in range(14)}
    return {
        "dataset": {"name": store, "fingerprint": store.ljust(64, "0"), "plugin": "arrays"},
        "seed": seed,
        "modality": "av",
        "precision": "float32",
        "preset": "paper",
        "planned_seeds": SEEDS,
        "planned_networks": NETWORKS,
        "method": reference("dm", f"dm[lr={lr}]", lr=lr, **options) if variant else reference("random"),
        "role": "method" if variant else "baseline",
        "ipc": ipc,
        "architecture": reference("convnet", width=128),
        "prerequisites": {},
        "duration_s": 12.3 + variant,
        "peak_memory_mib": {"resident": 1476.4},
        "finished": "2026-01-01T00:00:00Z",
    }


def _write_pair(out: Path, cell: Mapping[str, Any], level: float, noise: random.Random) -> None:
    key = f"{cell['dataset']['name']}-{cell['ipc']}-{cell['method']['label']}-{cell['seed']}"
    result = {"content_hash": key, "storage_bytes": 112_700 * cell["ipc"], "ratio": cell["ipc"] / 110, "steps": 0}
    _record(out, "distil", key, {**cell, "result": result})
    networks = [
        {"index": i, "accuracy": {part: level + noise.gauss(0, 0.02) for part in ("a", "v", "av")}}
        for i in range(NETWORKS)
    ]
    scores = {"primary": "accuracy", "metrics": [{"name": "accuracy", "share": True}], "networks": networks}
    judged = {
        "set_hash": key,
        "distil_key": key,
        "protocol": reference("recognition-code", epochs=30, batch=128, augment="color_crop"),
        "evaluated_architecture": reference("convnet", width=128),
        "fusion": reference("ensemble"),
        "result": scores,
    }
    _record(out, "evaluate", key, {**cell, **judged})


def _record(out: Path, kind: str, key: str, content: Mapping[str, Any]) -> None:
    folder = out / kind / key
    folder.mkdir(parents=True)
    head = {"schema_version": SCHEMA_VERSION, "kind": kind, "key": key, "status": "done"}
    (folder / "record.json").write_text(json.dumps({**head, **content}, indent=2), encoding="utf-8")


def measure(out: Path, format: str) -> tuple[float, float, float, float]:
    """Seconds by the clock and of the processor, peak memory and size of the result in MiB, of one rendering."""
    result = out.parent / f"board.{format}"
    code = "from avbench.cli import main; main()"
    command = [sys.executable, "-c", code, "leaderboard", str(out), "--format", format, "-o", str(result)]
    began = time.perf_counter()
    started = subprocess.Popen(command)
    _, status, usage = os.wait4(started.pid, 0)
    if status:
        raise SystemExit(f"{format}: exit status {os.waitstatus_to_exitcode(status)}")
    spent_s = time.perf_counter() - began
    return spent_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, result.stat().st_size / 2**20


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        print(f"{write(runs)} records, {len(os.sched_getaffinity(0))} cores")
        for each in FORMATS:
            numbers = measure(runs, each)
            print(
                "{}: {:.1f} s, {:.1f} s of processor, {:.0f} MiB of memory, {:.1f} MiB written".format(each, *numbers)
            )
