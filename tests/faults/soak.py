"""One coordinator, many jobs: its memory and its open files stay what they are.

    python tests/faults/soak.py [--jobs 1000] [--out FILE]

The jobs are real ones of the local executor; a thousand take half an hour on two cores. Prints JSON: samples of (jobs
begun, seconds, MiB of the coordinator's own memory, its open files), and the growth from a fifth of the jobs on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from avbench.executors.memory import anonymous_mib
from avbench.testing.stores import PLAIN, write_store
from faults.processes import Running, start

#: Cells of a method that makes steps share no job with those of another seed.
_GRID = (
    "run",
    "--method",
    "dm[init=random]",
    "--set",
    "dm.steps=1",
    "--set",
    "dm.batch_real=2",
    "--dataset",
    PLAIN,
    "--ipc",
    "1",
    "--networks",
    "1",
    "--preset",
    "quick",
)
_GRID += ("--set", "convnet.width=2", "--set", "recognition-quick.updates=1", "--set", "recognition-quick.epochs=1")
_EVERY_S = 0.2


def main(arguments: list[str] | None = None) -> int:
    """The command; exit status 3 where the run fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=1000, help="an even number: a set and its evaluation are two")
    parser.add_argument("--out", type=Path, help="a file for the JSON; else it is printed")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        found = soak(Path(folder), asked.jobs)
    text = json.dumps(found)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    return 3 if found["status"] else 0


def soak(root: Path, jobs: int) -> dict[str, Any]:
    """Run a grid of so many jobs, and watch its coordinator."""
    write_store(root / "data", PLAIN)
    out = root / "runs"
    command = (*_GRID, "--seeds", str(jobs // 2), "--jobs", "2", "--data", str(root / "data"), "--out", str(out))
    running = start(command, {"FAULTS_ROOTS": str(out)})
    samples = _watch(running, out)
    ended = running.wait()
    settled = [sample for sample in samples if sample[0] >= jobs // 5] or samples
    return {
        "status": ended.status,
        "said": ended.stderr[-2000:] if ended.status else "",
        "jobs": len(list(out.glob("jobs/*/log.txt"))),
        "done": len(list(out.glob("*/*/record.json"))),
        "growth_mib": round(max(s[2] for s in settled) - settled[0][2], 1),
        "most_files": max(s[3] for s in settled),
        "samples": samples,
    }


def _watch(running: Running, out: Path) -> list[tuple[int, float, float, int]]:
    """Samples until every task is done: what comes after is the making of the board."""
    began, samples = time.monotonic(), []
    while running.running():
        jobs = [out / "jobs"] if (out / "jobs").is_dir() else []
        begun = sum(1 for folder in jobs for entry in os.scandir(folder) if entry.is_dir())
        try:
            files = len(list(Path(f"/proc/{running.process}/fd").iterdir()))
        except OSError:
            break
        mib = round(anonymous_mib(running.process), 1)
        if mib and not _ended(out):
            samples.append((begun, round(time.monotonic() - began, 1), mib, files))
        time.sleep(_EVERY_S)
    return samples


def _ended(out: Path) -> bool:
    """Whether the run has announced its end."""
    return any('"ended_s": null' not in path.read_text(encoding="utf-8") for path in out.glob("jobs/run-*.json"))


if __name__ == "__main__":
    sys.exit(main())
