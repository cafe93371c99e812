"""Many jobs: what a coordinator does for each of them does not grow with how many there are."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from avbench.claims import Claims
from avbench.jobs import Job

SCALING = Path(__file__).resolve().parents[2] / "benchmarks" / "scaling"


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCALING))
    yield __import__("measure")
    for name in ("measure", "simulated"):
        sys.modules.pop(name, None)


def test_work_a_job_does_not_grow_with_the_jobs_that_wait(
    measure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: how often a claim is tried and a job's identity computed."""
    calls = {"take": 0, "id": 0}
    take, identity = Claims.take, Job.id.fget
    assert identity is not None

    def counting_take(self: Claims, key: str, job: Path) -> bool:
        calls["take"] += 1
        return take(self, key, job)

    def counting_identity(self: Job) -> str:
        calls["id"] += 1
        return identity(self)

    monkeypatch.setattr(Claims, "take", counting_take)
    monkeypatch.setattr(Job, "id", property(counting_identity))
    found = {}
    for seeds in (10, 60):
        calls.update(take=0, id=0)
        row = measure.simulate(seeds, measure.Simulated(4), tmp_path)
        assert row["jobs"] == 2 * seeds
        found[seeds] = {name: count / row["jobs"] for name, count in calls.items()}
    assert found[10]["take"] == found[60]["take"] == 1.0
    assert found[60]["id"] <= found[10]["id"]


def test_simulated_slots_work_side_by_side(measure, tmp_path: Path) -> None:
    executor = measure.Beside(8, lambda kind: 0.5)
    row = measure.simulate(8, executor, tmp_path)
    assert executor.worked_s == 8.0
    assert row["wall s"] < 6.0  # 16 jobs of half a second, eight at once


def test_a_part_that_there_is_not_is_refused(
    measure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["measure.py", "--only", "everything"])
    with pytest.raises(SystemExit) as ended:
        measure.main()
    assert ended.value.code == 2
    assert "expected some of workers, shards, overhead, slots" in capsys.readouterr().err
