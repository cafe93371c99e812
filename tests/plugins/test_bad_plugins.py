"""Plugins that misbehave in ways that no other module shows, as really installed packages: the run goes on.

What fails to import, is of the wrong type, or raises while a run is planned: tests/test_plugins.py. What raises in a
step, is not finite, or breaks its budget: tests/test_failures.py. What takes too long or too much:
tests/cli/test_limits.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from conftest import Small
from packages import avbench, install, pip_install

from avbench.errors import PluginError
from avbench.grammar import parse_settings, parse_variants
from avbench.grid import Request
from avbench.jobs import DistilTask, Engine, task_to_json
from avbench.plan import make_plan
from avbench.plugins import load, refresh
from avbench.results import RunDirectory

METHODS = '''
    """Methods without manners."""
    import os, random, signal
    import numpy, torch
    from avbench.api import SelectionMethod, hookimpl

    print("printed by an import")

    class Plain(SelectionMethod):
        """In order, after saying so."""
        def select(self, cls, count):
            print("printed by a worker")
            return [int(row) for row in self.context.train.class_rows(cls)[:count]]

        @classmethod
        def shares(cls, config):
            print("printed by a plan")
            return None

    class Construct(Plain):
        """Can't be made."""
        def __init__(self, config, context):
            raise LookupError("not this time")

    class Distil(Plain):
        """Has nothing to give."""
        def distilled(self):
            raise TypeError("nothing distilled")

    class Seeding(Plain):
        """Seeds every global generator anew."""
        steps = 1
        def step(self, k):
            torch.manual_seed(7); numpy.random.seed(7); random.seed(7)
            torch.use_deterministic_algorithms(False)
            return {}

    class Dying(Plain):
        """Ends its process."""
        steps = 2
        def step(self, k):
            if k:
                os.kill(os.getpid(), signal.SIGKILL)
            return {}

    class Hook:
        """Raises in workers alone, and prints."""
        @hookimpl
        def step(self, task, step, metrics):
            raise OSError("no step for me")

        @hookimpl
        def run_started(self):
            print("printed by a hook")
'''
NAMES = {"plain": "Plain", "construct": "Construct", "distil": "Distil", "seeding": "Seeding", "dying": "Dying"}
TOO_NEW = '''
    """Written for an avbench of the future."""
    from avbench.api import what_only_the_future_has
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = {"avbench.methods": {name: f"manners:{target}" for name, target in NAMES.items()}}
    entries["avbench.hooks"] = {"worker-only": "manners:Hook"}
    return install(tmp_path_factory.mktemp("manners"), "bad-manners", entries, {"manners": METHODS})


def records(out: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("distil/*/record.json")]
    return {each["method"]["name"]: each for each in found}


def test_one_that_prints_and_one_that_dies_leave_the_others_and_the_output_alone(
    site: Path, small: Small, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    done = avbench(
        *("run", "--method", "plain,dying", "--dataset", "small1", "--ipc", "2", "--preset", "quick", "--json"),
        *("--seeds", "1", "--networks", "1", "--set", "convnet.width=4", "--hook", "worker-only", "--hook", "jsonl"),
        *("--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1"),
        *("--data", str(small.data), "--out", str(out)),
        site=site,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    (board,) = json.loads(done.stdout)["boards"]  # nothing else is there
    assert "plain" in json.dumps(board)
    for words in ("by an import", "by a plan", "by a hook"):
        assert f"printed {words}" in done.stderr
    assert any("printed by a worker" in log.read_text(encoding="utf-8") for log in out.glob("jobs/*/log.txt"))
    found = records(out)
    assert found["plain"]["status"] == "done"
    error, method = found["dying"]["error"], found["dying"]["method"]
    assert (error["phase"], error["cause"]) == ("step 1", "killed")
    assert (method["distribution"], method["distribution_version"]) == ("bad-manners", "1.2.3")
    assert any("dying" in line and "SIGKILL" in line for line in done.stderr.splitlines())
    (log,) = out.glob("hooks/jsonl/coordinator-*.jsonl")
    told = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    ends = [(each["kind"], each["status"]) for each in told if each["event"] == "task_finished"]
    assert sorted(ends) == [("distil", "done"), ("distil", "failed"), ("evaluate", "done"), ("evaluate", "stranded")]
    assert any("step" in log.read_text(encoding="utf-8") for log in out.glob("hooks/jsonl/worker-*.jsonl"))
    (line,) = [line for line in done.stderr.splitlines() if "no step for me" in line]  # raised in more than one step
    assert "hook 'worker-only' raised in step: OSError" in line


def test_those_in_one_process_fail_each_in_its_phase_and_change_nobody_s_draws(
    site: Path, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(site))
    refresh()
    try:
        request = Request(
            parse_variants("seeding,construct,distil,dm[steps=2,batch_real=4]", "--method"),
            (small.stores[1].info,),
            (2,),
            seeds=1,
            settings=parse_settings(["convnet.width=4"]),
        )
        plan = make_plan(request, RunDirectory(tmp_path))
    finally:
        refresh()
    job = tmp_path / "jobs" / "all"
    job.mkdir(parents=True)
    engine = asdict(Engine())
    tasks = [task_to_json(DistilTask(cell)) for cell in plan.cells]
    spec = {"tasks": tasks, "out": str(tmp_path), "data": str(small.data), "engine": engine, "argv": [], "hooks": []}
    (job / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(site)}
    subprocess.run([sys.executable, "-P", "-m", "avbench.worker", str(job)], env=environment, check=False)
    found = records(tmp_path)
    assert found["seeding"]["status"] == found["dm"]["status"] == "done"
    for name, words in (("construct", "LookupError: not this time"), ("distil", "TypeError: nothing distilled")):
        assert (found[name]["error"]["phase"], found[name]["error"]["reason"]) == ("distil", words)
        assert found[name]["method"]["distribution"] == "bad-manners"
    alone = small.method("dm", small.context(ipc=2), **{**found["dm"]["method"]["options"], "steps": 2})
    for k in range(2):
        alone.step(k)
    assert found["dm"]["result"]["content_hash"] == alone.distilled().content_hash


def test_a_plugin_for_another_avbench_says_so_before_its_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "too_new.py").write_text(textwrap.dedent(TOO_NEW), encoding="utf-8")
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "too-new"\nversion = "2.0"\n'
        "dependencies = [\"avbench>=99; python_version>='3'\"]\n"
        '[project.entry-points."avbench.methods"]\nfuture = "too_new:Future"\n'
        '[tool.hatch.build.targets.wheel]\nonly-include = ["too_new.py"]\n',
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(pip_install(tmp_path / "site", source)))
    refresh()
    try:
        with pytest.raises(PluginError, match=r"too-new 2\.0.*needs avbench>=99.*this is avbench") as refused:
            load("methods", "future")
        assert refused.value.phase == "version"
        assert load("methods", "random").info.distribution == "avbench"
    finally:
        refresh()
