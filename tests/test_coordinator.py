"""The coordinator on an executor that writes what it is told, without processes: outcomes, events, interrupts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Small

from avbench import coordinator
from avbench.coordinator import Coordinator, Outcome
from avbench.executors.base import Ended, Executor, Resources
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import Engine, task_to_json
from avbench.plan import make_plan
from avbench.results import RunDirectory

Says = Callable[[dict[str, Any]], list[str]]


class Scripted(Executor):
    """Each job writes at once what ``says`` gives for its specification, and ends."""

    def __init__(self, says: Says) -> None:
        super().__init__(Resources(1, "cpu", 1))
        self.says, self.ids, self.folders = says, list[str](), list[Path]()

    def has_room(self) -> bool:
        return True

    def start(self, job_id: str, folder: Path) -> None:
        spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        self.ids.append(job_id)
        self.folders.append(folder)
        (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in self.says(spec)), encoding="utf-8")

    def ended(self) -> list[Ended]:
        found, self.ids = [Ended(job_id, 0) for job_id in self.ids], []
        return found

    def stop(self) -> None:
        pass


class Heard(Hooks):
    """Hooks that note what is fired."""

    def __init__(self) -> None:
        super().__init__()
        self.fired: list[tuple[str, dict[str, Any]]] = []

    def fire(self, event: str, **arguments: Any) -> None:
        self.fired.append((event, arguments))


def run(small: Small, out: Path, says: Callable[[str], list[str]]) -> tuple[Callable[[], Outcome], Scripted, Heard]:
    """A coordinator over two evaluations of one set, each of whose tasks says what ``says`` gives for its key."""
    judges = parse_variants("convnet,convnet[width=8]", "--arch")
    request = Request(
        parse_variants("random", "--method"), (small.stores[1].info,), (1,), seeds=1, architectures=judges
    )
    plan = make_plan(request, RunDirectory(out))
    waiting = list(plan.jobs)  # the coordinator starts them in this order here, as there is always room

    def lines(spec: dict[str, Any]) -> list[str]:
        (job,) = [each for each in waiting if task_to_json(each.tasks[0])["kind"] == spec["tasks"][0]["kind"]][:1]
        waiting.remove(job)
        return [line for task in job.tasks for line in says(task.key)]

    executor, hooks = Scripted(lines), Heard()
    found = Coordinator(plan, RunDirectory(out), small.data, executor, Engine(), (), hooks, lambda event: None)
    return found.run, executor, hooks


def event(kind: str, key: str, **more: Any) -> str:
    return json.dumps({"event": kind, "task": key, "time": 0.0, **more})


def test_failures_are_kept_by_task_and_told_to_hooks(small: Small, tmp_path: Path) -> None:
    act, executor, hooks = run(small, tmp_path, lambda key: [event("failed", key, reason=f"reason of {key}")])
    outcome = act()
    assert len(outcome.failed) == 3
    assert len({mishap.title for mishap in outcome.failed.values()}) == 3
    assert all(mishap.reason == f"reason of {key}" for key, mishap in outcome.failed.items())
    told = dict(hooks.fired)["run_finished"]
    assert (told["failed"], told["stranded"], told["interrupted"]) == (3, 0, False)
    jobs = [arguments["job"] for name, arguments in hooks.fired if name == "job_started"]
    assert jobs == [arguments["job"] for name, arguments in hooks.fired if name == "job_finished"]
    assert all(job["id"] and job["tasks"] for job in jobs)
    assert len(executor.folders) == len(jobs)


def test_lines_that_are_no_events_are_passed_over(small: Small, tmp_path: Path) -> None:
    broken = ["", "{", "[1]", "3", "{}", '{"event": "done"}', '\udcff"'.encode("utf-8", "replace").decode()]

    def says(key: str) -> list[str]:
        return [*broken, json.dumps({"event": "failed", "task": key}), event("done", key)]

    act, _, _ = run(small, tmp_path, says)
    outcome = act()
    assert len(outcome.done) == 3 and not outcome.failed


def test_every_attempt_has_folders_of_its_own(small: Small, tmp_path: Path) -> None:
    attempts = [run(small, tmp_path, lambda key: [event("done", key)]) for _ in range(2)]
    for act, _, _ in attempts:
        act()
    folders = [set(executor.folders) for _, executor, _ in attempts]
    assert len(folders[0]) == len(folders[1]) and not folders[0] & folders[1]


def test_a_job_that_is_started_again_meets_nothing_that_its_first_start_left(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was taken over may have left word of its end, and its worker may still write."""
    monkeypatch.setattr(coordinator, "_LOOK_AGAIN_S", 0.0)
    act, executor, _ = run(small, tmp_path, lambda key: [event("done", key)])
    start = executor.start
    seen = list[set[str]]()

    def overtaken(job_id: str, folder: Path) -> None:
        seen.append({path.name for path in folder.iterdir()})
        if len(seen) > 2:
            start(job_id, folder)
            return
        (folder / "ended.json").write_text("{}", encoding="utf-8")
        executor.folders.append(folder)
        taken.append(Ended(job_id, 1, "taken over"))

    taken = list[Ended]()
    ended = executor.ended
    monkeypatch.setattr(executor, "start", overtaken)
    monkeypatch.setattr(executor, "ended", lambda: [taken.pop() for _ in range(len(taken))] + ended())
    outcome = act()
    assert len(outcome.done) == 3 and not outcome.failed
    assert len(set(executor.folders)) == len(executor.folders) > 3
    assert all(names == {"spec.json", "events.jsonl"} for names in seen)
    # By the end of the name status knows whose run a folder is of.
    assert len({folder.name.split("-", 2)[2] for folder in executor.folders}) == 1
    assert [folder.name.split("-")[1].partition(".")[2] for folder in executor.folders[:3]] == ["", "2", "3"]


def test_an_interrupt_is_told_to_hooks(small: Small, tmp_path: Path) -> None:
    def says(key: str) -> list[str]:
        raise KeyboardInterrupt

    act, _, hooks = run(small, tmp_path, says)
    with pytest.raises(KeyboardInterrupt):
        act()
    name, told = hooks.fired[-1]
    assert (name, told["interrupted"]) == ("run_finished", True)
