"""The Slurm executor on a real Slurm of one node: preempted and cancelled jobs, runs that die, other executors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Small
from packages import avbench
from slurm_node import CannotStartError, SlurmNode

from avbench.claims import ProcessId
from avbench.coordinator import Coordinator, Outcome
from avbench.executors.base import Executor, Resources
from avbench.executors.local import LocalExecutor
from avbench.executors.slurm import SlurmConfig, SlurmExecutor
from avbench.executors.slurm_queue import job_name, queue
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import Engine
from avbench.plan import make_plan
from avbench.results import RunDirectory

pytest.importorskip("submitit", reason="the Slurm executor needs the extra `slurm`")

ONE = Resources(1, "cpu", 1)
SETTINGS = {
    "dm": {"steps": "300", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "4", "epochs": "2"},
}
ENDLESS = {**SETTINGS, "dm": {"steps": "1000000", "batch_real": "4"}}
Listener = Callable[[Mapping[str, Any]], None]


@pytest.fixture(scope="module")
def started() -> Iterator[SlurmNode]:
    try:
        node = SlurmNode()
    except CannotStartError as error:
        pytest.skip(f"no Slurm here: {error}")  # under CI, conftest makes a failure of it
    yield node
    node.close()


@pytest.fixture
def slurm(started: SlurmNode, monkeypatch: pytest.MonkeyPatch) -> SlurmNode:
    for name, value in started.environment.items():
        monkeypatch.setenv(name, value)
    return started


def executor(resources: Resources = ONE, file: Path | None = None) -> SlurmExecutor:
    return SlurmExecutor(resources, SlurmConfig(str(file or ""), poll_s=0.5))


def run(
    small: Small,
    out: Path,
    on: Executor,
    listener: Listener = lambda event: None,
    settings: Mapping[str, Mapping[str, str]] = SETTINGS,
    seeds: int = 1,
) -> Outcome:
    """A cell of dm for each seed, distilled and evaluated."""
    request = Request(
        parse_variants("dm", "--method"),
        (small.stores[1].info,),
        (1,),
        seeds=seeds,
        networks=1,
        preset="quick",
        settings=settings,
    )
    plan = make_plan(request, RunDirectory(out))
    engine = Engine(checkpoint_s=0.0)
    return Coordinator(plan, RunDirectory(out), small.data, on, engine, (), Hooks(()), listener).run()


def results(out: Path) -> dict[Any, Any]:
    """What a grid came to: the hashes of its sets with their curves, and its scores."""
    found: dict[Any, Any] = {}
    for kind in ("distil", "evaluate"):
        for record in RunDirectory(out).records(kind):
            assert record["status"] == "done", record
            result = record["result"]
            found[kind, record["key"]] = result.get("content_hash") or result["networks"]
    found |= {path.parent.name: path.read_text(encoding="utf-8") for path in out.glob("distil/*/curve.jsonl")}
    return found


def error_of(out: Path) -> dict[str, Any]:
    (record,) = [each for each in RunDirectory(out).records("distil") if each["status"] == "failed"]
    error: dict[str, Any] = record["error"]
    return error


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def distilling(out: Path) -> Path:
    """The folder of the job that makes steps."""
    (found,) = [path.parent for path in out.glob("jobs/distil-*/slurm.json")]
    return found


def distilling_cell(out: Path) -> Path:
    """The folder of what is being made."""
    (found,) = [path.parent for path in out.glob("distil/*/curve.jsonl")]
    return found


def slurm_job(out: Path) -> str:
    """Slurm's number of the attempt that makes steps."""
    number: str = read(distilling(out) / "node.json")["slurm_job"]
    return number


def worker(out: Path) -> ProcessId:
    return ProcessId(**read(distilling(out) / "worker.json"))


def once_distilling(act: Callable[[], None], times: int = 1) -> Listener:
    """Act once steps are being made, in each of so many workers."""
    begun, acted = set[float](), 0

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal acted
        if event["event"] == "task":
            begun.add(event["time"])
        if event["event"] == "step" and event["kind"] == "distil" and acted < min(times, len(begun)):
            acted += 1
            act()

    return listen


def in_queue(out: Path) -> list[str]:
    return [number for number, queued in queue(job_name(out)).items() if not queued.over]


