"""SIGKILL at seeded moments in every phase: what was done stays, the rest is done again, to the same bits."""

from __future__ import annotations

import json
import random
import textwrap
from pathlib import Path
from typing import Any

import pytest
from killing import SITE, counts, run_watched

KINDS = ("prerequisite", "distil", "evaluate")
GRID = ("run", "--method", "dm[init=herding]", "--ipc", "1", "--seeds", "1", "--networks", "1", "--preset", "quick")
GRID += ("--set", "dm.steps=8", "--set", "dm.batch_real=4", "--set", "convnet.width=4", "--checkpoint-s", "0")
#: What becomes of the second attempt at a job: it is killed as it starts, or let be.
AGAIN = """
    if os.path.exists(os.path.join(ARGUMENTS[-1], "attempts.json")):
        NUMBER = "0"
        if "KILLING_AGAIN" in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
"""
TWICE = {"KILLING_AGAIN": "1"}
GRID += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=3", "--dataset", "small3")


def results(out: Path) -> dict[tuple[str, str], Any]:
    """What a grid came to: content hash of sets, scores of evaluations, bytes of prerequisites."""
    found: dict[tuple[str, str], Any] = {}
    for kind in KINDS:
        for path in out.glob(f"{kind}/*/record.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            assert record["status"] == "done", record
            result = record.get("result", {})
            found[kind, record["key"]] = result.get("content_hash") or result.get("networks")
            if kind == "prerequisite":
                found[kind, record["key"]] = path.with_name("tensors.safetensors").read_bytes()
    return found


def settled(out: Path, kind: str) -> bool:
    """Whether the one task of this kind is done."""
    return any(b'"done"' in path.read_bytes() for path in out.glob(f"{kind}/*/record.json"))


@pytest.fixture(scope="module")
def grid(small: Any) -> tuple[str, ...]:
    return (*GRID, "--data", str(small.data))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(textwrap.dedent(SITE + AGAIN), encoding="utf-8")
    return folder


def new_folder(out: Path) -> Path:
    """A run directory whose folders are there: who makes them first would else write once more than who comes later."""
    for kind in (*KINDS, "jobs", "claims"):
        (out / kind).mkdir(parents=True)
    return out


@pytest.fixture(scope="module")
def undisturbed(
    grid: tuple[str, ...], site: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[tuple[str, str], Any], dict[str, int]]:
    """Results of a run that nobody killed, and how often each of its processes wrote."""
    out = new_folder(tmp_path_factory.mktemp("undisturbed") / "runs")
    tally = out.parent / "counts"
    done = run_watched(site, out, grid, KILLING_COUNTS=str(tally))
    assert done.returncode == 0, done.stderr
    acts = dict(counts(tally))
    assert set(acts) == {"coordinator", *KINDS}
    return results(out), acts


def moments(seed: int, acts: dict[str, int]) -> list[str]:
    """One moment in each kind of worker, and one of the coordinator while each of them is at work."""
    rng = random.Random(seed)
    found = []
    for number, kind in enumerate(KINDS):
        third = acts["coordinator"] // len(KINDS)
        # A coordinator that resumes has fewer acts left, so its moments lie early.
        found += [f"coordinator:{rng.randint(1, third)}"] if number == seed % len(KINDS) else []
        found += [f"{kind}:{rng.randint(1, acts[kind])}"]
    return found


@pytest.mark.slow  # tests/faults/test_campaign.py kills at ten moments, and runs to the end after each
@pytest.mark.parametrize("seed", range(26))
def test_kills_in_every_phase_change_no_bit(
    grid: tuple[str, ...], site: Path, undisturbed: tuple[dict[Any, Any], dict[str, int]], tmp_path: Path, seed: int
) -> None:
    expected, acts = undisturbed
    out = new_folder(tmp_path / "runs")
    for moment in moments(seed, acts):
        if all(settled(out, kind) for kind in KINDS):
            break
        before = {path: path.read_bytes() for path in out.glob("*/*/record.json") if b'"done"' in path.read_bytes()}
        killed = run_watched(site, out, (*grid, "--retry-failed"), KILLING_AT=moment, **TWICE)
        kind = moment.partition(":")[0]
        # A worker killed after it had written its record has done its task.
        status = -9 if kind == "coordinator" else 0 if settled(out, kind) else 3
        assert killed.returncode == status, (moment, killed.stderr)
        assert "Traceback" not in killed.stderr
        for path, text in before.items():  # what was finished is not touched again
            assert path.read_bytes() == text, moment
    last = run_watched(site, out, (*grid, "--retry-failed"))
    assert last.returncode == 0, last.stderr
    assert results(out) == expected
    assert not list(out.glob("claims/*"))
    assert not [path for kind in KINDS for path in out.glob(f"{kind}/*/.*")]  # nothing half-written lies about


@pytest.mark.slow
def test_a_killed_worker_s_record_names_its_phase(
    grid: tuple[str, ...], site: Path, undisturbed: tuple[dict[Any, Any], dict[str, int]], tmp_path: Path
) -> None:
    _, acts = undisturbed
    out = new_folder(tmp_path / "runs")
    killed = run_watched(site, out, grid, KILLING_AT=f"distil:{acts['distil'] - 1}", **TWICE)
    assert killed.returncode == 3
    (record,) = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("distil/*/record.json")]
    assert record["error"]["phase"] == "writing"
    assert record["error"]["cause"] == "killed"
    assert "signal 9 (SIGKILL)" in record["error"]["reason"]
    assert "attempt 1 on " in record["error"]["reason"] and "attempt 2 on " in record["error"]["reason"]


@pytest.mark.slow  # tests/executors/test_local.py kills one at a moment that is not chosen
@pytest.mark.parametrize("seed", range(9))
def test_a_run_mends_one_kill_of_each_worker_by_itself(
    grid: tuple[str, ...], site: Path, undisturbed: tuple[dict[Any, Any], dict[str, int]], tmp_path: Path, seed: int
) -> None:
    expected, acts = undisturbed
    kind = KINDS[seed % len(KINDS)]
    moment = f"{kind}:{random.Random(seed).randint(1, acts[kind])}"
    out = new_folder(tmp_path / "runs")
    done = run_watched(site, out, grid, KILLING_AT=moment)
    assert done.returncode == 0, (moment, done.stderr)
    assert results(out) == expected
    assert len(list(out.glob(f"jobs/{kind}-*/attempts.json"))) == len(list(out.glob("jobs/*/attempts.json"))) == 1
    assert not list(out.glob("claims/*"))
    assert not [path for kind in KINDS for path in out.glob(f"{kind}/*/.*")]
