"""What is asked of Slurm and what is refused, without a Slurm: the file of resources, claims of jobs, absent tools."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from packages import avbench

from avbench.claims import Claims, ProcessId
from avbench.errors import RequestError
from avbench.executors.base import Ended, Resources
from avbench.executors.choosing import choose
from avbench.executors.local import LocalExecutor
from avbench.executors.slurm import SlurmExecutor
from avbench.executors.slurm_claims import JobClaims, forget
from avbench.executors.slurm_files import Submission, SubmittedJob, attempts_of, ended_of, lose, write_ended
from avbench.executors.slurm_resources import Table, read_table

CPU = Resources(1, "cpu", 2)
CUDA = Resources(1, "cuda", 1)
FILE = """
[defaults]
partition = "short"
time_min = 30
sbatch = { nice = 10 }
[methods.mtt]
partition = "long"
time_min = 600
memory_mib = 64000
sbatch = { comment = "expert trajectories", exclusive = true }
[methods.dm]
cpus = 4
time_min = 10
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "slurm.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_methods_build_on_the_defaults_and_a_job_of_several_asks_the_most(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, FILE)).settled(CPU)
    mtt, dm, other = (table.asked([name]) for name in ("mtt", "dm", "random"))
    assert (mtt.partition, mtt.time_min, mtt.cpus, mtt.memory_mib) == ("long", 600, 2, 64000)
    assert mtt.sbatch == {"nice": 10, "comment": "expert trajectories", "exclusive": True}
    assert (dm.partition, dm.cpus, other.cpus, other.time_min) == ("short", 4, 2, 30)
    both = table.asked(["dm", "mtt", "dm"])
    assert (both.partition, both.cpus, both.time_min, both.memory_mib) == ("short", 4, 600, 64000)


def test_a_gpu_is_asked_for_where_the_run_uses_one() -> None:
    assert [Table().settled(each).asked(["dm"]).gpus for each in (CPU, CUDA)] == [0, 1]


def test_the_script_asks_what_the_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    submitit = pytest.importorskip("submitit", reason="the Slurm executor needs the extra `slurm`")
    from avbench.executors.slurm_submit import submit

    # An sbatch that takes every script: what it is given is what is looked at.
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sbatch", "srun"):
        (tools / name).write_text("#!/bin/sh\necho Submitted batch job 7\n", encoding="utf-8")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    folder = tmp_path / "run with spaces"
    folder.mkdir()
    asked = replace(read_table(write(tmp_path, FILE)).settled(CPU).asked(["mtt"]), gpus=2, setup=("module load cuda",))
    assert submit(folder, asked, "avbench-x", 3) == "7"
    script = (folder / "7_submission.sh").read_text(encoding="utf-8")
    lines = script.splitlines()
    for line in ("array=0-2%3", "partition=long", "time=600", "cpus-per-task=2", "gpus-per-node=2", "mem=64000M"):
        assert f"#SBATCH --{line}" in lines
    for line in ("nice=10", "comment='expert trajectories'", "exclusive", "requeue", "signal=USR2@90"):
        assert f"#SBATCH --{line}" in lines
    assert "module load cuda" in lines and "wckey" not in script
    assert script.rstrip().endswith(f"{sys.executable} -P -m avbench.executors.slurm_node '{folder}'")
    assert not list(folder.glob("*.pkl")) and submitit.__version__


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("defaults = 3", "defaults: expected a table"),
        ("[default]", "has no 'default'; did you mean 'defaults'?"),
        ("[defaults]\npartion = 'x'", "defaults has no 'partion'; did you mean 'partition'?"),
        ("[methods.dm]\ntime_min = 0", "methods.dm.time_min = 0: expected a whole number of at least 1"),
        ("[methods.dm]\ntime_min = '1:00'", "expected a whole number"),
        ("[defaults]\ngpus = true", "defaults.gpus = True: expected a whole number of at least 0"),
        ("[defaults]\npartition = 'x\\ny'\n[", "is no TOML"),
        ('[defaults]\npartition = "x\\ntouch y"', "expected text on one line"),
        ('[defaults]\nsbatch = { comment = "x\\ntouch y" }', "expected text on one line"),
        ('[defaults]\nsbatch = { "x\\ntouch y" = 1 }', "expected the long name of an option of sbatch"),
        ("[defaults]\nsbatch = { array = '0-9' }", "the executor says --array itself"),
        ("[defaults]\nsbatch = { qos = 'high' }", "write qos = … beside sbatch"),
        ("[defaults]\nsetup = 'module load x'", "expected a list of lines"),
        ("[defaults]\ncpus = 1", "cpus = 1, but --threads 2"),
        ("[defaults]\ntime_min = 1", "notice_s = 90 is not less than time_min = 1"),
    ],
)
def test_a_wrong_file_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        path = write(tmp_path, text)
        read_table(path).settled(CPU, str(path))
    assert said in str(error.value) and "slurm.toml" in str(error.value)


def test_a_gpu_run_that_asks_for_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="gpus = 0, but --device cuda"):
        read_table(write(tmp_path, "[defaults]\ngpus = 0")).settled(CUDA)


