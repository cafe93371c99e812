"""``avbench logs``: the right job's text, by name or by what it does, for any executor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Small
from packages import avbench
from typer.testing import CliRunner

from avbench.cli import app
from avbench.coordinator import Coordinator
from avbench.executors.base import Resources
from avbench.executors.local import LocalExecutor
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import Engine
from avbench.plan import make_plan
from avbench.results import RunDirectory


@pytest.fixture(scope="module")
def ran(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with jobs of one method at two IPCs; each job has a text of its own."""
    out = tmp_path_factory.mktemp("logs") / "runs"
    request = Request(
        parse_variants("random", "--method"),
        (small.stores[1].info,),
        (1, 2),
        seeds=1,
        networks=1,
        preset="quick",
        settings={"convnet": {"width": "4"}, "recognition-quick": {"updates": "2", "epochs": "1"}},
    )
    plan, directory = make_plan(request, RunDirectory(out)), RunDirectory(out)
    local = LocalExecutor(Resources(2, "cpu", 1))
    outcome = Coordinator(plan, directory, small.data, local, Engine(), (), Hooks(()), lambda event: None).run()
    assert not outcome.failed
    for folder in out.glob("jobs/*-*-*-*"):
        with (folder / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"said by {folder.name}\n")
    return out


def logs(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["logs", *arguments])
    return done.exit_code, done.stdout, done.stderr


def jobs(out: Path, kind: str) -> list[str]:
    return sorted(path.name for path in out.glob(f"jobs/{kind}-*"))


def test_a_job_is_found_by_the_start_of_its_name(ran: Path) -> None:
    (distil,) = jobs(ran, "distil")
    for name in (distil, distil[:12]):
        assert logs(name, "--out", str(ran)) == (0, f"said by {distil}\n", logs(distil, "--out", str(ran))[2])
    assert distil in logs(distil, "--out", str(ran))[2]


def test_a_job_is_found_by_what_it_does(ran: Path) -> None:
    everything = logs("random small1", "--out", str(ran))[1].splitlines()
    assert sorted(everything) == [f"said by {name}" for name in sorted(jobs(ran, "distil") + jobs(ran, "evaluate"))]
    assert logs("evaluate ipc 2", "--out", str(ran))[1].splitlines() == [
        f"said by {name}" for name in jobs(ran, "evaluate")
    ]


def test_a_job_of_several_runs_shows_the_last_unless_all_are_asked_for(ran: Path, tmp_path: Path) -> None:
    (distil,) = jobs(ran, "distil")
    spec = (ran / "jobs" / distil / "spec.json").read_text(encoding="utf-8")
    stem = distil.rsplit("-", 2)[0]
    for attempt in ("10-aaaaaa", "9-bbbbbb"):  # written in this order, whatever their names sort like
        folder = tmp_path / "jobs" / f"{stem}-{attempt}"
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text(spec, encoding="utf-8")
        (folder / "log.txt").write_text(f"{attempt}\n", encoding="utf-8")
    assert logs(stem, "--out", str(tmp_path))[1] == "9-bbbbbb\n"
    assert logs(stem, "--out", str(tmp_path), "--all")[1] == "10-aaaaaa\n9-bbbbbb\n"


def test_attempts_and_what_slurm_wrote_are_shown(ran: Path, tmp_path: Path) -> None:
    (distil,) = jobs(ran, "distil")
    folder, array = tmp_path / "jobs" / distil, tmp_path / "jobs" / "slurm-1-abc-1"
    folder.mkdir(parents=True)
    array.mkdir()
    (folder / "spec.json").write_bytes((ran / "jobs" / distil / "spec.json").read_bytes())
    (folder / "slurm.json").write_text(json.dumps({"number": "7_3", "array": array.name}), encoding="utf-8")
    lost = [{"attempt": 1, "host": "n7", "why": "its node died"}]
    (folder / "attempts.json").write_text(json.dumps(lost), encoding="utf-8")
    (array / "7_3_0_log.out").write_text("slurmstepd: error\n", encoding="utf-8")
    status, stdout, stderr = logs(distil, "--out", str(tmp_path))
    assert (status, stdout) == (0, "slurmstepd: error\n")
    assert "attempt 1 on n7 was lost: its node died" in stderr


def test_a_log_that_is_empty_is_said_to_be(ran: Path, tmp_path: Path) -> None:
    (distil,) = jobs(ran, "distil")
    folder = tmp_path / "jobs" / distil
    folder.mkdir(parents=True)
    (folder / "spec.json").write_bytes((ran / "jobs" / distil / "spec.json").read_bytes())
    assert logs(distil, "--out", str(tmp_path))[1] == ""
    assert "It wrote nothing" in logs(distil, "--out", str(tmp_path))[2]


@pytest.mark.parametrize("job", ["ipc 3", "radnom", "", "distill-"])
def test_an_unknown_job_is_refused(ran: Path, job: str) -> None:
    done = avbench("logs", job, "--out", str(ran)) if job == "radnom" else None
    if done is not None:
        assert done.returncode == 2 and done.stderr.startswith("avbench: ") and "has no job 'radnom'" in done.stderr
    else:
        result = CliRunner().invoke(app, ["logs", job, "--out", str(ran)])
        assert result.exit_code == 1 and "has no job" in str(result.exception)


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    assert "is not a run directory" in avbench("logs", "x", "--out", str(tmp_path / "absent")).stderr
    empty = avbench("logs", "x", "--out", str(tmp_path))
    assert empty.returncode == 2 and "has no jobs" in empty.stderr
