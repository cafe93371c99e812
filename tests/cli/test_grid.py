"""``avbench run --grid`` and ``avbench compare``: a grid is run on a tiny store and held against the paper."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev
from unittest import mock

import numpy as np
import pytest
from conftest import Small
from packages import avbench

from avbench.api import StoreWriter
from avbench.cli import main, running
from avbench.desk import describe_task
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.jobs import DistilTask, Engine
from avbench.plan import make_plan
from avbench.results import RunDirectory

#: What Table 3 prints of random selection on AVE at IPC 1, in percent, over 15 networks.
MEAN, STD, NETWORKS = 10.07, 1.16, 15
#: Two blocks that share their distillation. Judged by the paper's own protocol, so that its number stands beside it.
GRID = """
title = "Random selection, two fusions"
preset = "paper"
dataset = "ave"
method = "random"
ipc = 1
seeds = 1
networks = 2

[[block]]
[block.reported]
source = "avdd_tmlr2024"
table = "3"

[[block]]
fusion = "sum"
"""


@pytest.fixture(scope="module")
def data(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny store that stands for AVE: its name, and the name of the plugin that prepared it."""
    folder = tmp_path_factory.mktemp("data")
    store = small.stores[3]
    writer = StoreWriter(folder, replace(store.info, name="ave", dataset="ave", preset="paper", fingerprint=""))
    for split in store.info.counts:
        for row in range(store.info.size(split)):
            audio, frame = np.array(store.audio[split][row]), np.array(store.frames[split][row])
            writer.put(split, row, audio, frame, f"{split}{row}")
    writer.finish()
    return folder


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(GRID, encoding="utf-8")
    return path


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command in this process."""
    with mock.patch.object(sys, "argv", ["avbench", *arguments]):
        try:
            main()
            status = 0
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def plan(capsys: pytest.CaptureFixture[str], data: Path, out: Path, *arguments: str) -> list[str]:
    """The titles of a dry run's tasks."""
    where = ("--data", str(data), "--out", str(out), "--dry-run", "--json")
    status, printed, told = called(capsys, "run", *arguments, *where)
    assert status == 0, told
    return [task["task"] for task in json.loads(printed)["tasks"]]


