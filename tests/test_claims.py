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
from avbench.claims import Claims, ProcessId, announce_worker, look_afresh

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


# --- what a network file system does ----------------------------------------------------------------------------------


def other_host(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What this process does from now on, it does as the process of the same number on another machine."""
    monkeypatch.setattr(claims, "_machine", lambda: name)
    monkeypatch.setattr(claims.platform, "node", lambda: name)


def test_two_machines_whose_processes_have_one_number_keep_their_claims_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes its file at the same moment: the second must not write into what becomes the first one's claim."""
    link, second = os.link, []

    def while_the_first_links(source: Path, target: Path) -> None:
        if not second:
            other_host(monkeypatch, "b")
            second.append(Claims(tmp_path))
            assert second[0].take("k", tmp_path / "b")
        link(source, target)

    monkeypatch.setattr(claims.os, "link", while_the_first_links)
    other_host(monkeypatch, "a")
    assert not Claims(tmp_path).take("k", tmp_path / "a")
    assert Claims(tmp_path).holder("k").endswith("on b")
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ["k.1"]


@pytest.mark.parametrize("made", [True, False])
def test_an_answer_that_was_lost_is_no_other_s_claim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    """The server made the link, its answer was lost, and to the client's second request it says: exists."""
    link = os.link

    def asked_twice(source: Path, target: Path) -> None:
        if made:
            link(source, target)
        else:
            claim(tmp_path, replace(ProcessId.own(), host="far", machine="far away"), tmp_path / "job")
        raise FileExistsError(target)

    monkeypatch.setattr(claims.os, "link", asked_twice)
    ours = Claims(tmp_path)
    assert ours.take("k", tmp_path / "job") is made
    ours.release("k")
    assert [path.name for path in (tmp_path / "claims").iterdir()] == ([] if made else ["k.1"])


def test_without_hard_links_there_is_one_holder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(source: Path, target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(claims.os, "link", refused)
    assert Claims(tmp_path).take("k", tmp_path / "job")
    assert not Claims(tmp_path).take("k", tmp_path / "job")


@pytest.mark.parametrize("offset_s", [-86_400.0, 0.0, 86_400.0])
def test_a_clock_that_is_wrong_by_a_day_harms_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offset_s: float
) -> None:
    """The server's clock, in the times of files, against the observer's: only that the time changes is looked at."""
    monkeypatch.setattr(claims, "BEAT_S", 0.0)
    monkeypatch.setattr(claims, "SILENT_S", 0.3)
    touch = os.utime
    monkeypatch.setattr(claims.os, "utime", lambda path: touch(path, (time.time() + offset_s,) * 2))
    other_host(monkeypatch, "a")
    far = Claims(tmp_path)
    assert far.take("k", tmp_path / "job")
    other_host(monkeypatch, "b")
    near = Claims(tmp_path)
    for _ in range(5):
        assert not near.take("k", tmp_path / "job")
        time.sleep(0.1)
        assert far.beat() == []
    assert near.holder("k").endswith("on a")
    deadline = time.monotonic() + 10
    while not near.take("k", tmp_path / "job"):  # it has fallen silent
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert far.beat() == ["k"]  # should it wake, it learns that its task is another's now
    assert far.beat() == []
    far.release("k")
    assert near.holder("k").endswith("on b")


def test_a_claim_whose_folder_was_cleared_is_no_one_else_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.0)
    ours = Claims(tmp_path)
    assert ours.take("k", tmp_path / "job")
    (tmp_path / "claims" / "k.1").unlink()
    assert ours.beat() == []


def test_folders_are_asked_for_anew_from_the_top(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    look = os.open

    def note(path: Path, flags: int) -> int:
        opened.append(Path(path).name)
        return look(path, flags)

    (tmp_path / "distil").mkdir()
    monkeypatch.setattr(claims.os, "open", note)
    look_afresh(tmp_path, "distil", "absent", "beyond")
    assert opened == [tmp_path.name, "distil", "absent"]


def test_nothing_that_a_run_does_uses_a_file_lock() -> None:
    """Over NFS a lock may be lost with its server, or not be there at all."""
    package = Path(claims.__file__).parent
    places = (package.glob("*.py"), package.glob("executors/*.py"), package.glob("tasks/*.py"))
    sources = {path: path.read_text(encoding="utf-8") for found in places for path in found}
    words = ("fcntl", "flock", "lockf", "portalocker", "filelock")
    assert {"coordinator.py", "local.py", "distilling.py"} <= {path.name for path in sources}
    assert not [str(path) for path, text in sources.items() for word in words if word in text]
