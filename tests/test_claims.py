"""Claims: one holder at a time, whoever asks how fast; the dead are succeeded, the living and the distant are not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from avbench import claims
from avbench.claims import Claims, ProcessId, announce_worker

RACE = """
import sys
from pathlib import Path
from avbench.claims import Claims
root, count = Path(sys.argv[1]), int(sys.argv[2])
mine = Claims(root)
sys.stdin.readline()
for key in range(count):
    if mine.take(f"{key:020x}", root / "jobs" / "one"):
        print(key)
sys.stdin.readline()
"""


def racer(root: Path, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", RACE, str(root), str(count)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_of_many_runs_exactly_one_gets_each_task(tmp_path: Path) -> None:
    racers = [racer(tmp_path, 100) for _ in range(6)]
    for each in racers:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    time.sleep(3)  # all hold what they got until each has tried everything
    won = sorted(int(line) for each in racers for line in each.communicate("\n")[0].split())
    assert won == list(range(100))


def test_a_dead_run_is_succeeded_at_once(tmp_path: Path) -> None:
    dead = racer(tmp_path, 1)
    assert dead.stdin is not None and dead.stdout is not None
    dead.stdin.write("\n")
    dead.stdin.flush()
    assert dead.stdout.readline() == "0\n"
    ours, key = Claims(tmp_path), "0" * 20
    assert not ours.take(key, tmp_path / "jobs" / "two")
    assert str(dead.pid) in ours.holder(key)
    dead.kill()
    dead.wait()
    assert ours.take(key, tmp_path / "jobs" / "two")
    assert not Claims(tmp_path).take(key, tmp_path / "jobs" / "three")
    ours.release(key)
    assert not list((tmp_path / "claims").iterdir())


def test_a_dead_run_s_living_worker_is_waited_for(tmp_path: Path) -> None:
    job = tmp_path / "jobs" / "one"
    job.mkdir(parents=True)
    announce_worker(job)  # this process, which lives
    claim(tmp_path, replace(ProcessId.own(), process=2**22 + 1), job)
    assert not Claims(tmp_path).take("k", job)
    (job / "worker.json").unlink()
    assert Claims(tmp_path).take("k", job)


def claim(root: Path, run: ProcessId, job: Path) -> Path:
    """A claim on the task ``k`` by somebody else."""
    path = root / "claims" / "k.1"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"run": asdict(run), "job": str(job)}), encoding="utf-8")
    return path


@pytest.mark.parametrize("text", ["distant", "", "{", "[]", '{"run": 3}'])
def test_another_machine_s_claim_is_dead_once_it_falls_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    path = claim(tmp_path, replace(ProcessId.own(), host="far", machine="far away"), tmp_path / "job")
    if text != "distant":  # what can't be read is treated like the distant: it may be in the making
        path.write_text(text, encoding="utf-8")
    monkeypatch.setattr(claims, "SILENT_S", 0.3)
    ours = Claims(tmp_path)
    for beat in range(4):  # it is touched, whatever the other machine's clock says
        os.utime(path, (1e9 + beat, 1e9 - beat))
        assert not ours.take("k", tmp_path / "job")
        time.sleep(0.2)
    time.sleep(0.3)
    assert ours.take("k", tmp_path / "job")


def test_a_run_touches_its_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.0)
    ours = Claims(tmp_path)
    assert ours.take("k", tmp_path / "job")
    os.utime(tmp_path / "claims" / "k.1", (0, 0))
    ours.beat()
    assert (tmp_path / "claims" / "k.1").stat().st_mtime > 1e9


def test_a_number_used_again_is_another_process() -> None:
    own = ProcessId.own()
    assert own.here and own.alive
    assert not replace(own, started="1").alive


def test_a_late_claim_yields_to_a_newer_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """We looked and found nothing; before our claim another died and was succeeded."""
    late, looks = Claims(tmp_path), []
    look = Claims._latest

    def first_look_is_old(self: Claims, key: str) -> tuple[int, Path] | None:
        looks.append(key)
        return None if len(looks) == 1 else look(self, key)

    claim(tmp_path, ProcessId.own(), tmp_path / "job").rename(tmp_path / "claims" / "k.2")
    monkeypatch.setattr(Claims, "_latest", first_look_is_old)
    assert not late.take("k", tmp_path / "job")
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["k.2"]
