"""Local jobs that die: a kill or a crash is tried once more, a limit is not, and no other job is harmed."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import Small

from avbench.claims import ProcessId
from avbench.executors import gpus, local
from avbench.executors.base import Ended, Resources
from avbench.executors.local import LocalExecutor
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.jobs import DistilTask, Engine, task_to_json
from avbench.plan import make_plan
from avbench.results import RunDirectory

#: Stands in for a worker where only its end matters: what it does in each attempt is the line of that number in `acts`.
ACTS = """
    import os, pathlib, signal, sys, time
    folder = pathlib.Path(sys.argv[-1])
    before = folder / "attempt"
    number = int(before.read_text()) if before.exists() else 0
    before.write_text(str(number + 1))
    with (folder / "seen").open("a") as seen:
        seen.write(os.environ.get("CUDA_VISIBLE_DEVICES", "") + "\\n")
    exec((folder / "acts").read_text().splitlines()[number])
"""
KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


@pytest.fixture
def acting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "acting.py"
    script.write_text(textwrap.dedent(ACTS), encoding="utf-8")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(program))


def job(small: Small, folder: Path, *acts: str) -> Path:
    """The folder of a job that distils one cell into a run directory of its own."""
    settings = {"dm": {"steps": "60", "batch_real": "4"}, "convnet": {"width": "4"}}
    request = Request(
        parse_variants("dm", "--method"), (small.stores[1].info,), (1,), seeds=1, preset="quick", settings=settings
    )
    (cell,) = make_plan(request, RunDirectory(folder)).cells
    spec: dict[str, Any] = {"tasks": [task_to_json(DistilTask(cell))], "out": str(folder), "data": str(small.data)}
    spec |= {"engine": asdict(Engine(checkpoint_s=0.0)), "argv": [], "hooks": []}
    here = folder / "jobs" / "one"
    here.mkdir(parents=True)
    (here / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    (here / "events.jsonl").touch()
    (here / "acts").write_text("\n".join(acts), encoding="utf-8")
    return here


def wait(executor: LocalExecutor, count: int = 1) -> dict[str, Ended]:
    found: dict[str, Ended] = {}
    deadline = time.monotonic() + 90
    while len(found) < count:
        assert time.monotonic() < deadline, found
        found |= {ended.job_id: ended for ended in executor.ended()}
        time.sleep(0.02)
    return found


def lost(folder: Path) -> list[dict[str, Any]]:
    path = folder / "attempts.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return found


def test_of_three_jobs_one_is_killed_one_crashes_and_all_come_to_the_same_bits(small: Small, tmp_path: Path) -> None:
    """Real workers, at once, each with a run directory of its own and the same cell to distil."""
    folders = {name: job(small, tmp_path / name) for name in ("killed", "crashed", "undisturbed")}
    executor = LocalExecutor(Resources(3, "cpu", 1))
    first: dict[str, int] = {}
    try:
        for name, folder in folders.items():
            executor.start(name, folder)
        for name, number in (("killed", signal.SIGKILL), ("crashed", signal.SIGSEGV)):
            curve = tmp_path / name / "distil"
            deadline = time.monotonic() + 60
            while not any(len(each.read_bytes().splitlines()) > 5 for each in curve.glob("*/curve.jsonl")):
                assert time.monotonic() < deadline and not executor.ended()
                time.sleep(0.005)
            first[name] = ProcessId(**json.loads((folders[name] / "worker.json").read_text(encoding="utf-8"))).process
            os.kill(first[name], number)
        assert wait(executor, 3) == {name: Ended(name, 0) for name in folders}
    finally:
        executor.stop()
    sets = {}
    for name, folder in folders.items():
        (record,) = RunDirectory(tmp_path / name).records("distil")
        (curve,) = (tmp_path / name).glob("distil/*/curve.jsonl")
        sets[name] = (record["result"]["content_hash"], curve.read_text(encoding="utf-8"))
        worker = json.loads((folder / "worker.json").read_text(encoding="utf-8"))
        assert [each["attempt"] for each in lost(folder)] == ([] if name == "undisturbed" else [1])
        assert worker["process"] != first.get(name)
    assert sets["killed"] == sets["crashed"] == sets["undisturbed"]
    assert lost(folders["killed"])[0]["why"] == "the worker was killed by signal 9 (SIGKILL)"
    assert lost(folders["crashed"])[0]["why"] == "the worker was killed by signal 11 (SIGSEGV)"
    assert lost(folders["crashed"])[0]["host"] == ProcessId.own().host
    steps = [json.loads(line)["step"] for line in sets["killed"][1].splitlines()]
    assert steps == list(range(60))


def test_a_job_killed_twice_has_ended_and_says_why(small: Small, acting: None, tmp_path: Path) -> None:
    folder = job(small, tmp_path, KILLED, "os.abort()", "raise AssertionError('a third attempt')")
    executor = LocalExecutor(Resources(1, "cpu", 1))
    executor.start("one", folder)
    ended = wait(executor)["one"]
    assert (ended.status, ended.cause) == (-signal.SIGABRT, "killed")
    assert "attempt 1 on " in ended.reason and "signal 9 (SIGKILL); attempt 2 on " in ended.reason
    assert [each["attempt"] for each in lost(folder)] == [1, 2]
    assert executor.has_room() and not executor.ended()


@pytest.mark.parametrize(
    ("act", "resources", "expected"),
    [
        ("raise ValueError", Resources(1, "cpu", 1), (1, "")),
        ("sys.exit(3)", Resources(1, "cpu", 1), (3, "")),
        ("time.sleep(60)", Resources(1, "cpu", 1, timeout_s=0.5), (-9, "time limit")),
        ("held = b'1' * (100 << 20); time.sleep(60)", Resources(1, "cpu", 1, memory_mib=60), (-9, "memory limit")),
    ],
)
def test_a_failure_of_its_own_and_a_limit_are_not_repeated(
    small: Small, acting: None, tmp_path: Path, act: str, resources: Resources, expected: tuple[int, str]
) -> None:
    folder = job(small, tmp_path, act, "raise AssertionError('a second attempt')")
    executor = LocalExecutor(resources)
    executor.start("one", folder)
    ended = wait(executor)["one"]
    assert (ended.status, ended.cause) == expected
    assert (folder / "attempt").read_text(encoding="utf-8") == "1" and not lost(folder)


def test_what_the_kernel_killed_for_want_of_memory_is_not_repeated(
    small: Small, acting: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = iter((4, 5))
    monkeypatch.setattr(local, "out_of_memory_kills", lambda: next(kills))
    folder = job(small, tmp_path, KILLED, "raise AssertionError('a second attempt')")
    executor = LocalExecutor(Resources(1, "cpu", 1))
    executor.start("one", folder)
    assert wait(executor)["one"].cause == "out of memory"
    assert (folder / "attempt").read_text(encoding="utf-8") == "1" and not lost(folder)


def test_a_job_whose_tasks_were_settled_before_the_kill_is_over(small: Small, acting: None, tmp_path: Path) -> None:
    folder = job(small, tmp_path, KILLED, "raise AssertionError('a second attempt')")
    (task,) = json.loads((folder / "spec.json").read_text(encoding="utf-8"))["tasks"]
    key = make_key(task)
    (folder / "events.jsonl").write_text(json.dumps({"event": "done", "task": key}) + '\n{"torn', encoding="utf-8")
    executor = LocalExecutor(Resources(1, "cpu", 1))
    executor.start("one", folder)
    assert wait(executor)["one"] == Ended("one", 0)
    assert (folder / "attempt").read_text(encoding="utf-8") == "1" and len(lost(folder)) == 1


def make_key(task: dict[str, Any]) -> str:
    from avbench.jobs import task_from_json

    return task_from_json(task).key


def test_what_a_killed_worker_started_is_gone_before_the_next_attempt(
    small: Small, acting: None, tmp_path: Path
) -> None:
    child = (
        "import subprocess; child = subprocess.Popen(['sleep', '60']); "
        f"(folder / 'child').write_text(str(child.pid)); {KILLED}"
    )
    look = "number = (folder / 'child').read_text(); stat = pathlib.Path('/proc', number, 'stat'); "
    look += "sys.exit(stat.exists() and ') Z' not in stat.read_text())"
    folder = job(small, tmp_path, child, look)
    executor = LocalExecutor(Resources(1, "cpu", 1))
    executor.start("one", folder)
    assert wait(executor)["one"] == Ended("one", 0)


def test_a_job_that_crashed_on_a_gpu_is_tried_on_another(small: Small, acting: None, tmp_path: Path) -> None:
    two = tuple(gpus.Gpu(number, str(number), f"GPU-{number}", "Model", 8_000.0) for number in range(2))
    folder = job(small, tmp_path, "os.kill(os.getpid(), signal.SIGBUS)", "sys.exit(0)")
    executor = LocalExecutor(Resources(2, "cuda", 1, gpus=two))
    executor.start("one", folder)
    assert wait(executor)["one"] == Ended("one", 0)
    assert (folder / "seen").read_text(encoding="utf-8").split() == ["0", "1"]
    assert lost(folder)[0]["gpu"] == "GPU-0"