def test_a_grid_that_is_preempted_comes_to_what_it_comes_to_here(
    small: Small, slurm: SlurmNode, tmp_path: Path
) -> None:
    """Begun and broken off under the local executor, continued under Slurm, which ends the job while it makes steps."""
    out, told = tmp_path / "slurm", list[str]()
    file = tmp_path / "slurm.toml"
    file.write_text(
        "[defaults]\ntime_min = 30\n[methods.dm]\ntime_min = 60\nsbatch.comment = 'of dm'\n", encoding="utf-8"
    )

    def preempt() -> None:
        told.append(slurm.ask("scontrol", "show", "job", slurm_job(out)))
        subprocess.run(["scancel", "--signal=USR2", slurm_job(out)], check=True)

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, out, LocalExecutor(ONE), once_distilling(interrupt))
    outcome = run(small, out, executor(ONE, file), once_distilling(preempt))
    assert not outcome.failed and not outcome.stranded and len(outcome.done) == 2
    (asked,) = told
    assert "TimeLimit=01:00:00" in asked and "Comment=of dm" in asked and f"JobName={job_name(out)}" in asked
    (lost,) = read(distilling(out) / "attempts.json")
    assert lost["attempt"] == 1 and "preemption" in lost["why"]
    assert read(distilling(out) / "node.json")["attempt"] == 2
    assert not list((out / "claims").iterdir())
    run(small, tmp_path / "local", LocalExecutor(ONE))
    assert len(results(out)) == 3
    assert results(out) == results(tmp_path / "local")


def command(small: Small, out: Path, on: str) -> list[str]:
    sets = [("--set", f"{name}.{key}={value}") for name, given in SETTINGS.items() for key, value in given.items()]
    return [
        *("run", "--method", "dm", "--dataset", "small1", "--ipc", "1", "--seeds", "1", "--networks", "1"),
        *(part for pair in sets for part in pair),
        *("--set", "dm.steps=500", "--checkpoint-s", "0", "--device", "cpu", "--executor", on),
        *("--data", str(small.data), "--out", str(out)),
    ]


def start(arguments: list[str]) -> subprocess.Popen[str]:
    code = "from avbench.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def until(happened: Callable[[], object], running: subprocess.Popen[str] | None = None) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert running is None or running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def steps(out: Path) -> int:
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in out.glob("distil/*/curve.jsonl"))


@pytest.mark.slow
def test_what_a_killed_run_left_in_slurm_goes_on_and_is_not_done_twice(
    small: Small, slurm: SlurmNode, tmp_path: Path
) -> None:
    """The run is killed; another executor waits for the job that still runs, then does the rest."""
    out = tmp_path / "runs"
    running = start(command(small, out, "slurm[poll_s=1]"))
    until(lambda: steps(out) > 5, running)
    running.kill()
    running.wait()
    time.sleep(2)  # a worker of the local executor would be gone by now
    before = worker(out)
    assert before.alive
    again = start(command(small, out, "local"))
    stdout, stderr = again.communicate(timeout=120)
    assert again.returncode == 0, stderr
    assert "| 1 |" in " ".join(stdout.split())
    assert worker(out) == before and read(distilling(out) / "ended.json")["status"] == 0
    makers = [path for path in out.glob("jobs/distil-*/events.jsonl") if '"step"' in path.read_text(encoding="utf-8")]
    assert makers == [distilling(out) / "events.jsonl"]
    assert steps(out) == 500


