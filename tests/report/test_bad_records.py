"""Records that boards can't use: told by path and reason, never a traceback, and never a part of a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import leaderboard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_board import Grid

from avbench.report.board import build_boards
from avbench.report.curves import learning_curves
from avbench.report.records import Archive, left_out
from avbench.report.render import render
from avbench.results import SCHEMA_VERSION

Record = dict[str, Any]


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    made = Grid(tmp_path / "runs")
    for seed in (0, 1):
        made.add("dm", seed, [0.5])
    return made


def put(grid: Grid, kind: str, text: str, name: str = "bad") -> Path:
    path = grid.directory.folder(kind, name) / "record.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def changed(grid: Grid, kind: str, change: Callable[[Record], object]) -> Path:
    """One of the grid's records as a change makes it."""
    path = sorted(grid.directory.root.glob(f"{kind}/*/record.json"))[0]
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    path.write_text(json.dumps(record), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"schema_version": 1, "sta', "half-written or damaged"),
        ("", "half-written or damaged"),
        ("[]", "an object was expected"),
        ("{}", "has no schema_version"),
        (json.dumps({"schema_version": 0, "status": "done"}), "has schema 0, this avbench reads 1"),
        (json.dumps({"schema_version": SCHEMA_VERSION, "status": "running"}), "has status 'running'"),
        (json.dumps({"schema_version": SCHEMA_VERSION, "status": "done"}), "lacks key"),
        ("[" * 100_000, "half-written or damaged"),
    ],
)
@pytest.mark.parametrize("kind", ["distil", "evaluate"])
def test_a_record_that_is_none_is_named_and_the_others_count(
    grid: Grid, kind: str, text: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = put(grid, kind, text)
    assert leaderboard(grid) == 0
    printed = capsys.readouterr()
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("note: 1 record left out: ") and str(path) in line and words in line
    assert "2 × 1" in printed.out


def test_records_of_a_newer_schema_say_to_upgrade(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in ("distil", "evaluate"):
        put(grid, kind, json.dumps({"schema_version": SCHEMA_VERSION + 1, "state": "unknown to us"}))
    assert leaderboard(grid) == 0
    words = f"note: 2 records of schema 2 are newer than this avbench reads ({SCHEMA_VERSION}): upgrade avbench."
    assert capsys.readouterr().err.strip() == words


def test_where_nothing_can_be_read_the_reason_comes_before_the_refusal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(Grid(tmp_path), "evaluate", json.dumps({"schema_version": SCHEMA_VERSION + 1}))
    assert leaderboard(tmp_path) == 2
    note, refusal = capsys.readouterr().err.strip().splitlines()
    assert "upgrade avbench" in note and refusal.startswith("avbench: no finished evaluation under")


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("{}", encoding="utf-8")
    assert leaderboard(tmp_path / "file") == 2
    assert "is not a run directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("distil", lambda r: r.pop("method"), "lacks method"),
        ("distil", lambda r: r["method"].pop("options"), "lacks method.options"),
        ("distil", lambda r: r.update(ipc="ten"), "has no whole number as ipc"),
        ("distil", lambda r: r.update(result=None), "has no object as result"),
        ("distil", lambda r: r["result"].pop("content_hash"), "lacks result.content_hash"),
        ("distil", lambda r: r["result"].update(ratio="a tenth"), "has no number as result.ratio"),
        ("distil", lambda r: r.update(duration_s="long"), "has no number as duration_s"),
        ("evaluate", lambda r: r.pop("protocol"), "lacks protocol"),
        ("evaluate", lambda r: r["dataset"].pop("fingerprint"), "lacks dataset.fingerprint"),
        ("evaluate", lambda r: r["result"]["networks"][0].pop("accuracy"), "lacks result.networks.accuracy"),
        ("evaluate", lambda r: r["result"].update(networks=[3]), "has no object as result.networks"),
        (
            "evaluate",
            lambda r: r["result"]["networks"][0].update(accuracy={"av": float("nan")}),
            "has nan as accuracy av",
        ),
        ("evaluate", lambda r: r["result"].update(metrics=["accuracy"]), "has metrics without name"),
    ],
)
def test_a_record_that_lacks_something_leaves_its_row_incomplete(
    grid: Grid, kind: str, change: Callable[[Record], object], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = changed(grid, kind, change)
    assert leaderboard(grid) == 0
    printed = capsys.readouterr()
    assert f"{path} {words}" in printed.err
    assert "incomplete: 1 of 2 seeds" in printed.out


def test_many_are_counted_and_the_first_named(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(8):
        put(grid, "distil", "{", f"bad{number}")
    assert leaderboard(grid) == 0
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("note: 8 records left out") and line.endswith("; and 3 more.")
    assert "bad4" in line and "bad5" not in line


def test_an_evaluation_whose_set_nobody_describes_is_told(grid: Grid) -> None:
    changed(grid, "distil", lambda record: record.update(schema_version=99))
    archive = Archive(grid.directory.root)
    newer, lost = left_out([archive])
    assert "schema 99" in newer
    assert lost == "1 record of evaluations left out: no record here says how their sets were made."
    assert left_out([archive, archive])[1] == lost  # a folder that is given twice holds no more


def test_a_damaged_choice_is_told_too(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    common = {"schema_version": SCHEMA_VERSION, "status": "done", "key": "t", "option": "lr", "chosen_on": "validation"}
    put(grid, "tuning", json.dumps({**common, "chosen_cells": [["no key"]], "values": [3]}))
    assert leaderboard(grid) == 0
    assert "has no list of keys as its cells" in capsys.readouterr().err


def _places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a record that may be broken."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in inner for found in ((*at, key), *_places(each, (*at, key)))]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), junk=st.sampled_from([None, "x", 3, -1.5, True, [], {}, [{}], {"a": 1}]))
def test_whatever_is_broken_in_a_record_there_is_a_board_or_a_reason(
    grid: Grid, data: st.DataObject, junk: Any
) -> None:
    path = data.draw(st.sampled_from(sorted(grid.directory.root.glob("*/*/record.json"))))
    original = path.read_text(encoding="utf-8")
    record = json.loads(original)
    *way, last = data.draw(st.sampled_from(_places(record)))
    inner = record
    for key in way:
        inner = inner[key]
    inner[last] = junk
    try:
        path.write_text(json.dumps(record), encoding="utf-8")
        archive = Archive(grid.directory.root)
        left_out([archive])
        boards = build_boards([archive])
        learning_curves([archive])
        for format in ("md", "csv", "json"):
            render(boards, format)
    finally:
        path.write_text(original, encoding="utf-8")
