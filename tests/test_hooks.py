"""Hook plugins get the events of a run; one that raises is reported once and harms nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packages import avbench, install

LOGGING = '''
    """Appends every event to the file that HOOK_LOG names."""
    import json, os
    from avbench.hooks import hookimpl

    def note(**event):
        with open(os.environ["HOOK_LOG"], "a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\\n")

    @hookimpl
    def run_started(run):
        note(event="run_started", jobs=run["jobs"])

    @hookimpl
    def run_finished(failed, stranded, interrupted):
        note(event="run_finished", failed=failed, stranded=stranded, interrupted=interrupted)

    @hookimpl
    def job_started(job):
        note(event="job_started", tasks=len(job["tasks"]), id=job["id"])

    @hookimpl
    def job_finished(job, status):
        note(event="job_finished", status=status, tasks=len(job["tasks"]), id=job["id"])

    @hookimpl
    def step(task, step, metrics):
        note(event="step", task=task, step=step, loss=metrics.get("loss"))
'''
RAISING = '''
    """Raises whenever it is called."""
    from avbench.hooks import hookimpl

    @hookimpl
    def job_started(job):
        raise RuntimeError("I always raise")
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = {"avbench.hooks": {"logging": "hook_logging", "raising": "hook_raising"}}
    modules = {"hook_logging": LOGGING, "hook_raising": RAISING}
    return install(tmp_path_factory.mktemp("hooks"), "some-hooks", entries, modules)


def test_hooks_see_run_job_and_step_events_and_a_raising_one_is_told_once(
    site: Path, avdigits_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_LOG", str(tmp_path / "events"))
    done = avbench(
        *("run", "--method", "random,dm", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1"),
        *("--set", "dm.steps=3", "--set", "dm.batch_real=4", "--set", "convnet.width=4"),
        *("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2"),
        *("--hook", "logging", "--hook", "raising"),
        *("--data", str(avdigits_data), "--out", str(tmp_path / "runs")),
        site=site,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("I always raise") == 1
    assert "hook 'raising'" in done.stderr
    events = [json.loads(line) for line in (tmp_path / "events").read_text(encoding="utf-8").splitlines()]
    assert (events[0]["event"], events[-1]["event"]) == ("run_started", "run_finished")
    assert events[-1] == {"event": "run_finished", "failed": 0, "stranded": 0, "interrupted": False}
    jobs = events[0]["jobs"]
    told = [{(e["id"], e["tasks"]) for e in events if e["event"] == f"job_{what}"} for what in ("started", "finished")]
    assert told[0] == told[1] and len(told[0]) == jobs
    assert [e["event"] for e in events].count("job_started") == jobs == 4
    assert [e["status"] for e in events if e["event"] == "job_finished"] == ["done"] * jobs
    curve = [json.loads(line) for line in next(tmp_path.glob("runs/distil/*/curve.jsonl")).open(encoding="utf-8")]
    steps = [e for e in events if e["event"] == "step"]
    assert [(c["step"], c["loss"]) for c in curve] == [
        (e["step"], e["loss"]) for e in steps if e["loss"] and e in steps[:3]
    ]
    assert len(steps) == 3 + 4 + 4  # three of dm, and the epochs of two evaluations