@pytest.mark.parametrize(
    ("executor", "said"),
    [
        ("slurm[resources=absent.toml]", "absent.toml]: can't be read"),
        ("slurm[resource=x]", "slurm has no option 'resource'; did you mean 'resources'?"),
        ("slurm[poll_s=0]", "expected at least 0.5"),
        ("local[x=1]", "local has no option 'x'"),
        ("local,ray", "a run has one executor"),
    ],
)
def test_a_wrong_request_is_one_line_and_status_2(tmp_path: Path, executor: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        choose(executor).build(CPU)
    assert said in str(error.value)


def test_the_command_line_refuses_a_wrong_file_before_it_does_anything(tmp_path: Path) -> None:
    file = write(tmp_path, "[defaults]\nnodes = 2")
    out = tmp_path / "runs"
    done = avbench(
        *("run", "--method", "random", "--dataset", "avdigits", "--ipc", "1", "--data", str(tmp_path / "data")),
        *("--out", str(out), "--executor", f'slurm[resources="{file}"]'),
    )
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].startswith("avbench: ") and "has no 'nodes'" in done.stderr
    assert "Traceback" not in done.stderr and not out.exists() and not (tmp_path / "data").exists()


def test_an_executor_without_options_is_built_from_the_resources_alone() -> None:
    assert isinstance(choose("local").build(CPU), LocalExecutor)


def test_without_slurm_the_executor_says_where_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RequestError, match=r"sbatch, .* not found on PATH; start the run on a login node"):
        SlurmExecutor(CPU)


def test_without_submitit_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(RequestError, match=r"pip install 'avbench\[slurm\]'"):
        SlurmExecutor(CPU)


def test_a_submission_is_read_as_it_was_written(tmp_path: Path) -> None:
    jobs = (SubmittedJob("a", "a-1", ("k", "l")), SubmittedJob("b", "b-1", ("m",)))
    submission = Submission(ProcessId.own(), "1", replace(CPU, timeout_s=3.5), 3, None, 90, jobs, "12")
    submission.write(tmp_path)
    assert Submission.read(tmp_path) == submission


def test_attempts_and_ends_survive_their_processes(tmp_path: Path) -> None:
    assert ended_of("job", tmp_path) is None
    lose(tmp_path, 3, "its node died")  # before it had begun
    lose(tmp_path, 3, "noted already")
    assert [(each["attempt"], each["why"]) for each in attempts_of(tmp_path, 3).lost] == [(1, "its node died")]
    (tmp_path / "node.json").write_text(json.dumps({"attempt": 2, "host": "n7"}), encoding="utf-8")
    assert "attempt 2 on n7: preempted" in lose(tmp_path, 3, "preempted").told
    ended = Ended("job", -9, "killed", "so")
    write_ended(tmp_path, ended)
    assert ended_of("job", tmp_path) == ended


def claim_of_a_dead_run(root: Path, job: Path) -> None:
    """As the claims of a run are once its process has gone."""
    assert Claims(root).take("task", job)
    (claim,) = (root / "claims").iterdir()
    values = json.loads(claim.read_text(encoding="utf-8"))
    values["run"] = asdict(replace(ProcessId.own(), process=2**22 + 1))
    claim.write_text(json.dumps(values), encoding="utf-8")


def test_a_job_holds_its_tasks_though_its_run_has_died(tmp_path: Path) -> None:
    job, mine = tmp_path / "jobs" / "one", JobClaims(tmp_path)
    claim_of_a_dead_run(tmp_path, job)
    assert mine.join("task", job, "7") and mine.held
    assert not Claims(tmp_path).take("task", tmp_path / "jobs" / "two")
    mine.release_all()
    assert Claims(tmp_path).take("task", tmp_path / "jobs" / "two")
    assert not JobClaims(tmp_path).join("task", job, "7")  # another's by now


def test_of_two_slurm_jobs_for_one_folder_one_gets_the_task(tmp_path: Path) -> None:
    """As after a submission that Slurm took and did not confirm."""
    job, first = tmp_path / "jobs" / "one", JobClaims(tmp_path)
    assert Claims(tmp_path).take("task", job)
    assert first.join("task", job, "7")
    assert not JobClaims(tmp_path).join("task", job, "8")
    assert JobClaims(tmp_path).join("task", job, "7")  # queued again: Slurm has ended the attempt before
    assert len(list((tmp_path / "claims").iterdir())) == 2


def test_a_job_adds_nothing_to_what_its_living_run_has_given_up(tmp_path: Path) -> None:
    job, run = tmp_path / "jobs" / "one", Claims(tmp_path)
    assert run.take("task", job)
    run.release("task")
    assert not JobClaims(tmp_path).join("task", job, "7")


def test_what_a_dead_job_held_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    job, other, run = tmp_path / "jobs" / "one", tmp_path / "jobs" / "two", Claims(tmp_path)
    assert run.take("task", job) and run.take("more", other)
    assert JobClaims(tmp_path).join("task", job, "7") and JobClaims(tmp_path).join("more", other, "8")
    forget(tmp_path, job)
    left = sorted(path.name for path in (tmp_path / "claims").iterdir())
    assert left == ["more.1", "more.2", "task.1"]
