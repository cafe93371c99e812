"""The difference to what a paper reports: shown where one does, absent where none does, its arithmetic by hand."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path

import pytest
from test_board import Grid

from avbench.report.render import render
from avbench.report.reported import Place, reported


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def test_a_row_that_a_paper_reports_stands_beside_its_number(grid: Grid) -> None:
    there = {"dataset": "vggs10k", "protocol": "recognition-code"}
    scores = [0.30, 0.40, 0.38]
    for seed, score in enumerate(scores):
        grid.add("dm", seed, [score], planned=3, **there)
        grid.add("unheard", seed, [score], planned=3, **there)
    (board,) = grid.boards()
    rows = board.rows.set_index("method")
    figure = reported(Place("vggs10k", "", "dm", 1, "av", "convnet", "ensemble", "recognition-code", "accuracy", "av"))
    assert figure is not None
    mean = sum(scores) / 3
    variance = sum((score - mean) ** 2 for score in scores) / 3
    row = rows.loc["dm"]
    assert (row["reported"], row["reported_std"]) == (figure.mean, figure.std)
    assert row["delta_reported"] == pytest.approx(mean - figure.mean)
    error = sqrt(variance / 3 + figure.std**2 / figure.networks)
    assert row["reported_errors"] == pytest.approx((mean - figure.mean) / error)
    columns = ["reported", "reported_std", "delta_reported", "reported_errors"]
    assert rows.loc["unheard", columns].isna().all()
    text = render([board], "md")
    assert "Δ reported" in text and f"| {100 * (mean - figure.mean):+.1f} " in " ".join(text.split())
    assert text.rstrip().endswith(f"table {figure.table}.")  # where the number is printed


def test_a_board_that_nobody_reports_has_no_such_column(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1, dataset="vggs10k", protocol="recognition-quick")
    boards = grid.boards()
    assert "Δ reported" not in render(boards, "md")
    assert json.loads(render(boards, "json"))[0]["rows"][0]["reported"] is None
