"""The hooks that come with avbench: a log of events, and TensorBoard with scalars, pictures and sounds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Small

from avbench.distilled import LearnedSet
from avbench.errors import RequestError
from avbench.hooks import Hooks
from avbench.previews import previews

RESULT = {
    "metrics": [{"name": "accuracy", "share": True}],
    "networks": [{"index": 0, "accuracy": {"a": 0.25, "v": 0.5}}, {"index": 1, "accuracy": {"a": 0.75, "v": 0.5}}],
}


@pytest.fixture(scope="module")
def out(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with a learned set and an evaluation."""
    folder = tmp_path_factory.mktemp("hooked")
    method = small.method("dm", small.context(ipc=1), lr=1.0)
    method.step(0)
    found = method.distilled()
    assert isinstance(found, LearnedSet)
    found.save(folder / "distil" / "d1")
    (folder / "distil" / "d1" / "record.json").write_text("{}", encoding="utf-8")
    judged = folder / "evaluate" / "e1"
    judged.mkdir(parents=True)
    (judged / "record.json").write_text(json.dumps({"result": RESULT}), encoding="utf-8")
    return folder


def play(hooks: Hooks, out: Path, data: Path, interrupted: bool = False) -> None:
    """The events of a small run, all in this process."""
    run = {"argv": ["avbench", "run"], "out": str(out), "jobs": 1}
    job: dict[str, Any] = {"id": "distil-1", "tasks": [{"kind": "distil"}]}
    hooks.begin(out, data, "coordinator")
    hooks.fire("run_started", run=run)
    hooks.fire("job_started", job=job)
    for step in range(3):
        hooks.fire("step", task="d1", step=step, metrics={"loss": 3.0 - step})
    about = {"status": "done", "title": "dm[lr=1] small1 ipc 1 seed 0"}
    hooks.fire("task_finished", task="d1", kind="distil", folder=out / "distil" / "d1", **about)
    hooks.fire("task_finished", task="e", kind="evaluate", folder=out / "evaluate" / "e1", **about)
    hooks.fire("task_finished", task="x", kind="distil", folder=None, status="failed", title="another")
    hooks.fire("job_finished", job=job, status="done")
    hooks.fire("run_finished", run=run, failed=1, stranded=0, interrupted=interrupted)
    hooks.end()


def test_the_event_log_has_every_event_in_its_order(out: Path, small: Small) -> None:
    play(Hooks(["jsonl"]), out, small.data)
    (log,) = (out / "hooks" / "jsonl").glob(f"coordinator-*-{os.getpid()}.jsonl")
    events = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert [each["event"] for each in events] == [
        *("run_started", "job_started", "step", "step", "step"),
        *("task_finished", "task_finished", "task_finished", "job_finished", "run_finished"),
    ]
    assert [each["time"] for each in events] == sorted(each["time"] for each in events)
    assert events[3]["metrics"] == {"loss": 2.0}
    assert events[5]["folder"] == str(out / "distil" / "d1") and events[7]["folder"] is None
    assert (events[-1]["failed"], events[-1]["interrupted"]) == (1, False)


def test_tensorboard_shows_losses_scores_pictures_and_sounds(out: Path, small: Small) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard`")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def read(folder: Path) -> EventAccumulator:
        found = EventAccumulator(str(folder))
        found.Reload()
        return found

    play(Hooks(["tensorboard"]), out, small.data)
    place = out / "hooks" / "tensorboard"
    losses = read(place / "steps" / "d1").Scalars("loss")
    assert [(each.step, each.value) for each in losses] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    (judged,) = (place / "evaluate").iterdir()
    assert [each.value for each in read(judged).Scalars("accuracy/a")] == [0.25, 0.75]
    (distilled,) = (place / "distil").iterdir()
    assert distilled.name == "dm_lr=1_small1_ipc_1_seed_0"
    shown = read(distilled)
    assert sorted(shown.Tags()["images"]) == ["ant", "bee", "cat", "dog"]
    assert (shown.Images("ant")[0].height, shown.Images("ant")[0].width) == (16, 16)


def test_sounds_are_found_where_the_store_says_how_spectrograms_were_made(tmp_path: Path, avdigits_data: Path) -> None:
    import numpy as np
    import torch

    from avbench.data.store import open_store
    from avbench.distilled import SelectedSet

    info = open_store(avdigits_data, "avdigits").info
    offsets = np.cumsum([0, *info.counts["train"]])[:-1]
    SelectedSet(info, "av", torch.arange(len(info.classes)), torch.from_numpy(offsets)).save(tmp_path / "set")
    found = list(previews(tmp_path / "set", avdigits_data, most=3, sounds=1))
    assert [each.name for each in found] == list(info.classes[:3])
    assert [each.sound is not None for each in found] == [True, False, False]
    sound = found[0].sound
    assert sound is not None and len(sound) == info.audio_transform["samples"]
    assert 0.01 < np.abs(sound).max() <= 1.0
    assert all(each.picture is not None and 0 <= each.picture.min() <= each.picture.max() <= 1 for each in found)


def test_what_goes_wrong_while_showing_is_told_once_and_harms_nothing(
    out: Path, small: Small, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard", reason="the extra `tensorboard`")
    play(Hooks(["tensorboard", "jsonl"]), out, small.data / "nowhere")
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("hook 'tensorboard' raised in process_finished:")
    assert "nowhere" in line and "the run goes on" in line


def test_without_tensorboard_the_run_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RequestError, match=r"pip install 'avbench\[tensorboard\]'"):
        Hooks(["tensorboard"])


def test_what_a_hook_prints_goes_to_stderr(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    hooks = Hooks(["jsonl"])
    monkeypatch.setattr("socket.gethostname", lambda: print("who am I?") or "here")
    hooks.begin(Path("/proc/nowhere"), Path(), "worker")
    printed = capsys.readouterr()
    assert printed.out == "" and "hook 'jsonl' raised in process_started" in printed.err
