"""Class shards: cells cut by class over jobs and put together give what whole cells give, and resume like them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Small

from avbench.cli.running import show_plan
from avbench.coordinator import Coordinator
from avbench.desk import Desk, Spec, TaskError
from avbench.distill.real import RealSide
from avbench.distilled import LearnedSet, SelectedSet, load
from avbench.executors.base import Ended, Executor, Resources
from avbench.grammar import parse_variants
from avbench.hooks import Hooks
from avbench.jobs import (
    ClassRange,
    DistilTask,
    Engine,
    EvaluateTask,
    Job,
    PrerequisiteTask,
    ShardTask,
    task_from_json,
    task_to_json,
)
from avbench.plan import Plan, Request, make_plan
from avbench.results import RunDirectory
from avbench.shards import class_ranges, cut
from avbench.status import Observer
from avbench.tasks.distilling import distil
from avbench.tasks.evaluating import evaluate
from avbench.tasks.merging import join_notes, join_sets, merge
from avbench.tasks.prerequisites import build_prerequisite
from avbench.verification.integrity import check_integrity

SETTINGS = {
    "dm": {"steps": "4", "batch_real": "4"},
    "avdd": {"steps": "4", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "2", "epochs": "1"},
}


class Interrupted(BaseException):
    """A worker dies."""


class DyingDesk(Desk):
    """A desk whose worker dies before a step; it checkpoints after every one."""

    dies_at: int | None = None

    def step(self, task: Any, work: Any, k: int, curve: Any) -> None:
        if k == self.dies_at:
            raise Interrupted
        super().step(task, work, k, curve)


class Grid:
    """A grid on the small store in a run directory, its jobs done by hand as a worker does them."""

    def __init__(self, small: Small, out: Path, methods: str = "dm,avdd", ipcs: Sequence[int] = (1, 2)) -> None:
        self.small, self.directory = small, RunDirectory(out)
        self.methods, self.ipcs = methods, tuple(ipcs)
        (out / "jobs").mkdir(parents=True, exist_ok=True)

    def plan(self, shards: int = 1, retry_failed: bool = False, **changes: Any) -> Plan:
        used = {name: values for name, values in SETTINGS.items() if name not in ("dm", "avdd") or name in self.methods}
        request = Request(
            parse_variants(self.methods, "--method"),
            (self.small.stores[1].info,),
            self.ipcs,
            **{"seeds": 1, "networks": 1, "preset": "quick", "settings": used, "snapshots": (0, 3), **changes},
            retry_failed=retry_failed,
        )
        return cut(make_plan(request, self.directory), self.directory, shards)

    def desk(self, dies_at: int | None = None) -> DyingDesk:
        engine = Engine(checkpoint_s=0.0 if dies_at is not None else 60.0)
        spec = Spec((), self.directory.root, self.small.data, engine, ("test",), ())
        found = DyingDesk(spec, self.directory.root / "jobs" / "events.jsonl")
        found.dies_at = dies_at
        return found

    def do(self, job: Job, dies_at: int | None = None) -> None:
        desk = self.desk(dies_at)
        for task in job.tasks:
            if isinstance(task, PrerequisiteTask):
                build_prerequisite(desk, task)
            elif isinstance(task, EvaluateTask):
                evaluate(desk, task)
            elif isinstance(task, DistilTask) and task.shards:
                merge(desk, task)
        distil(desk, [t for t in job.tasks if isinstance(t, ShardTask) or (isinstance(t, DistilTask) and not t.shards)])

    def carry_out(self, plan: Plan, *, judged: bool = False) -> None:
        """All jobs; those that judge sets only where this is asked for: they take most of the time."""
        for job in plan.jobs:
            if judged or job.kind != "evaluate":
                self.do(job)

    def records(self, kind: str = "distil") -> dict[str, dict[str, Any]]:
        found = {record["key"]: record for record in self.directory.records(kind)}
        assert all(record["status"] == "done" for record in found.values()), found
        return found

    def sets(self) -> dict[str, list[tuple[Any, ...]]]:
        """The content hash of every set, and of its snapshots, as the files on disk give it."""
        found = {}
        for key, record in self.records().items():
            folders = [
                self.directory.set_folder(key, step) for step in (None, *map(int, record["result"]["snapshots"]))
            ]
            found[key] = [(load(folder).content_hash, load(folder).notes) for folder in folders]
        return found

    def scores(self) -> dict[str, Any]:
        return {key: record["result"]["networks"] for key, record in self.records("evaluate").items()}

    def left(self) -> list[str]:
        return sorted(path.name for path in (self.directory.root / "shard").glob("*"))


@pytest.fixture(scope="module")
def whole(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    """The grid that nobody cut."""
    grid = Grid(small, tmp_path_factory.mktemp("whole") / "runs")
    grid.carry_out(grid.plan(), judged=True)
    return grid


@pytest.fixture
def grid(small: Small, tmp_path: Path) -> Grid:
    return Grid(small, tmp_path / "runs")


def of_kind(plan: Plan, kind: str) -> list[Job]:
    return [job for job in plan.jobs if job.kind == kind]


def curve(directory: RunDirectory, key: str) -> list[dict[str, float]]:
    text = (directory.folder("distil", key) / "curve.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


# --- the cut ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("classes", "shards", "lengths"), [(10, 3, {3, 4}), (4, 9, {1}), (309, 4, {77, 78}), (5, 1, {5})]
)
def test_ranges_hold_every_class_once_and_are_about_as_long(classes: int, shards: int, lengths: set[int]) -> None:
    found = class_ranges(classes, shards)
    assert [each for part in found for each in part.indices] == list(range(classes))
    assert {len(part.indices) for part in found} == lengths
    assert len(found) == min(classes, shards)


def test_cells_that_share_their_steps_are_cut_together_and_keep_their_keys(grid: Grid, whole: Grid) -> None:
    plan = grid.plan(3)
    assert {cell.key for cell in plan.cells} == set(whole.records())
    making, (merging,) = of_kind(plan, "shard"), of_kind(plan, "distil")
    assert [{(task.cell.method.name, task.cell.ipc) for task in job.tasks} for job in making] == [
        {("dm", 1), ("dm", 2), ("avdd", 1), ("avdd", 2)}
    ] * 3
    assert [{task.classes for task in job.tasks} for job in making] == [
        {ClassRange(0, 1)},
        {ClassRange(1, 2)},
        {ClassRange(2, 4)},
    ]
    (features,) = plan.prerequisites
    assert all(job.needs == {features.key} for job in making)  # avdd starts from herding
    assert merging.needs == {task.key for job in making for task in job.tasks}
    assert plan.disk_bytes > grid.plan().disk_bytes  # parts and whole are there for a while together


def test_tasks_survive_the_specification_of_a_job(grid: Grid) -> None:
    for job in grid.plan(2).jobs:
        for task in job.tasks:
            again = task_from_json(json.loads(json.dumps(task_to_json(task))))
            assert (again, again.key, again.title) == (task, task.key, task.title)


def test_what_is_not_separable_stays_whole_and_a_note_says_why(small: Small, tmp_path: Path) -> None:
    settings = {"convnet": {"width": "4"}}
    mixed = Grid(small, tmp_path / "runs", "random,dc,dm").plan(2, settings=settings, snapshots=())
    assert {task.cell.method.name for job in of_kind(mixed, "shard") for task in job.tasks} == {"dm"}
    uncut = [task for job in of_kind(mixed, "distil") for task in job.tasks if not task.shards]
    assert {task.cell.method.name for task in uncut} == {"random", "dc"}
    notes = "\n".join(mixed.notes)
    assert "--shards 2: random left whole" in notes and "--shards 2: dc left whole: the method does not say" in notes

    (normed,) = parse_variants("resnet18[norm=batch]", "--distil-arch")
    joint = Grid(small, tmp_path / "runs", "dm[init=noise]").plan(2, distil_architecture=normed, settings={})
    assert not of_kind(joint, "shard")
    assert "embedding depends on the others of its batch" in "\n".join(joint.notes)


def test_a_dry_run_shows_what_of_a_cut_is_there(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    for job in grid.plan(2).jobs[:2]:
        grid.do(job)
    show_plan(grid.plan(2), as_json=True)
    shown = json.loads(capsys.readouterr().out)
    of_shards = [task for task in shown["tasks"] if task["kind"] == "shard"]
    assert [task["state"] for task in of_shards] == ["cached"] * 4 + ["to do"] * 4
    assert of_shards[-1]["task"] == "avdd[batch_real=4,steps=4] small1 ipc 2 seed 0, classes 2–3"
    assert len({task["job"] for task in of_shards[4:]}) == 1


# --- the result ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [2, 9])
def test_shards_merge_to_the_bits_of_the_whole(grid: Grid, whole: Grid, shards: int) -> None:
    grid.carry_out(grid.plan(shards), judged=True)
    assert grid.sets() == whole.sets()
    assert grid.scores() == whole.scores()
    for key, record in grid.records().items():
        plain = whole.records()[key]["result"]
        assert record["result"] == plain
        assert len(record["shards"]) == min(shards, 4)
        assert record["duration_s"] >= sum(each["duration_s"] for each in record["shards"])
        most = max(each["peak_memory_mib"]["resident"] for each in record["shards"])
        assert record["peak_memory_mib"]["resident"] >= most > 50
        ours, theirs = curve(grid.directory, key), curve(whole.directory, key)
        assert [row["step"] for row in ours] == [row["step"] for row in theirs] == [0, 1, 2, 3]
        assert [row["loss"] for row in ours] == pytest.approx([row["loss"] for row in theirs], rel=1e-6)
    assert grid.left() == []
    assert grid.plan(shards).jobs == ()
    assert not check_integrity(grid.directory.root).findings.problems


def test_a_shard_draws_the_real_side_of_a_step_once_for_all_its_cells(
    grid: Grid, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[tuple[int, ...], int]] = []
    draw = RealSide._draw
    monkeypatch.setattr(RealSide, "_draw", lambda self, k: (drawn.append((self.context.classes, k)), draw(self, k))[1])
    grid.carry_out(grid.plan(2))
    assert drawn == [(classes, k) for classes in ((0, 1), (2, 3)) for k in range(4)]


def test_the_notes_of_shards_are_those_of_the_whole(small: Small, tmp_path: Path) -> None:
    """Classes of 9, 12, 5 and 10 samples: at IPC 11 initial items wrap around in three of them."""
    grids = [Grid(small, tmp_path / name, "dm", (11,)) for name in ("whole", "cut")]
    for grid, shards in zip(grids, (1, 4), strict=True):
        grid.carry_out(grid.plan(shards, snapshots=()))
    notes = [[record["result"]["notes"] for record in grid.records().values()] for grid in grids]
    assert notes[0] == notes[1] == [["initialisation wrapped around in: ant, cat, dog"]]


def test_equal_notes_are_told_once_and_others_each() -> None:
    assert join_notes([["as it is"], ["as it is", "lost: 3"], ["lost: 4", "other"]]) == (
        "as it is",
        "other",
        "lost: 3, 4",
    )


def test_selections_merge_too_and_what_belongs_to_all_classes_is_refused(small: Small) -> None:
    info = small.stores[1].info
    parts = [SelectedSet(info, "av", torch.tensor([cls]), torch.tensor([row])) for cls, row in ((0, 4), (1, 12))]
    joined = join_sets(info, "av", parts)
    assert isinstance(joined, SelectedSet) and joined.rows.tolist() == [4, 12] and joined.labels.tolist() == [0, 1]
    learned = LearnedSet(info, "a", torch.tensor([0]), {"a": torch.zeros(1, *info.audio_shape)})
    for wrong in (replace(learned, factor=2), replace(learned, step_size={"a": 0.1}), parts[0]):
        with pytest.raises(TaskError, match="separable = False"):
            join_sets(info, "a", [learned, wrong])


# --- going on -----------------------------------------------------------------------------------------------------


def test_a_run_that_died_does_only_what_is_missing(grid: Grid, whole: Grid) -> None:
    first, second, _ = (plan := grid.plan(3)).jobs[1:4]
    grid.do(plan.jobs[0])
    grid.do(first)
    with pytest.raises(Interrupted):
        grid.do(second, dies_at=2)
    resumed = grid.plan(3)
    assert {task.key for task in first.tasks} <= resumed.done
    assert [job.tasks for job in of_kind(resumed, "shard")] == [job.tasks for job in of_kind(plan, "shard")[1:]]
    before = {key: record["finished"] for key, record in grid.records("shard").items()}
    made: list[int] = []
    desk = grid.desk()
    desk.step = lambda task, work, k, log: (made.append(k), Desk.step(desk, task, work, k, log))[1]  # type: ignore[method-assign]
    distil(desk, [task for task in second.tasks if isinstance(task, ShardTask)])
    assert sorted(set(made)) == [2, 3]  # from its checkpoint on
    grid.carry_out(grid.plan(3))
    assert grid.sets() == whole.sets()
    for key, record in grid.records().items():
        assert record["shards"][0]["finished"] == before[f"{key}-0-1"]


@pytest.mark.parametrize("moment", ["tasks.merging.join_sets", "desk.Desk.succeed"])
def test_a_merging_that_died_is_done_again_from_the_shards(
    grid: Grid, whole: Grid, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = grid.plan(2)
    for job in plan.jobs[:3]:
        grid.do(job)

    def die(*_: Any, **__: Any) -> None:
        raise Interrupted

    (merging,) = of_kind(plan, "distil")
    with monkeypatch.context() as patched, pytest.raises(Interrupted):
        patched.setattr(f"avbench.{moment}", die)
        grid.do(merging)
    assert len(grid.left()) == 8
    again = grid.plan(2)
    assert not of_kind(again, "shard")
    assert [job.tasks for job in of_kind(again, "distil")] == [merging.tasks]
    grid.carry_out(again)
    assert grid.sets() == whole.sets()
    assert grid.left() == []


def test_shards_that_outlive_their_merging_do_no_harm(grid: Grid, whole: Grid, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "remove_shards", lambda *_: None)  # killed after its record was written
        grid.carry_out(grid.plan(2), judged=True)
    assert len(grid.left()) == 8
    assert grid.plan(2).jobs == grid.plan(3).jobs == ()
    assert grid.sets() == whole.sets()
    assert not check_integrity(grid.directory.root).findings.problems


@pytest.mark.parametrize("shards", [1, 2])
def test_another_cut_or_none_goes_on_and_leaves_nothing_of_the_first(grid: Grid, whole: Grid, shards: int) -> None:
    plan = grid.plan(3)
    for job in plan.jobs[:2]:
        grid.do(job)
    with pytest.raises(Interrupted):
        grid.do(plan.jobs[2], dies_at=2)
    assert grid.left()
    grid.carry_out(grid.plan(shards))
    assert grid.sets() == whole.sets()
    assert grid.left() == []


def test_what_was_begun_whole_goes_on_whole(grid: Grid, whole: Grid) -> None:
    plan = grid.plan()
    grid.do(plan.jobs[0])
    with pytest.raises(Interrupted):
        grid.do(plan.jobs[1], dies_at=2)
    plan = grid.plan(2)
    assert not of_kind(plan, "shard")
    assert "begun whole before" in "\n".join(plan.notes)
    grid.carry_out(plan)
    assert grid.sets() == whole.sets()


def test_a_failed_shard_fails_its_cell_and_both_are_retried(grid: Grid, whole: Grid) -> None:
    plan = grid.plan(2)
    grid.do(plan.jobs[0])
    grid.do(plan.jobs[1])
    broken = plan.jobs[2].tasks[0]
    grid.desk().fail(broken, broken.key, 1.0, TaskError("step 3", "not finite: {'loss': nan}."))
    for task in plan.jobs[2].tasks[1:]:
        grid.do(Job((task,)))
    before_merging = grid.plan(2)
    assert before_merging.failed == (broken,)
    assert [task.title for task in before_merging.stranded] == [
        f"{start}{broken.cell.name}{end}"
        for start, end in (("", ""), ("evaluate ", ""), ("evaluate ", " after step 0"), ("evaluate ", " after step 3"))
    ]
    for job in plan.jobs[3:]:
        grid.do(job)
    failed = grid.directory.record("distil", broken.cell.key)
    assert failed is not None and failed["error"]["phase"] == "merge"
    assert "its shard of classes 2–3 failed: not finite" in failed["error"]["reason"]
    assert not of_kind(grid.plan(2), "shard")  # left alone
    again = grid.plan(2, retry_failed=True)
    assert [job.tasks for job in of_kind(again, "shard")] == [(broken,)]
    grid.carry_out(again)
    assert grid.sets() == whole.sets()


def test_a_shard_that_was_altered_is_not_merged(grid: Grid) -> None:
    plan = grid.plan(2)
    for job in plan.jobs[:3]:
        grid.do(job)
    one, other = plan.jobs[1].tasks[:2]
    folders = [grid.directory.folder("shard", task.key) for task in (one, other)]
    for name in ("distilled.json", "distilled.safetensors"):
        (folders[0] / name).write_bytes((folders[1] / name).read_bytes())
    grid.do(plan.jobs[3])
    record = grid.directory.record("distil", one.cell.key)
    assert record is not None and "was altered after it was recorded" in record["error"]["reason"]


def test_a_run_whose_cells_another_finished_meanwhile_makes_no_shard(grid: Grid) -> None:
    plan = grid.plan(2)
    grid.carry_out(grid.plan(), judged=True)

    class Idle(Executor):
        """Nothing is left to be started."""

        def has_room(self) -> bool:
            return True

        def start(self, job_id: str, folder: Path) -> None:
            raise AssertionError(job_id)

        def ended(self) -> list[Ended]:
            return []

        def stop(self) -> None:
            pass

    told: list[str] = []
    idle = Idle(Resources(1, "cpu", 1))
    listener = lambda event: told.append(event["event"])  # noqa: E731
    where = (grid.directory, grid.small.data)
    outcome = Coordinator(plan, *where, idle, Engine(), ("avbench",), Hooks(()), listener).run()
    assert outcome.done == {task.key for job in plan.jobs for task in job.tasks}
    assert set(told) == {"done"}


# --- a directory with shards in it --------------------------------------------------------------------------------


def test_a_shard_that_another_run_is_at_work_on_is_not_removed(grid: Grid) -> None:
    plan = grid.plan(2)
    grid.do(plan.jobs[0])
    grid.do(plan.jobs[1])
    busy = plan.jobs[1].tasks[0]
    claims = grid.directory.root / "claims"
    claims.mkdir()
    (claims / f"{busy.key}.1").touch()
    grid.carry_out(grid.plan(), judged=True)
    assert grid.left() == [busy.key]
    assert grid.directory.distilled(busy)  # nothing of it is left to do: its set is there
    found = check_integrity(grid.directory.root)
    assert not found.findings.problems


def test_verification_takes_shards_for_what_they_are_and_nothing_else(grid: Grid) -> None:
    plan = grid.plan(2)
    grid.carry_out(grid.plan(), judged=True)
    grid.do(plan.jobs[1])  # as a run leaves them that was killed before they were put together
    folder = grid.directory.root / "shard" / f"{plan.cells[0].key}-0-2"
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"")
    assert not check_integrity(grid.directory.root).findings.problems
    (folder / "run.sh").write_text("true", encoding="utf-8")
    (problem,) = check_integrity(grid.directory.root).findings.problems
    assert problem.where.endswith("run.sh")


def test_status_counts_shards_before_and_after_they_are_put_together(grid: Grid) -> None:
    plan = grid.plan(2)
    for index, job in enumerate(plan.jobs):
        folder = grid.directory.root / "jobs" / f"{job.id}-1"
        folder.mkdir(parents=True)
        spec = {"tasks": [task_to_json(task) for task in job.tasks]}
        (folder / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
        if index < 2:
            grid.do(job)
    found = Observer(grid.directory.root).look()
    assert {state: n for state, n in found.counts()["shard"].items() if n} == {"done": 4, "unfinished": 4}
    titles = [task.title for task in found.of("unfinished") if task.kind == "shard"]
    assert "dm[batch_real=4,steps=4] small1 ipc 1 seed 0, classes 2–3" in titles
    for job in (*of_kind(plan, "shard")[1:], *of_kind(plan, "distil")):
        grid.do(job)
    assert grid.left() == []
    found = Observer(grid.directory.root).look()
    assert {state: n for state, n in found.counts()["shard"].items() if n} == {"done": 8}
