"""Workers that die and users who press Ctrl-C: real processes, really killed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packages import avbench

LONG = ("run", "--method", "random,dm", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1")
LONG += ("--set", "dm.steps=40", "--set", "dm.batch_real=16", "--set", "convnet.width=4", "--checkpoint-s", "0")
LONG += ("--set", "recognition-quick.updates=6", "--set", "recognition-quick.epochs=1")


def start(data: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from avbench.cli import main; main()", *LONG, "--data", str(data), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        # Where the tests run in the background SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def wait_for_steps(out: Path, steps: int, running: subprocess.Popen[str]) -> None:
    """Until the distillation has made so many steps."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for curve in out.glob("distil/*/curve.jsonl"):
            if len(curve.read_text(encoding="utf-8").splitlines()) >= steps:
                return
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    raise AssertionError("no step was made")


def worker_of(parent: int) -> int:
    """The worker process that distils with dm."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
    for child in children:
        command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
        if b"avbench.worker" in command:
            (task, *_) = json.loads((Path(command[-2].decode()) / "spec.json").read_text(encoding="utf-8"))["tasks"]
            if task["kind"] == "distil" and task["cell"]["method"]["name"] == "dm":
                return int(child)
    raise AssertionError("no worker is running")


def alive(process: int) -> bool:
    """Whether a process is there and no mere zombie."""
    try:
        return ") Z" not in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False


def distilled_hash(out: Path) -> str:
    for path in out.glob("distil/*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["method"]["name"] == "dm":
            found: str = record["result"]["content_hash"]
            return found
    raise AssertionError("dm has no record")


@pytest.fixture(scope="module")
def undisturbed(avdigits_data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The content hash of the set that an uninterrupted run distils."""
    out = tmp_path_factory.mktemp("undisturbed") / "runs"
    assert avbench(*LONG, "--data", str(avdigits_data), "--out", str(out)).returncode == 0
    return distilled_hash(out)


@pytest.mark.slow
def test_a_worker_killed_twice_is_recorded_and_retried_only_when_asked(
    avdigits_data: Path, tmp_path: Path, undisturbed: str
) -> None:
    out = tmp_path / "runs"
    running = start(avdigits_data, out)
    wait_for_steps(out, 10, running)
    first = worker_of(running.pid)
    os.kill(first, signal.SIGKILL)
    os.kill(another_worker(running, first), signal.SIGKILL)
    stdout, stderr = running.communicate(timeout=120)
    assert running.returncode == 3
    assert "killed by signal 9" in stderr
    assert "attempt 2 on " in stderr
    assert "Traceback" not in stderr
    assert "| random " in stdout  # the other cell was finished
    again = avbench(*LONG, "--data", str(avdigits_data), "--out", str(out))
    assert again.returncode == 3
    assert "--retry-failed" in again.stderr
    retried = avbench(*LONG, "--data", str(avdigits_data), "--out", str(out), "--retry-failed")
    assert retried.returncode == 0
    assert "1 tasks failed before and are tried again" in retried.stderr
    assert distilled_hash(out) == undisturbed  # it went on from its checkpoint, to the same bits


def another_worker(running: subprocess.Popen[str], first: int) -> int:
    """The worker that distils with dm in place of the ``first`` one."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(AssertionError, OSError):
            if (found := worker_of(running.pid)) != first:
                return found
        assert running.poll() is None, running.communicate()
        time.sleep(0.02)
    raise AssertionError("the job was not tried again")


@pytest.mark.slow  # tests/cli/test_kills.py kills one at a chosen moment
def test_a_killed_coordinator_loses_nothing(avdigits_data: Path, tmp_path: Path, undisturbed: str) -> None:
    out = tmp_path / "runs"
    running = start(avdigits_data, out)
    wait_for_steps(out, 5, running)
    worker = worker_of(running.pid)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(60)
    deadline = time.monotonic() + 20
    while alive(worker):  # it must not go on beside the one that resumes it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    again = avbench(*LONG, "--data", str(avdigits_data), "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert distilled_hash(out) == undisturbed


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)],
)
def test_a_signal_ends_the_workers_and_the_run_can_be_resumed(
    avdigits_data: Path, tmp_path: Path, undisturbed: str, number: int, status: int
) -> None:
    out = tmp_path / "runs"
    ours = signal.getsignal(number)
    if ours is signal.SIG_IGN:  # under nohup it is, and what is started would inherit that
        signal.signal(number, signal.SIG_DFL)
    running = start(avdigits_data, out)
    signal.signal(number, ours)
    wait_for_steps(out, 5, running)
    worker = worker_of(running.pid)
    running.send_signal(number)
    _, stderr = running.communicate(timeout=60)
    assert running.returncode == status
    assert stderr.rstrip().endswith("avbench: interrupted; the same command goes on where it stopped.")
    assert "Traceback" not in stderr
    assert not Path(f"/proc/{worker}").exists()
    if number != signal.SIGINT:
        return
    again = avbench(*LONG, "--data", str(avdigits_data), "--out", str(out))
    assert again.returncode == 0, again.stderr
    assert distilled_hash(out) == undisturbed


@pytest.mark.slow
def test_two_runs_in_one_folder_share_the_work(avdigits_data: Path, tmp_path: Path, undisturbed: str) -> None:
    out = tmp_path / "runs"
    both = [start(avdigits_data, out), start(avdigits_data, out)]
    boards = []
    for running in both:
        stdout, stderr = running.communicate(timeout=240)
        assert "Traceback" not in stderr
        assert running.returncode == 0, stderr
        boards.append(stdout)
    assert boards[0] == boards[1]
    done = [
        json.loads(line)["task"]
        for events in out.glob("jobs/*/events.jsonl")
        for line in events.read_text(encoding="utf-8").splitlines()
        if json.loads(line)["event"] == "done"
    ]
    assert len(done) == len(set(done)) == 4  # two sets, two evaluations, none of them twice
    assert distilled_hash(out) == undisturbed
    assert not list((out / "claims").iterdir())


@pytest.mark.slow  # tests/test_claims.py takes over claims of the dead in the suite
def test_a_run_takes_over_from_one_that_was_killed_beside_it(
    avdigits_data: Path, tmp_path: Path, undisturbed: str
) -> None:
    out = tmp_path / "runs"
    first = start(avdigits_data, out)
    wait_for_steps(out, 3, first)
    second = start(avdigits_data, out)
    time.sleep(3)  # it may find the claim of the living or of the dead
    first.kill()
    first.wait(60)
    _, stderr = second.communicate(timeout=240)
    assert second.returncode == 0, stderr
    assert distilled_hash(out) == undisturbed
