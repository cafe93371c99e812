"""Learning curves from records: they count what boards count, and draw together only what is one curve."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import leaderboard
from test_board import reference

from avbench.report.curves import learning_curves
from avbench.report.render import render_curves
from avbench.results import RunDirectory


class Steps:
    """Writes a cell with one snapshot, and evaluations of both, as workers do."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory(root)

    def add(self, scores: dict[int, list[float]], **changes: Any) -> None:
        """One cell of two steps; ``scores`` are those of its networks by step."""
        name = changes.pop("name", "cell")
        method = reference("dm", changes.pop("label", ""), lr=changes.pop("lr", 0.2))
        judge = reference("convnet", width=changes.pop("judge_width", 16))
        protocol_version = changes.pop("protocol_version", 1)
        common = {
            "dataset": {"name": "toy", "fingerprint": changes.pop("fingerprint", "f1")},
            "seed": changes.pop("seed", 0),
            "modality": changes.pop("modality", "av"),
            "precision": changes.pop("precision", "float32"),
            "preset": "quick",
            "method": method,
            "role": "method",
            "ipc": 1,
            "architecture": reference("convnet", width=changes.pop("width", 16)),
            "planned_seeds": 1,
            "finished": changes.pop("finished", ""),
        }
        networks = changes.pop("networks", None)
        status = changes.pop("status", "done")
        assert not changes
        result = {"content_hash": f"{name}-2", "snapshots": {"0": f"{name}-0"}, "steps": 2}
        done = {"status": "done", "result": result}
        self.directory.write_record("distil", name, {**common, **(done if status == "done" else {"status": status})})
        for step, values in scores.items():
            judged = {
                "status": "done",
                "set_hash": f"{name}-{step}",
                "planned_networks": networks or len(values),
                "protocol": reference("recognition", version=protocol_version),
                "evaluated_architecture": judge,
                "fusion": reference("ensemble"),
                "distil_key": name,
                "result": {
                    "primary": "accuracy",
                    "networks": [{"index": i, "accuracy": {"a": value}} for i, value in enumerate(values)],
                },
            }
            key = f"{name}-{step}-{len(values)}-{judge['options']['width']}-{protocol_version}"
            self.directory.write_record("evaluate", key, {**common, **judged})

    def curves(self) -> pd.DataFrame:
        return learning_curves([self.directory])


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path / "runs")


def test_a_network_that_two_evaluations_hold_counts_once(steps: Steps) -> None:
    steps.add({0: [0.1, 0.2, 0.3]})
    steps.add({0: [0.1, 0.2, 0.3, 0.4, 0.5]})
    (row,) = steps.curves().to_dict("records")
    assert (row["n"], row["seeds"], row["mean"]) == (5, 1, pytest.approx(0.3))


def test_the_latest_cell_of_a_seed_gives_the_whole_curve(steps: Steps) -> None:
    steps.add({0: [0.1], 2: [0.2]}, name="old", finished="2026-01-01T00:00:00Z")
    steps.add({2: [0.8]}, name="new", finished="2026-02-01T00:00:00Z")
    (row,) = steps.curves().to_dict("records")
    assert (row["step"], row["mean"], row["n"]) == (2, 0.8, 1)


@pytest.mark.parametrize(
    ("change", "column", "values"),
    [
        ({"width": 128}, "distilled_with", {"convnet[width=16]", "convnet[width=128]"}),
        ({"lr": 0.4}, "method", {"dm[lr=0.2]", "dm[lr=0.4]"}),
        ({"modality": "av"}, "modality", {"a", "av"}),
        (
            {"judge_width": 128},
            "judged_by",
            {f"recognition · convnet[width={width}] · ensemble · float32" for width in (16, 128)},
        ),
        (
            {"protocol_version": 2},
            "judged_by",
            {f"recognition v{version} · convnet · ensemble · float32" for version in (1, 2)},
        ),
        ({"precision": "bfloat16"}, "precision", {"float32", "bfloat16"}),
        ({"fingerprint": "f2"}, "fingerprint", {"f1", "f2"}),
    ],
)
def test_what_differs_is_two_curves_and_two_lines(
    steps: Steps, change: dict[str, Any], column: str, values: set[str]
) -> None:
    steps.add({0: [0.1], 2: [0.2]}, **{"modality": "a"})
    steps.add({0: [0.5], 2: [0.6]}, name="other", **{"modality": "a", **change})
    frame = steps.curves()
    assert len(frame) == 4 and set(frame["n"]) == {1}
    assert set(frame[column]) == values
    text = render_curves(frame, "md")
    lines = [line.replace("`", "") for line in text.splitlines() if " audio |" in line]
    assert len(lines) == 2
    assert [score in text for score in ("10.0 ±", "20.0 ±", "50.0 ±", "60.0 ±")] == [True] * 4
    told = lines if column in ("method", "distilled_with", "modality") else text.replace("`", "").split("### ")[1:]
    assert len(set(told)) == 2


def test_two_spellings_of_a_method_are_one_curve_and_either_finds_it(
    steps: Steps, capsys: pytest.CaptureFixture[str]
) -> None:
    steps.add({0: [0.1]})
    steps.add({0: [0.3]}, name="other", seed=1, label="dm[lr=0.2]")
    for spelled in ("dm", "dm[lr=0.2]"):
        assert leaderboard(steps.directory.root, "--curves", "--method", spelled, "--format", "csv") == 0
        (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
        assert (row["method"], row["seeds"], float(row["mean"])) == ("dm", "2", pytest.approx(0.2))
        assert "spellings" not in row


def test_a_cell_that_failed_in_one_directory_and_got_done_in_another_is_done(tmp_path: Path) -> None:
    failed, done = Steps(tmp_path / "a"), Steps(tmp_path / "b")
    failed.add({}, status="failed")
    done.add({0: [0.1]})
    assert len(learning_curves([failed.directory, done.directory])) == 1
