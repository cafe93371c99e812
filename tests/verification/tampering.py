"""A small finished run to tamper with, and ways to do it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from avbench.desk import Desk, Spec
from avbench.grammar import parse_variants
from avbench.jobs import DistilTask, Engine, EvaluateTask, PrerequisiteTask
from avbench.plan import Request, make_plan
from avbench.results import RunDirectory
from avbench.tasks.distilling import distil
from avbench.tasks.evaluating import evaluate
from avbench.tasks.prerequisites import build_prerequisite
from avbench.verification.integrity import Results, check_integrity

#: What a submitter's command line may tell of their machine.
ARGV = ("avbench", "run", "--out", "/home/somebody/secret/runs", "--data=/srv/secret/data", "--ipc", "1")
SETTINGS = {
    "dm": {"steps": "3", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "4", "epochs": "2"},
}


_FINISHED: dict[Path, Path] = {}


def finish_run(small: Any, out: Path) -> Path:
    """A run directory with random, herding and dm (and a snapshot) at IPC 1, and all data; 2 seeds × 2 networks.

    It is made once a session, and only read: :class:`Copy` it to change it.
    """
    if small.data not in _FINISHED:
        _FINISHED[small.data] = _run(small, out)
    return _FINISHED[small.data]


def _run(small: Any, out: Path) -> Path:
    out.mkdir(parents=True)
    request = Request(
        parse_variants("random,herding,dm,whole", "--method"),
        (small.stores[1].info,),
        (1,),
        seeds=2,
        networks=2,
        preset="quick",
        settings=SETTINGS,
        snapshots=(2,),
    )
    for job in make_plan(request, RunDirectory(out)).jobs:
        desk = Desk(Spec((), out, small.data, Engine(), ARGV, ()), out.parent / "events.jsonl")
        distil(desk, [task for task in job.tasks if isinstance(task, DistilTask)])
        for task in job.tasks:
            if isinstance(task, PrerequisiteTask):
                build_prerequisite(desk, task)
            elif isinstance(task, EvaluateTask):
                evaluate(desk, task)
        assert not desk.failures
    return out


class Copy:
    """A copy of results, to be changed."""

    def __init__(self, source: Path, root: Path) -> None:
        self.root = root
        shutil.copytree(source, root)

    def records(self, kind: str, method: str) -> list[Path]:
        """Paths of a method's records, by seed; of evaluations those of the finished set."""
        found = []
        for path in (self.root / kind).glob("*/record.json"):
            record = read(path)
            whole = kind != "evaluate" or record["set_hash"] == self._made(record)["result"]["content_hash"]
            if record["method"]["name"] == method and whole:
                found.append((record["seed"], path))
        return [path for _, path in sorted(found)]

    def _made(self, record: dict[str, Any]) -> dict[str, Any]:
        return read(self.root / "distil" / record["distil_key"] / "record.json")

    def change(self, path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
        record = read(path)
        edit(record)
        path.write_text(json.dumps(record), encoding="utf-8")

    def check(self) -> Results:
        return check_integrity(self.root)

    def failed_checks(self) -> set[str]:
        return {problem.check for problem in self.check().findings.problems}


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def raise_accuracy(record: dict[str, Any], right: int, samples: int = 20) -> None:
    """Give every network so many more right answers of its test split, all else untouched."""
    for network in record["result"]["networks"]:
        network["accuracy"] = {
            part: min(samples, round(value * samples) + right) / samples for part, value in network["accuracy"].items()
        }


def lower_accuracy(record: dict[str, Any]) -> None:
    """Scores that no honest run gives, and that are possible: every answer wrong."""
    for network in record["result"]["networks"]:
        network["accuracy"] = dict.fromkeys(network["accuracy"], 0.0)
