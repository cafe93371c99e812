"""Learning curves: sets judged after chosen steps, without a change to what is distilled."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from packages import avbench

import avbench as library

RUN = ("run", "--method", "random,dm", "--dataset", "small3", "--ipc", "1", "--seeds", "2", "--networks", "2")
RUN += ("--set", "dm.steps=6", "--set", "dm.batch_real=4", "--set", "convnet.width=4", "--preset", "quick")
RUN += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")
LABEL = "dm[batch_real=4,steps=6]"


def hashes(out: Path) -> dict[str, str]:
    found = {}
    for path in out.glob("distil/*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        found[record["key"]] = record["result"]["content_hash"]
    return found


def untimed(board: str) -> list[str]:
    """The lines of a board without its last column: with snapshots the cells were distilled once more."""
    lines = board.splitlines()
    assert lines[2].split("|")[-2].strip() == "time"
    return [line.rsplit("|", 2)[0] for line in lines]


@pytest.fixture(scope="module")
def runs(small: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A run without snapshots, then one with them in the same folder."""
    out = tmp_path_factory.mktemp("snapshots") / "runs"
    where = ("--data", str(small.data), "--out", str(out))
    plain = avbench(*RUN, *where)
    assert plain.returncode == 0, plain.stderr
    before = hashes(out)
    done = avbench(*RUN, *where, "--snapshots", "3,0,99")
    assert done.returncode == 0, done.stderr
    assert untimed(done.stdout) == untimed(plain.stdout)  # the board is what it was
    return out, before


def test_snapshots_change_no_bit_of_what_is_distilled(runs: tuple[Path, dict[str, str]]) -> None:
    out, before = runs
    assert hashes(out) == before


def test_a_snapshot_is_a_distilled_set_like_any_other(runs: tuple[Path, dict[str, str]]) -> None:
    out, _ = runs
    folders = sorted(out.glob("distil/*/snapshots/*"))
    assert {folder.name for folder in folders} == {"0", "3"}  # there is no step 99, and a selection has no steps
    assert len(folders) == 4
    assert len({library.load(folder).content_hash for folder in folders}) == 4


def test_curves_hold_each_judged_step_and_the_end(runs: tuple[Path, dict[str, str]]) -> None:
    out, _ = runs
    shown = avbench("leaderboard", str(out), "--curves", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(shown.stdout)))
    assert {(row["method"], row["step"]) for row in rows} == {(LABEL, "0"), (LABEL, "3"), (LABEL, "6")}
    assert {row["part"] for row in rows} == {"a", "v", "av"}
    assert all(row["seeds"] == "2" and row["n"] == "4" for row in rows)
    board = json.loads(avbench("leaderboard", str(out), "--format", "json").stdout)
    (dm,) = [row for row in board[0]["rows"] if row["method"] == LABEL]
    (end,) = [row for row in rows if row["part"] == "av" and row["step"] == "6"]
    assert float(end["mean"]) == pytest.approx(dm["av_mean"])
    text = avbench("leaderboard", str(out), "--curves").stdout
    assert "step 0" in text and "step 6" in text


def test_the_same_again_does_nothing(runs: tuple[Path, dict[str, str]], small: Any) -> None:
    out, _ = runs
    again = avbench(*RUN, "--data", str(small.data), "--out", str(out), "--snapshots", "0,3,99", "--dry-run", "--json")
    assert json.loads(again.stdout)["counts"]["to do"] == 0


@pytest.mark.parametrize("text", ["x", "1,,2", "-1", "1.5"])
def test_what_is_no_number_of_steps_is_refused(text: str, small: Any, tmp_path: Path) -> None:
    found = avbench(*RUN, "--data", str(small.data), "--out", str(tmp_path), "--snapshots", text)
    assert found.returncode == 2
    assert "--snapshots" in found.stderr and "Traceback" not in found.stderr
