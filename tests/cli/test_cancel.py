"""``avbench run --detach``, ``avbench cancel`` and what they say: real processes."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from conftest import Small
from packages import avbench

from avbench.claims import ProcessId
from avbench.cli.cancel import cancel
from avbench.runs import Announcement, read_announcement

ENDLESS = ("--method", "dm", "--dataset", "small1", "--ipc", "1", "--seeds", "1", "--networks", "1", "--device", "cpu")
ENDLESS += ("--set", "dm.steps=1000000", "--set", "dm.batch_real=4", "--set", "convnet.width=4")


def until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def announced(out: Path) -> list[Announcement]:
    return [found for path in out.glob("jobs/run-*.json") if (found := read_announcement(path)) is not None]


def steps_in(out: Path) -> bool:
    return any(path.stat().st_size for path in out.glob("distil/*/curve.jsonl"))


@pytest.fixture
def detached(small: Small, tmp_path: Path) -> Iterator[Path]:
    """A run directory in which a run goes on for ever, without the terminal that began it."""
    out = tmp_path / "runs"
    done = avbench("run", *ENDLESS, "--data", str(small.data), "--out", str(out), "--detach")
    try:
        assert done.returncode == 0, done.stderr
        (run,) = announced(out)
        assert f"process {run.process.process}" in done.stderr and f"avbench cancel {out}" in done.stderr
        assert done.stdout == "" and "--detach" not in run.argv
        yield out
    finally:
        for run in announced(out):
            if run.process.alive:
                os.kill(run.process.process, signal.SIGTERM)
                until(lambda run=run: not run.process.alive)  # type: ignore[misc]


def test_a_detached_run_goes_on_until_it_is_cancelled(detached: Path) -> None:
    (run,) = announced(detached)
    assert run.process.alive and os.getsid(run.process.process) == run.process.process
    until(lambda: steps_in(detached))
    (path,) = detached.glob("jobs/distil-*/worker.json")
    worker = ProcessId(**json.loads(path.read_text(encoding="utf-8")))
    assert worker.alive
    done = avbench("cancel", str(detached))
    assert done.returncode == 0, done.stderr
    assert "1 run and 0 jobs left in Slurm ended" in done.stderr
    assert not run.process.alive and not worker.alive
    (ended,) = announced(detached)
    assert ended.interrupted and not list((detached / "claims").iterdir())
    again = avbench("cancel", str(detached))
    assert again.returncode == 0 and f"Nothing runs in {detached}" in again.stderr


def test_what_is_refused_when_detached_is_told_at_once(small: Small, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    done = avbench("run", "--method", "nothing", *ENDLESS[2:], "--data", str(small.data), "--out", str(out), "--detach")
    assert done.returncode == 2
    assert done.stderr.startswith("avbench: ") and "'nothing'" in done.stderr
    assert not list(out.glob("jobs/*"))


def test_a_run_on_another_machine_is_not_ended_from_here(tmp_path: Path) -> None:
    there = ProcessId("farhost", "farhost boot pid:[1]", 1, "1")
    Announcement("1-abcdef", there, ("avbench", "run"), 1, 0.0, ()).write(tmp_path)
    done = avbench("cancel", str(tmp_path))
    assert done.returncode == 3
    assert "process 1 on farhost" in done.stderr and "scancel --me --name=avbench-" in done.stderr


def test_a_run_of_another_user_is_left_to_that_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Announcement("1-abcdef", ProcessId.own(), ("avbench", "run"), 1, 0.0, ()).write(tmp_path)

    def refused(process: int, number: int) -> None:
        assert process == os.getpid()
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))  # as the system does, which names no file

    monkeypatch.setattr(os, "kill", refused)
    with pytest.raises(typer.Exit) as left:
        cancel(tmp_path, within_s=0.0)
    assert left.value.exit_code == 3
    told = capsys.readouterr().err
    assert f"process {os.getpid()} is another user's run" in told and f"avbench cancel {tmp_path}" in told
    assert "Nothing runs" not in told


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    done = avbench("cancel", str(tmp_path / "absent"))
    assert done.returncode == 2 and "is not a run directory" in done.stderr
    dry = avbench("run", *ENDLESS, "--out", str(tmp_path / "runs"), "--dry-run", "--detach")
    assert dry.returncode == 2 and "leave out --detach" in dry.stderr