def test_a_grid_runs_as_one_plan_and_is_set_beside_the_papers_number(
    data: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    done = avbench("run", "--grid", str(grid), "--data", str(data), "--out", str(out), "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "grid: Random selection, two fusions" in done.stderr
    assert done.stdout.count("### ave") == 2
    assert len(list(out.glob("distil/*/record.json"))) == 1  # the blocks share it
    status, printed, told = called(capsys, "compare", str(grid), str(out), "--format", "json")
    assert (status, told) == (0, "")
    first, second = json.loads(printed)["rows"]
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("evaluate/*/record.json")]
    (own,) = [r["result"]["networks"] for r in records if r["fusion"]["label"] == "ensemble"]
    scores = [100 * network["accuracy"]["av"] for network in own]
    error = sqrt(pstdev(scores) ** 2 / 2 + STD**2 / NETWORKS)
    assert (first["n"], first["status"]) == (2, "done")
    assert 100 * first["difference"] == pytest.approx(fmean(scores) - MEAN)
    assert first["standard_errors"] == pytest.approx((fmean(scores) - MEAN) / error)
    assert (second["fusion"], second["n"], second["reported_mean"]) == ("sum", 2, None)
    _, text, _ = called(capsys, "compare", str(grid), str(out))
    assert f"{fmean(scores) - MEAN:+.2f}" in text and "10.07 ± 1.16" in text
    _, again, _ = called(capsys, "run", "--grid", str(grid), "--data", str(data), "--out", str(out), "--dry-run")
    assert "3 tasks cached, 0 to do" in again


def test_a_shipped_grid_can_be_narrowed_and_tried_elsewhere(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    narrow = ("--grid", "table3", "--dataset", "ave", "--ipc", "1", "--method", "random,avdd", "--networks", "1")
    titles = plan(capsys, data, tmp_path, *narrow)
    assert {title.split(" seed")[0] for title in titles if not title.startswith(("evaluate", "features"))} >= {
        "random ave ipc 1",
        "avdd ave ipc 1",
    }
    assert not any("dc " in title or "whole" in title for title in titles)
    quick = plan(capsys, data, tmp_path, *narrow, "--preset", "quick", "--protocol", "recognition-quick")
    assert len(quick) == len(titles)


def test_settings_reach_the_blocks_that_use_them(
    data: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sum`` is used by one block alone, ``convnet`` by both, ``avdd`` by none."""
    path = tmp_path / "two.toml"
    path.write_text(GRID.replace('fusion = "sum"', 'method = "dm"'), encoding="utf-8")
    assert plan(capsys, data, tmp_path, "--grid", str(path), "--set", "dm.steps=2", "--set", "convnet.width=4")
    run = ("run", "--grid", str(path), "--data", str(data), "--dry-run", "--set", "avdd.steps=2")
    status, _, told = called(capsys, *run)
    assert status == 2 and "the grid does not use 'avdd'" in told


def test_a_dry_run_of_several_blocks_tells_what_the_plan_has_to_say(
    data: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", str(data), "--out", str(tmp_path / "runs"), "--dry-run")
    status, _, told = called(capsys, "run", "--grid", str(grid), *where, "--shards", "2")
    assert status == 0
    assert "note: --shards 2: random" in told


@pytest.mark.parametrize("several", [False, True])
def test_a_run_is_checked_once_before_anything_else(
    several: bool, data: Path, grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--grid", str(grid)) if several else ("--method", "random", "--dataset", "ave", "--ipc", "1")
    with mock.patch.object(running.How, "check", autospec=True) as check:
        status, _, _ = called(capsys, "run", *asked, "--data", str(data), "--out", str(tmp_path), "--dry-run")
    assert (status, check.call_count) == (0, 1)


def test_each_board_is_complete_by_the_preset_of_its_own_dataset(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without ``--preset`` each dataset has its own: five networks on one, three on the other."""
    infos = tuple(
        replace(small.stores[3].info, name=name, preset=name, fingerprint=name) for name in ("paper", "quick")
    )
    request = Request(methods=parse_variants("random", "--method"), datasets=infos, ipcs=(1,))
    plan = make_plan(request, RunDirectory(tmp_path))
    for task in plan.evaluations:
        networks = [{"index": index, "accuracy": {"av": 0.5}} for index in range(task.networks)]
        made, judged = {"content_hash": task.cell.key}, {"primary": "accuracy", "networks": networks}
        for kind, key, about, result in (
            ("distil", task.cell.key, DistilTask(task.cell), made),
            ("evaluate", task.record_key(task.cell.key), task, judged),
        ):
            record = {"status": "done", "set_hash": task.cell.key, **describe_task(about), "result": result}
            RunDirectory(tmp_path).write_record(kind, key, record)
        for name in ("distilled.json", "distilled.safetensors"):  # nothing reads what a finished task made
            (RunDirectory(tmp_path).set_folder(task.cell.key) / name).touch()
    status = running.carry_out(make_plan(request, RunDirectory(tmp_path)), running.How(Engine(), tmp_path, small.data))
    printed = capsys.readouterr()
    assert status == 0
    assert "incomplete" not in printed.out
    assert " 3 × 5 |" in printed.out and " 3 × 3 |" in printed.out
    assert "paper: preset paper, 3 seeds × 5 networks; quick: preset quick, 3 seeds × 3 networks" in printed.err


def test_what_starts_from_given_weights_is_left_out_without_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table12 = ("run", "--grid", "table12", "--ipc", "1", "--data", str(data), "--out", str(tmp_path), "--dry-run")
    status, _, told = called(capsys, *table12)
    assert status == 0 and "--init-weights FILE adds it" in told
    status, _, told = called(capsys, *table12, "--init-weights", str(tmp_path / "none.safetensors"))
    assert status == 2 and "there is no such file" in told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "--grid", "table3", "--dry-run"), "3 of 4 datasets are not"),
        (("run", "--grid", "table3", "--dry-run"), "run avbench prepare music21 --source DIR first"),
        (("run", "--grid", "table3"), "--dataset ave"),
        (("run", "--grid", "table13", "--dataset", "ave-10s"), "prepare ave --seconds 10 --name ave-10s"),
        (("run", "--grid", "table33"), "did you mean 'table3'"),
        (("run", "--grid", "authors_release"), "avbench evaluate --grid authors_release"),
        (("run", "--grid", "none.toml"), "none.toml: can't be read"),
        (("run", "--method", "dm", "--ipc", "1"), "--dataset missing"),
        (("run",), "--method, --dataset, --ipc missing"),
    ],
)
def test_what_can_not_be_run_is_one_line(
    arguments: tuple[str, ...], words: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--data", str(data), "--out", str(tmp_path / "runs"))
    status, printed, told = called(capsys, *arguments, *where)
    (line,) = told.splitlines()
    assert (status, printed) == (2, "")
    assert line.startswith("avbench: ") and words in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tabel3", "."), "did you mean 'table3'"),
        (("table3", "nowhere"), "nowhere is not a run directory"),
        (("table3", ".", "--format", "pdf"), "known: csv, json, md"),
        (("table3", ".", "--preset", "fast"), "--preset 'fast'"),
        (("table3", ".", "-o", "."), "is a folder"),
    ],
)
def test_what_can_not_be_compared_is_one_line(
    arguments: tuple[str, ...],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    status, printed, told = called(capsys, "compare", *arguments)
    assert (status, printed) == (2, "")
    assert told.startswith("avbench: ") and len(told.splitlines()) == 1 and words in told


def test_a_comparison_is_written_to_a_file_and_shows_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table8.md"
    status, printed, _ = called(capsys, "compare", "table8", str(tmp_path), "-o", str(file))
    assert (status, printed) == (0, "")
    assert file.read_text(encoding="utf-8").count("missing") == 3
