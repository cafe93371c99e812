"""Tasks as a worker does them, in this process: what cells share, what a set is held to, what counts as done."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from avbench.api import SelectedSet
from avbench.desk import Desk, Spec, TaskError
from avbench.distill.real import RealSide
from avbench.distilled import load
from avbench.grammar import parse_variants
from avbench.jobs import DistilTask, Engine, EvaluateTask, PrerequisiteTask
from avbench.plan import Plan, Request, make_plan
from avbench.results import RunDirectory
from avbench.tasks.checking import check_set
from avbench.tasks.distilling import _trim, distil
from avbench.tasks.evaluating import _judging, evaluate
from avbench.tasks.prerequisites import build_prerequisite

SETTINGS = {
    "dm": {"steps": "4", "batch_real": "4"},
    "avdd": {"steps": "4", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "2", "epochs": "1"},
}


class Bench:
    """A run directory on the small store, with the tasks of a grid done by hand."""

    def __init__(self, small: Any, out: Path) -> None:
        self.small, self.directory = small, RunDirectory(out)
        out.mkdir(parents=True, exist_ok=True)

    def plan(self, methods: str, ipcs: Sequence[int] = (1,), **changes: Any) -> Plan:
        request = Request(
            parse_variants(methods, "--method"),
            (self.small.stores[1].info,),
            tuple(ipcs),
            seeds=1,
            networks=2,
            preset="quick",
            settings={name: SETTINGS[name] for name in self._used(methods)},
            **changes,
        )
        return make_plan(request, self.directory)

    @staticmethod
    def _used(methods: str) -> list[str]:
        return [name for name in SETTINGS if name not in ("dm", "avdd") or name in methods]

    def desk(self) -> Desk:
        spec = Spec((), self.directory.root, self.small.data, Engine(), ("test",), ())
        return Desk(spec, self.directory.root / "events.jsonl")

    def carry_out(self, plan: Plan) -> None:
        for job in plan.jobs:
            desk = self.desk()
            distil(desk, [task for task in job.tasks if isinstance(task, DistilTask)])
            for task in job.tasks:
                if isinstance(task, PrerequisiteTask):
                    build_prerequisite(desk, task)
                elif isinstance(task, EvaluateTask):
                    evaluate(desk, task)

    def records(self, kind: str) -> list[dict[str, Any]]:
        return list(self.directory.records(kind))


@pytest.fixture
def bench(small: Any, tmp_path: Path) -> Bench:
    return Bench(small, tmp_path / "runs")


def test_dm_and_avdd_at_all_ipcs_draw_each_step_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    draw = RealSide._draw
    monkeypatch.setattr(RealSide, "_draw", lambda self, k: (drawn.append(k), draw(self, k))[1])
    bench.carry_out(bench.plan("dm,dm[lr=4.2],avdd", (1, 2)))
    assert len([r for r in bench.records("distil") if r["status"] == "done"]) == 6
    assert drawn == [0, 1, 2, 3]


def test_a_set_is_the_same_whether_its_steps_were_shared_or_not(bench: Bench, small: Any, tmp_path: Path) -> None:
    bench.carry_out(bench.plan("dm,avdd", (1, 2)))
    alone = Bench(small, tmp_path / "alone")
    for method in ("avdd", "dm"):
        for ipc in (2, 1):
            alone.carry_out(alone.plan(method, (ipc,)))
    together = {r["key"]: r["result"]["content_hash"] for r in bench.records("distil")}
    assert together == {r["key"]: r["result"]["content_hash"] for r in alone.records("distil")}


def test_the_order_of_methods_and_ipcs_changes_no_key(bench: Bench) -> None:
    one = {cell.key for cell in bench.plan("dm,avdd,random", (1, 2)).cells}
    other = {cell.key for cell in bench.plan("random,avdd,dm", (2, 1)).cells}
    assert one == other


def test_only_the_whole_set_in_its_own_order_gives_networks_to_others(bench: Bench) -> None:
    plan = bench.plan("whole")
    bench.carry_out(plan)
    assert len(bench.records("prerequisite")) == 2
    (task,) = plan.evaluations
    whole = load(bench.directory.folder("distil", task.cell.key))
    assert _judging(bench.desk(), task, whole).recall(0) is not None
    # All samples in another order, as a selection of everything gives them, train other networks.
    assert isinstance(whole, SelectedSet)
    reordered = replace(whole, rows=whole.rows.flip(0), labels=whole.labels.flip(0))
    assert _judging(bench.desk(), task, reordered).recall(0) is None


def test_avdd_records_its_controls(bench: Bench) -> None:
    bench.carry_out(bench.plan("avdd"))
    (record,) = bench.records("distil")
    controls = ["dm[init=herding,factor=2]", "dm[init=herding,factor=2,lr_audio=4.2,lr_visual=4.2]"]
    assert record["result"]["controls"] == controls


@pytest.mark.parametrize("lost", ["distilled.safetensors", "distilled.json"])
def test_a_lost_artefact_is_made_again_and_judged_from_the_record_it_has(bench: Bench, lost: str) -> None:
    bench.carry_out(bench.plan("dm"))
    (before,) = bench.records("distil")
    (bench.directory.folder("distil", before["key"]) / lost).unlink()
    plan = bench.plan("dm")
    assert [job.kind for job in plan.jobs] == ["distil", "evaluate"]
    bench.carry_out(plan)
    (after,) = bench.records("distil")
    assert after["result"]["content_hash"] == before["result"]["content_hash"]
    assert len(bench.records("evaluate")) == 1
    assert bench.plan("dm").jobs == ()


def test_a_lost_network_is_trained_again_when_something_missing_requires_it(bench: Bench) -> None:
    bench.carry_out(bench.plan("herding"))
    (network,) = bench.records("prerequisite")
    (bench.directory.folder("prerequisite", network["key"]) / "tensors.safetensors").unlink()
    assert bench.plan("herding").jobs == ()  # nothing is missing that needs it
    assert [job.kind for job in bench.plan("herding", (1, 2)).jobs] == ["prerequisite", "distil", "evaluate"]


def test_durations_add_up_over_the_processes_that_worked_on_a_cell(bench: Bench) -> None:
    plan = bench.plan("dm")
    (task,) = plan.jobs[0].tasks
    from avbench.checkpoint import save_checkpoint
    from avbench.tasks.distilling import _begin, _state

    desk = bench.desk()
    running = _begin(desk, task, {})  # type: ignore[arg-type]
    running.spent_s = 1000.0
    save_checkpoint(desk.checkpoint(task, task.key), 0, _state(running))
    bench.carry_out(plan)
    (record,) = bench.records("distil")
    assert 1000 < record["duration_s"] < 1100


def selection(bench: Bench, rows: list[int], labels: list[int]) -> SelectedSet:
    return SelectedSet(bench.small.stores[1].info, "av", torch.tensor(labels), torch.tensor(rows))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([0, 9, 21], "3 rows were selected, the budget is 4"),
        ([0, 9, 21, 99], "rows from 0 to 99 of 36 samples"),
        ([0, 9, 21, 21], "only 3 of the 4 selected rows are distinct"),
        ([0, 1, 21, 26], "1 of the 4 selected rows are of another class"),
    ],
)
def test_a_selection_is_held_to_its_labels(bench: Bench, rows: list[int], words: str) -> None:
    (cell,) = bench.plan("random").cells
    train_labels = torch.arange(4).repeat_interleave(torch.tensor(bench.small.COUNTS["train"]))
    check_set(selection(bench, [0, 9, 21, 26], [0, 1, 2, 3]), cell, train_labels)
    with pytest.raises(TaskError, match=words):
        check_set(selection(bench, rows, [0, 1, 2, 3]), cell, train_labels)


def test_a_curve_keeps_the_steps_that_stay_and_drops_a_torn_line(tmp_path: Path) -> None:
    curve = tmp_path / "curve.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (0, 10, 20, 30)]
    curve.write_text("\n".join(lines) + '\n{"step": 4', encoding="utf-8")
    _trim(curve, 20)
    assert [json.loads(line)["step"] for line in curve.read_text(encoding="utf-8").splitlines()] == [0, 10]
