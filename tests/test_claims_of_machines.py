"""Runs of several machines in one directory: what one took over, made, or recorded is not done again by another."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Small

from avbench import claims
from avbench.claims import ProcessId
from avbench.coordinator import Coordinator, Outcome
from avbench.executors.base import Ended, Executor, Resources
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import Engine, EvaluateTask, task_from_json
from avbench.plan import make_plan
from avbench.results import RunDirectory


class Instant(Executor):
    """Each job says at once that all its tasks are done, and ends."""

    def __init__(self) -> None:
        super().__init__(Resources(1, "cpu", 1))
        self.ids, self.folders = list[str](), list[Path]()

    def has_room(self) -> bool:
        return True

    def start(self, job_id: str, folder: Path) -> None:
        self.ids.append(job_id)
        self.folders.append(folder)
        tasks = map(task_from_json, json.loads((folder / "spec.json").read_text(encoding="utf-8"))["tasks"])
        lines = [json.dumps({"event": "done", "task": task.key, "time": 0.0}) + "\n" for task in tasks]
        (folder / "events.jsonl").write_text("".join(lines), encoding="utf-8")

    def ended(self) -> list[Ended]:
        found, self.ids = [Ended(job_id, 0) for job_id in self.ids], []
        return found

    def stop(self) -> None:
        pass


def asked(small: Small) -> Request:
    """One set, judged by two architectures: three tasks."""
    judges = parse_variants("convnet,convnet[width=8]", "--arch")
    store = small.stores[1].info
    return Request(parse_variants("random", "--method"), (store,), (1,), seeds=1, architectures=judges)


def scripted(
    small: Small, out: Path, listener: Callable[[Mapping[str, Any]], None] = lambda event: None
) -> tuple[Callable[[], Outcome], Instant]:
    """A coordinator, and its executor."""
    directory, executor = RunDirectory(out), Instant()
    plan = make_plan(asked(small), directory)
    return Coordinator(plan, directory, small.data, executor, Engine(), (), Hooks(), listener).run, executor


def made_elsewhere(out: Path, key: str) -> None:
    """A distilled set as another machine leaves it."""
    folder = RunDirectory(out).folder("distil", key)
    folder.mkdir(parents=True)
    for name in ("distilled.json", "distilled.safetensors"):
        (folder / name).touch()
    RunDirectory(out).write_record("distil", key, {"status": "done", "result": {"content_hash": "theirs", "steps": 0}})


def test_a_worker_killed_between_its_record_and_the_word_of_it_has_not_failed(small: Small, tmp_path: Path) -> None:
    act, executor = scripted(small, tmp_path)
    written: list[str] = []

    def worker(job_id: str, folder: Path) -> None:
        executor.ids.append(job_id)
        for task in map(task_from_json, json.loads((folder / "spec.json").read_text(encoding="utf-8"))["tasks"]):
            key = task.key
            if isinstance(task, EvaluateTask):
                set_hash = RunDirectory(tmp_path).set_hash(task.cell.key)
                assert set_hash is not None
                key = task.record_key(set_hash)
                RunDirectory(tmp_path).write_record(task.kind, key, {"status": "done"})
            else:
                made_elsewhere(tmp_path, key)
            written.append(task.key)

    executor.start = worker  # type: ignore[method-assign]
    executor.ended = lambda: [Ended(executor.ids.pop(), -9, "killed") for _ in list(executor.ids)]  # type: ignore[method-assign]
    outcome = act()
    assert outcome.done == set(written) and len(written) == 3 and not outcome.failed
    assert {record["status"] for kind in ("distil", "evaluate") for record in RunDirectory(tmp_path).records(kind)} == {
        "done"
    }


def test_what_another_machine_took_over_is_left_to_it(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine hangs for minutes, another one takes its first task over, and does it."""
    monkeypatch.setattr(claims, "BEAT_S", 0.0)
    heard: list[Mapping[str, Any]] = []
    act, executor = scripted(small, tmp_path, heard.append)
    at_work: list[tuple[str, Path]] = []
    far = {"run": asdict(replace(ProcessId.own(), host="far", machine="far away")), "job": "elsewhere"}
    start, overtaken, ended_by_us = executor.start, list[Path](), list[str]()

    def begin(job_id: str, folder: Path) -> None:
        if overtaken:
            start(job_id, folder)
            return
        at_work.append((job_id, folder))
        (ours,) = (tmp_path / "claims").iterdir()
        overtaken.append(ours.with_suffix(".2"))
        overtaken[0].write_text(json.dumps(far), encoding="utf-8")
        ours.unlink()

    def end(job_id: str) -> None:
        ended_by_us.append(job_id)
        made_elsewhere(tmp_path, overtaken[0].stem)

    def ended() -> list[Ended]:
        if ended_by_us and at_work:
            return [Ended(at_work.pop()[0], -9, "taken over")]
        if any(each["event"] == "held" for each in heard):  # we wait for it: now it is done, and lets go
            overtaken[0].unlink(missing_ok=True)
        return Instant.ended(executor)

    for name, replacement in (("start", begin), ("end", end), ("ended", ended)):
        monkeypatch.setattr(executor, name, replacement)
    outcome = act()
    assert len(ended_by_us) == 1 and len(outcome.done) == 3 and not outcome.failed
    assert [each["by"] for each in heard if each["event"] == "held"] == [f"process {far['run']['process']} on far"]
    assert RunDirectory(tmp_path).set_hash(overtaken[0].stem) == "theirs"
    assert not list((tmp_path / "claims").iterdir())


def test_what_another_machine_has_just_made_is_seen_though_our_view_was_old(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client of NFS says "no such file" of what it missed a minute ago, until the folder is opened."""
    act, executor = scripted(small, tmp_path)
    (cell,) = make_plan(asked(small), RunDirectory(tmp_path)).cells
    made_elsewhere(tmp_path, cell.key)
    unseen = {tmp_path / "distil", tmp_path / "distil" / cell.key}
    stat, look = Path.stat, os.open

    def old_view(path: Path, **more: Any) -> os.stat_result:
        if unseen.intersection(path.parents):
            raise FileNotFoundError(errno.ENOENT, "as it was a minute ago", str(path))
        return stat(path, **more)

    def ask_anew(path: Path, flags: int) -> int:
        unseen.discard(Path(path))
        return look(path, flags)

    monkeypatch.setattr(Path, "stat", old_view)
    assert not RunDirectory(tmp_path).done("distil", cell.key)
    monkeypatch.setattr(claims.os, "open", ask_anew)
    outcome = act()
    assert len(outcome.done) == 3
    assert executor.folders and not [folder for folder in executor.folders if folder.name.startswith("distil")]