def test_an_interrupt_ends_what_is_running_and_what_is_queued(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    def interrupt() -> None:
        assert len(in_queue(tmp_path)) == 3  # on two CPUs
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path, executor(Resources(3, "cpu", 1)), once_distilling(interrupt), ENDLESS, seeds=3)
    assert not in_queue(tmp_path)
    assert not any(ProcessId(**read(path)).alive for path in tmp_path.glob("jobs/*/worker.json"))
    assert not list((tmp_path / "claims").iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("signal_or_requeue", ["requeue", "kill the worker"])
def test_a_job_that_is_requeued_or_whose_worker_is_killed_goes_on(
    small: Small, slurm: SlurmNode, tmp_path: Path, signal_or_requeue: str
) -> None:
    def act() -> None:
        if signal_or_requeue == "requeue":
            subprocess.run(["scontrol", "requeue", slurm_job(tmp_path)], check=True)
        else:
            os.kill(worker(tmp_path).process, signal.SIGKILL)

    assert not run(small, tmp_path, executor(), once_distilling(act)).failed
    (lost,) = read(distilling(tmp_path) / "attempts.json")
    assert ("SIGTERM" if signal_or_requeue == "requeue" else "signal 9") in lost["why"]
    run(small, tmp_path / "local", LocalExecutor(ONE))
    assert results(tmp_path) == results(tmp_path / "local")


@pytest.mark.slow
def test_cancel_ends_what_a_killed_run_left_in_slurm(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    running = start([*command(small, out, "slurm"), "--set", "dm.steps=1000000"])
    until(lambda: steps(out) > 5, running)
    running.kill()
    running.wait()
    assert worker(out).alive
    done = avbench("cancel", str(out))
    assert done.returncode == 0 and "0 runs and 1 job left in Slurm ended" in done.stderr
    assert not worker(out).alive and not in_queue(out)


@pytest.mark.slow
def test_a_node_that_dies_is_an_attempt(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    """The job's own process is killed, as with its node: Slurm is told to begin it again."""

    def die() -> None:
        parent = int(Path(f"/proc/{worker(tmp_path).process}/stat").read_text().rpartition(")")[2].split()[1])
        os.kill(parent, signal.SIGKILL)
        subprocess.run(["scontrol", "requeue", slurm_job(tmp_path)], check=True)

    assert not run(small, tmp_path, executor(), once_distilling(die)).failed
    (lost,) = read(distilling(tmp_path) / "attempts.json")
    assert "without a word" in lost["why"]


@pytest.mark.slow
def test_a_job_has_so_many_attempts_and_no_more(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text("defaults.attempts = 2\n", encoding="utf-8")

    def preempt() -> None:
        subprocess.run(["scancel", "--signal=USR2", slurm_job(tmp_path)], check=True)

    outcome = run(small, tmp_path, executor(ONE, file), once_distilling(preempt, times=9), ENDLESS)
    assert len(outcome.failed) == 1 and len(outcome.stranded) == 1
    assert [each["attempt"] for each in read(distilling(tmp_path) / "attempts.json")] == [1, 2]
    assert error_of(tmp_path)["cause"] == "time limit"
    assert "attempt 2 on " in error_of(tmp_path)["reason"]


@pytest.mark.slow
def test_slurms_own_time_limit_is_gone_on_from_and_recorded(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    file, steps_of = tmp_path / "slurm.toml", list[list[int]]()
    file.write_text("[defaults]\ntime_min = 2\nnotice_s = 30\nattempts = 2\n", encoding="utf-8")

    def listen(event: Mapping[str, Any]) -> None:
        if event["event"] == "task" and event["kind"] == "distil":
            steps_of.append([])
        if event["event"] == "step":
            steps_of[-1].append(event["done"])

    run(small, tmp_path, executor(ONE, file), listen, ENDLESS)
    first, second = steps_of
    assert 0 < first[0] < first[-1] <= second[0] < second[-1]
    curve = (distilling_cell(tmp_path) / "curve.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["step"] for line in curve[:-1]] == list(range(len(curve) - 1))  # the last may be torn
    assert [each["attempt"] for each in read(distilling(tmp_path) / "attempts.json")] == [1, 2]
    error = error_of(tmp_path)
    assert error["cause"] == "time limit" and error["reason"].count("Slurm's time limit of 2 min") == 2


@pytest.mark.slow
def test_a_job_that_somebody_cancels_is_recorded_with_what_slurm_says(
    small: Small, slurm: SlurmNode, tmp_path: Path
) -> None:
    run(
        small,
        tmp_path,
        executor(),
        once_distilling(lambda: subprocess.run(["scancel", slurm_job(tmp_path)], check=True)),  # type: ignore[arg-type,return-value]
        ENDLESS,
    )
    error = error_of(tmp_path)
    assert error["cause"] == "killed" and "is CANCELLED" in error["reason"]


@pytest.mark.slow
def test_limits_of_a_run_hold_under_slurm(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    run(small, tmp_path, executor(Resources(1, "cpu", 1, timeout_s=8)), settings=ENDLESS)
    assert error_of(tmp_path)["cause"] == "time limit"


@pytest.mark.slow
def test_what_slurm_refuses_is_recorded_as_not_started(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    file = tmp_path / "slurm.toml"
    file.write_text("defaults.partition = 'nowhere'\n", encoding="utf-8")
    run(small, tmp_path, executor(ONE, file))
    error = error_of(tmp_path)
    assert error["cause"] == "not started"
    assert "invalid partition specified: nowhere" in error["reason"]


@pytest.mark.slow
def test_the_waiting_jobs_of_a_dead_run_are_withdrawn(small: Small, slurm: SlurmNode, tmp_path: Path) -> None:
    """A run whose job waits is killed; the next one, also under Slurm, withdraws that job and does it itself."""
    out, file = tmp_path / "runs", tmp_path / "slurm.toml"
    file.write_text("defaults.sbatch.begin = 'now+600'\n", encoding="utf-8")
    running = start(command(small, out, f'slurm[resources="{file}",poll_s=1]'))
    until(lambda: list(out.glob("jobs/distil-*/slurm.json")), running)
    running.kill()
    running.wait()
    assert len(in_queue(out)) == 1
    again = start(command(small, out, "slurm[poll_s=1]"))
    stderr = again.communicate(timeout=180)[1]
    assert again.returncode == 0, stderr
    assert not in_queue(out)  # it would wait for ten minutes
    assert steps(out) == 500
