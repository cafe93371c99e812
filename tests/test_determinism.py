"""The same cell gives the same bits whatever surrounds it: environment, micro-batch, job, order, engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from packages import avbench, fresh_environment

from avbench.grammar import parse_variants
from avbench.jobs import Engine, Job, task_to_json
from avbench.plan import Request, make_plan
from avbench.results import RunDirectory

SETTINGS = {
    "dm": {"steps": "6", "batch_real": "4"},
    "avdd": {"steps": "6", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "4", "epochs": "2"},
}


def work_through(
    small: Any,
    out: Path,
    engine: Engine,
    cwd: Path,
    python: str = sys.executable,
    last_first: bool = False,
    **environment: str,
) -> dict[str, Any]:
    """All jobs of a grid, each by hand in a worker process; the results by kind and key.

    Args:
        python: the interpreter, of this or another virtual environment.
        last_first: of the jobs that could be done next always do the last.
    """
    request = Request(
        parse_variants("dm,avdd", "--method"),
        (small.stores[3].info,),
        (1, 2),
        seeds=1,
        networks=1,
        preset="quick",
        settings=SETTINGS,
    )
    jobs = list(make_plan(request, RunDirectory(out)).jobs)
    done = set[str]()
    while jobs:
        ready = [job for job in jobs if not job.needs - done]
        job = ready[-1 if last_first else 0]
        jobs.remove(job)
        run_worker(small, out, job, engine, cwd, python, environment)
        done.update(task.key for task in job.tasks)
    return results(out, engine)


def results(out: Path, engine: Engine) -> dict[str, Any]:
    """Content hashes of distilled sets and scores of evaluations, by kind and key."""
    found = {}
    for kind in ("distil", "evaluate"):
        for record in RunDirectory(out).records(kind):
            assert record["status"] == "done", record
            assert record["threads"] == engine.threads
            result = record["result"]
            found[kind, record["key"]] = result.get("content_hash") or result["networks"]
    return found


def run_worker(
    small: Any, out: Path, job: Job, engine: Engine, cwd: Path, python: str, environment: dict[str, str]
) -> None:
    folder = out / "jobs" / job.id
    folder.mkdir(parents=True)
    spec = {
        "tasks": [task_to_json(task) for task in job.tasks],
        "out": str(out),
        "data": str(small.data),
        "engine": asdict(engine),
        "argv": ["by hand"],
        "hooks": [],
    }
    (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    done = subprocess.run(
        [python, "-P", "-m", "avbench.worker", str(folder)],
        env={**os.environ, **environment},
        cwd=cwd,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def reference(small: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("reference")
    return work_through(small, folder / "runs", Engine(), folder)


def test_the_environment_changes_no_bit(small: Any, tmp_path: Path, reference: dict[str, Any]) -> None:
    """Another virtual environment, folder, hash seed, number of threads, allocator and order of jobs."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "random.py").write_text("raise SystemExit('a module of the user')", encoding="utf-8")
    variables = {"OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2", "PYTHONHASHSEED": "7"}
    variables |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 32)}
    python = fresh_environment(tmp_path / "environment")
    assert work_through(small, tmp_path / "runs", Engine(), elsewhere, python, True, **variables) == reference


def test_the_micro_batch_and_checkpoints_change_no_bit(small: Any, tmp_path: Path, reference: dict[str, Any]) -> None:
    engine = Engine(micro_batch=5, checkpoint_s=0.0)
    assert work_through(small, tmp_path / "runs", engine, tmp_path) == reference


def test_another_job_order_and_engine_change_no_bit(small: Any, tmp_path: Path, reference: dict[str, Any]) -> None:
    """Through the command line: the methods the other way round, in a job without IPC 1, under the local executor."""
    sets = [("--set", f"{name}.{key}={value}") for name, given in SETTINGS.items() for key, value in given.items()]
    done = avbench(
        *("run", "--method", "avdd,dm", "--dataset", "small3", "--ipc", "2", "--seeds", "1", "--networks", "1"),
        *(part for pair in sets for part in pair),
        *("--device", "cpu", "--data", str(small.data), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 0, done.stderr
    found = results(tmp_path / "runs", Engine())
    assert len(found) == 4
    assert found.items() <= reference.items()
