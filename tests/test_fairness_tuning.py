"""Values chosen on the validation split: the test split plays no part, the choice is recorded and shown."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from conftest import Small

from avbench.api import StoreInfo
from avbench.errors import RequestError
from avbench.grammar import parse_settings, parse_variants
from avbench.grid import Request, expand
from avbench.jobs import task_from_json, task_to_json
from avbench.plan import make_plan
from avbench.results import RunDirectory
from avbench.tuning import choose, open_trials, parse_tunes

RUN = ("run", "--method", "dm,dm[lr=0.2]", "--dataset", "small3", "--ipc", "1", "--seeds", "1")
RUN += ("--networks", "2", "--set", "dm.steps=3", "--set", "dm.batch_real=4", "--set", "convnet.width=4")
RUN += ("--preset", "quick", "--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")
TUNE = ("--tune", "dm.lr=20,1e39,0.2")


def request_for(small: Small, methods: str, *tunes: str, **more: Any) -> Request:
    given = {"seeds": 2, "networks": 2, **more}
    stores = (small.stores[3].info,)
    return Request(parse_variants(methods, "--method"), stores, (1,), tunes=parse_tunes(tunes), **given)


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    return list(RunDirectory(out).records(kind))


def avbench(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of ``main()`` in this process: another would import torch anew."""
    from avbench.cli import main

    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["avbench", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    code = ended.value.code
    return (code if isinstance(code, int) else 0), out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def run(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """A run that tunes, with a value at which a step goes wrong."""
    out = tmp_path_factory.mktemp("tuning") / "runs"
    status, board, told = avbench(*RUN, *TUNE, "--data", str(small.data), "--out", str(out))
    assert status == 0, told
    return out, board, told


def test_the_choice_is_recorded_with_every_value_and_its_scores(run: tuple[Path, str, str]) -> None:
    out, _, told = run
    (choice,) = records(out, "tuning")
    assert (choice["method"], choice["option"], choice["chosen_on"]) == ("dm", "lr", "validation")
    by_value = {value["value"]: value for value in choice["values"]}
    judged = {record["distil_key"]: record for record in records(out, "evaluate") if record.get("split") == "val"}
    for value in by_value.values():
        mine = [judged[key] for key in value["cells"] if key in judged]
        scores = [network["accuracy"]["av"] for record in mine for network in _networks(record)]
        assert value["n"] == len(scores)
        assert value["mean"] == (pytest.approx(np.mean(scores)) if scores else None)
    failed = by_value[TUNE[1].split(",")[1]]
    assert (failed["mean"], failed["n"]) == (None, 0)
    best = max((v for v in by_value.values() if v["n"]), key=lambda v: v["mean"])
    assert choice["chosen"] == best["value"] and choice["chosen_cells"] == best["cells"]
    assert f"lr={choice['chosen']} chosen on the validation split" in told and "failed" in told


def _networks(record: dict[str, Any]) -> Sequence[Any]:
    found: Sequence[Any] = record["result"]["networks"]
    return found


def test_only_the_chosen_value_was_ever_judged_on_the_test_split(run: tuple[Path, str, str]) -> None:
    out, _, _ = run
    (choice,) = records(out, "tuning")
    listed = {record["key"] for record in records(out, "distil") if "lr=0.2" in record["method"]["label"]}
    on_test = {r["distil_key"] for r in records(out, "evaluate") if "split" not in r and r["role"] == "method"}
    assert on_test == set(choice["chosen_cells"]) | listed
    for record in records(out, "evaluate"):
        # Accuracies are multiples of 1/8 on the validation split, of 1/20 on the test split.
        count = 8 if record.get("split") == "val" else 20
        for network in _networks(record):
            assert network["accuracy"]["av"] * count == pytest.approx(round(network["accuracy"]["av"] * count))


def test_the_board_shows_the_chosen_value_and_says_how_it_was_chosen(run: tuple[Path, str, str]) -> None:
    out, board, _ = run
    (choice,) = records(out, "tuning")
    for text in (board, avbench("leaderboard", str(out))[1]):
        assert text.count("(lr chosen on validation)") == 1
        assert f"lr={choice['chosen']}" in text
        assert "1e+39" not in text and "1e39" not in text


def test_the_same_again_does_nothing_and_shows_the_same(run: tuple[Path, str, str], small: Small) -> None:
    out, board, _ = run
    assert avbench(*RUN, *TUNE, "--data", str(small.data), "--out", str(out))[:2] == (0, board)
    assert len(records(out, "tuning")) == 1


def test_a_dry_run_shows_the_trials_first(small: Small, tmp_path: Path) -> None:
    status, plan, told = avbench(*RUN, *TUNE, "--data", str(small.data), "--out", str(tmp_path), "--dry-run")
    assert status == 0, told
    assert plan.count("on the validation split") == 3
    assert "The rest follows" in told
    assert not (tmp_path / "tuning").exists()


def test_trials_are_keyed_apart_from_the_test_split_and_survive_json(small: Small, tmp_path: Path) -> None:
    trials = open_trials(request_for(small, "dm", "dm.lr=1,2"), RunDirectory(tmp_path))
    assert trials is not None
    for task in trials.plan.evaluations:
        assert task.split == "val"
        assert task_from_json(task_to_json(task)) == task
        tested = replace(task, split="test")
        assert tested.key != task.key and tested.record_key("x") != task.record_key("x")


def test_a_tuned_set_is_made_once_and_then_judged_on_the_test_split(small: Small, tmp_path: Path) -> None:
    """Sets come from the training split alone: those of the chosen value need not be made again."""
    request = request_for(small, "dm", "dm.lr=1,2")
    trials = open_trials(request, RunDirectory(tmp_path))
    assert trials is not None
    (trial,) = trials.trials
    settled = replace(request, choices={trial.point.place: "2"})
    assert open_trials(settled, RunDirectory(tmp_path)) is None
    final = make_plan(settled, RunDirectory(tmp_path))
    assert {cell.key for cell in final.cells} == {p.cell.key for p in trial.cells["2"]}
    assert {task.split for task in final.evaluations} == {"test"}


def test_without_all_seeds_a_value_is_no_candidate_and_none_at_all_is_said(small: Small, tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    trials = open_trials(request_for(small, "dm", "dm.lr=1,2"), directory)
    assert trials is not None
    (trial,) = trials.trials
    with pytest.raises(Exception, match="no value could be judged on small3 with all seeds"):
        choose(trial, directory)
    for value, accuracies in {"1": (0.9,), "2": (0.4, 0.3)}.items():
        for planned, accuracy in zip(trial.cells[value], accuracies, strict=False):
            judge(directory, planned.evaluations[0], accuracy)
    found = choose(trial, directory)
    assert (found.value, found.scores) == ("2", {"1": (), "2": (0.4, 0.3)})


def judge(directory: RunDirectory, task: Any, accuracy: float) -> None:
    key = task.cell.key
    for name in ("distilled.json", "distilled.safetensors"):
        directory.folder("distil", key).mkdir(parents=True, exist_ok=True)
        (directory.folder("distil", key) / name).touch()
    directory.write_record("distil", key, {"status": "done", "result": {"content_hash": key}})
    result = {"primary": "accuracy", "networks": [{"index": 0, "accuracy": {"av": accuracy, "a": 1.0}}]}
    directory.write_record("evaluate", task.record_key(key), {"status": "done", "result": result})


def test_a_grid_is_not_planned_while_a_value_is_open(small: Small, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="still to be chosen"):
        make_plan(request_for(small, "dm", "dm.lr=1,2"), RunDirectory(tmp_path))


def test_controls_are_tuned_but_for_those_that_are_another_method(small: Small, tmp_path: Path) -> None:
    trials = open_trials(request_for(small, "avdd", "dm.lr=1,2", controls=True), RunDirectory(tmp_path))
    assert trials is not None
    (trial,) = trials.trials  # not the matched one: its step is what makes it a control
    assert trial.point.variant.label == "dm[factor=2,init=herding]"


def test_controls_follow_what_is_chosen_for_their_method(small: Small, tmp_path: Path) -> None:
    request = request_for(small, "avdd", "avdd.lr=0.1,0.3", controls=True)
    trials = open_trials(request, RunDirectory(tmp_path))
    assert trials is not None
    (trial,) = trials.trials
    settled = expand(replace(request, choices={trial.point.place: "0.1"}))
    assert {p.cell.method.label for p in settled.planned} == {
        "avdd[lr=0.1]",
        "dm[factor=2,init=herding,lr=0.1]",
        "dm[factor=2,init=herding,lr=0.1,lr_audio=2.1,lr_visual=2.1]",
    }


def without_validation(info: StoreInfo) -> StoreInfo:
    return replace(info, counts={**info.counts, "val": (0, 0, 0, 0)})


@pytest.mark.parametrize(
    ("methods", "tunes", "settings", "words"),
    [
        ("dm", ["dm=1,2"], [], "METHOD.OPTION"),
        ("dm", ["dm.lr=1"], [], "at least two values"),
        ("dm", ["dm.lr=1,1"], [], "each once"),
        ("dm", ["dm.lr=1,1.0"], [], "spelled in two ways"),
        ("dm", ["dm.lr=1,2", "dm.momentum=0,0.5"], [], "has a --tune already"),
        ("dm", ["dm.lr=1,fast"], [], "dm.lr = 'fast'"),
        ("dm", ["dm.speed=1,2"], [], "no option 'speed'"),
        ("dm", ["avdd.lr=1,2"], [], "no variant of avdd"),
        ("dm[lr=1]", ["dm.lr=1,2"], [], "leaves lr open"),
        ("dm", ["dm.lr=1,2"], ["avdd.steps=3"], "the grid does not use 'avdd'"),
        ("dm", ["dm.lr=1,2"], ["dm.lr=3"], "--set gives it a value already"),
    ],
)
def test_what_can_t_be_chosen_is_refused(
    small: Small, tmp_path: Path, methods: str, tunes: list[str], settings: list[str], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        open_trials(request_for(small, methods, *tunes, settings=parse_settings(settings)), RunDirectory(tmp_path))


def test_without_a_validation_split_nothing_is_chosen(small: Small, tmp_path: Path) -> None:
    request = request_for(small, "dm", "dm.lr=1,2")
    bare = replace(request, datasets=(without_validation(small.stores[3].info),))
    with pytest.raises(RequestError, match="no validation split, and the test split chooses nothing"):
        open_trials(bare, RunDirectory(tmp_path))
