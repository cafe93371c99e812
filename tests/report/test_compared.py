"""A grid beside the paper's numbers: which records count, the arithmetic, and what is said where there is nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from math import isnan, sqrt
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from paper_stores import paper_store, planned_cells, write_records

from avbench.blocks import Block, narrowed
from avbench.errors import RequestError
from avbench.grammar import parse_variants
from avbench.gridfile import read_grid
from avbench.report.compared import Comparison, Row, compare_grid
from avbench.report.compared_text import render_comparison
from avbench.results import RunDirectory

FIVE = (0.21, 0.22, 0.20, 0.23, 0.24)
#: What Table 3 prints of avdd on AVE at IPC 1.
OURS, OURS_STD = 0.2300, 0.0137


def by_seed(seed: int) -> list[float]:
    return [score + 0.01 * seed for score in FIVE]


def given(methods: str = "", **changes: Any) -> Block:
    return Block(methods=parse_variants(methods, "--method") if methods else (), **changes)


class Runs:
    """A run directory filled with records of a shipped grid's cells."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory(root)

    def done(self, name: str, block: Block, scores: Callable[[int], list[float]] = by_seed, **changes: Any) -> None:
        grid = read_grid(name)
        result = changes.pop("result", {})
        for each in narrowed(grid.blocks, block):
            write_records(self.directory, planned_cells(grid, each, **changes), scores, **result)

    def compared(self, name: str, block: Block) -> Comparison:
        grid = read_grid(name)
        return compare_grid(grid, narrowed(grid.blocks, block), [self.directory])

    def row(self, name: str, block: Block) -> Row:
        (row,) = self.compared(name, block).rows
        return row


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


AVE = given("avdd", datasets=("ave",), ipcs=(1,))


def test_difference_and_standard_errors_by_hand(runs: Runs) -> None:
    runs.done("table3", AVE)
    row = runs.row("table3", AVE)
    values = [score for seed in range(3) for score in by_seed(seed)]
    assert row.n == 15
    assert row.measured_mean == pytest.approx(fmean(values)) == pytest.approx(0.23)
    assert row.measured_std == pytest.approx(pstdev(values))
    assert row.reported_mean == pytest.approx(OURS)
    assert row.difference == pytest.approx(fmean(values) - OURS)
    error = sqrt(pstdev(values) ** 2 / 15 + OURS_STD**2 / 15)
    runs.done("table3", AVE, lambda seed: [score + 0.03 for score in by_seed(seed)])
    row = runs.row("table3", AVE)
    assert row.difference == pytest.approx(0.03)
    assert row.standard_errors == pytest.approx(0.03 / error)
    assert row.status == "done"


@pytest.mark.parametrize(
    ("spelled", "counts"),
    [
        ("avdd", True),
        ("avdd[icm=10,cgm=10.0]", True),  # what avdd has by default at IPC 1
        ("avdd[factor=2,init=herding]", True),
        ("avdd[icm=20]", False),
        ("avdd[steps=100]", False),
        ("dm", False),
    ],
)
def test_a_cell_counts_by_its_configuration_however_it_is_spelled(runs: Runs, spelled: str, counts: bool) -> None:
    runs.done("table3", given(spelled, datasets=("ave",), ipcs=(1,)))
    found = runs.compared("table3", AVE)
    assert (found.rows[0].n == 15) is counts
    assert bool(found.notes) is not counts  # what lies there and does not count is told


def test_another_protocol_preset_or_option_has_nothing_reported_beside_it(runs: Runs) -> None:
    changes = {
        "preset": replace(AVE, preset="quick"),
        "what was reported": replace(AVE, protocols=parse_variants("recognition-code[epochs=3]", "--protocol")),
        "other options": replace(AVE, settings={"avdd": {"lr": "1"}}),
    }
    for words, block in changes.items():
        runs.done("table3", block)
        row = runs.row("table3", block)
        assert row.n > 0
        assert isnan(row.reported_mean) and isnan(row.difference) and isnan(row.standard_errors)
        assert words in row.note
    assert runs.row("table3", AVE).status == "missing"  # and none of them counts as the paper's


def test_the_papers_own_protocol_counts_too(runs: Runs) -> None:
    block = replace(AVE, protocols=parse_variants("recognition-paper", "--protocol"))
    runs.done("table3", block)
    assert runs.row("table3", block).reported_mean == pytest.approx(OURS)


def test_a_store_that_another_plugin_prepared_is_not_the_papers(runs: Runs) -> None:
    runs.done("table3", AVE, datasets=(paper_store("ave", "folder"),))
    row = runs.row("table3", AVE)
    assert row.n == 15 and isnan(row.reported_mean)
    assert "prepared by folder" in row.note


def test_two_stores_of_one_name_are_two_rows(runs: Runs) -> None:
    runs.done("table3", AVE)
    runs.done("table3", AVE, lambda seed: [0.5] * 5, datasets=(paper_store("ave", copy=1),))
    found = runs.compared("table3", AVE)
    assert sorted(round(row.measured_mean, 2) for row in found.rows) == [0.23, 0.5]
    assert all(row.store[:8] in render_comparison(found, "md") for row in found.rows)


def test_missing_incomplete_and_failed_cells_say_so(runs: Runs) -> None:
    block = given("random,dm,avdd", datasets=("ave",), ipcs=(1,))
    runs.done("table3", given("dm", datasets=("ave",), ipcs=(1,)), seeds=2, networks=4, scores=lambda seed: [0.2] * 4)
    runs.done("table3", AVE)
    for record in runs.directory.root.glob("distil/*/record.json"):
        values = json.loads(record.read_text(encoding="utf-8"))
        if values["method"]["name"] == "avdd":
            failed = {**values, "status": "failed", "error": {"reason": "out of memory"}}
            record.write_text(json.dumps(failed), encoding="utf-8")
    found = runs.compared("table3", block)
    random, dm, avdd = found.rows
    assert (random.status, dm.status, avdd.status) == ("missing", "incomplete", "failed")
    assert avdd.note == "out of memory"
    assert dm.reported_mean == pytest.approx(0.2170)
    text = render_comparison(found, "md")
    assert "incomplete: 2 of 3 seeds × 4 of 5 networks" in text
    assert "missing" in text and "10.07 ± 1.16" in text


def test_a_dash_of_the_paper_is_filled_with_what_was_measured(runs: Runs) -> None:
    block = given("dc,mtt", datasets=("ave",), ipcs=(20,))
    runs.done("table3", given("dc", datasets=("ave",), ipcs=(20,)))
    found = runs.compared("table3", block)
    dc, mtt = found.rows
    assert (dc.dash, dc.n, mtt.dash, mtt.n) == ("could not scale", 15, "could not scale", 0)
    assert isnan(dc.difference)
    lines = [line for line in render_comparison(found, "md").splitlines() if "could not scale" in line]
    assert len(lines) == 2
    assert "23.00 ± " in lines[0] and "– (paper: could not scale)" in lines[0]


def test_table_1_has_a_number_for_each_modality(runs: Runs) -> None:
    block = given("dm", ipcs=(1,))
    runs.done("table1", block)
    rows = runs.compared("table1", block).rows
    assert [row.part for row in rows] == ["a", "v", "av"]
    assert [row.measured_mean for row in rows] == pytest.approx([0.115, 0.0575, 0.23])
    assert [row.reported_mean for row in rows] == pytest.approx([0.2960, 0.2640, 0.3654])


def test_ranks_are_compared_as_ranks(runs: Runs) -> None:
    block = given("avdd", datasets=("ave",))
    found = {"R@1": {"a→v": 0.13, "v→a": 0.1}, "R@5": {"a→v": 0.4, "v→a": 0.4}}
    runs.done("table6", block, result={**found, "median rank": {"a→v": 8.0, "v→a": 12.0}})
    compared = runs.compared("table6", block)
    rows = {(row.metric, row.part): row for row in compared.rows}
    assert rows["median rank", "a→v"].difference == pytest.approx(8.0 - 9.0)
    assert rows["R@1", "v→a"].difference == pytest.approx(0.1 - 0.0643)
    text = render_comparison(compared, "md")
    assert "| median rank a→v |" in text and "-1.00" in text
    assert "| R@1 a→v %" in text and "13.00 ± 0.00" in text


def test_a_pretrained_start_is_told_from_a_drawn_one_and_by_its_weights(runs: Runs) -> None:
    _, pretrained = narrowed(read_grid("table12").blocks, given("avdd"))
    runs.done("table12", given("avdd"), lambda seed: [0.4] * 5)
    for key, score in (("1" * 20, 0.48), ("2" * 20, 0.5)):
        protocols = parse_variants(f"recognition-code[init_weights={key}]", "--protocol")
        cells = planned_cells(read_grid("table12"), pretrained, protocols=protocols)
        write_records(runs.directory, cells, lambda seed, score=score: [score] * 5)
    rows = runs.compared("table12", given("avdd")).rows
    assert [row.weights for row in rows] == ["", "1" * 20, "2" * 20]
    assert [row.measured_mean for row in rows] == pytest.approx([0.4, 0.48, 0.5])
    # Whether they are the paper's weights nobody can tell: they are what the grid asks for.
    assert [row.reported_mean for row in rows] == pytest.approx([0.4013, 0.4871, 0.4871])


def test_csv_and_json_hold_shares_and_nulls(runs: Runs) -> None:
    runs.done("table3", AVE)
    found = runs.compared("table3", given("avdd,random", datasets=("ave",), ipcs=(1,)))
    plain = json.loads(render_comparison(found, "json"))
    random, avdd = plain["rows"]
    assert (random["measured_mean"], random["reported_mean"]) == (None, pytest.approx(0.1007))
    assert avdd["measured_mean"] == pytest.approx(0.23)
    assert "TMLR 2024" in plain["papers"][0]
    lines = list(csv.DictReader(io.StringIO(render_comparison(found, "csv"))))
    assert float(lines[1]["measured_mean"]) == pytest.approx(0.23) and lines[0]["measured_mean"] == ""


def test_a_grid_of_ones_own_names_a_source_and_table_that_exist(tmp_path: Path) -> None:
    for source, table, words in (("avdd", "3", "avdd_tmlr2024"), ("avdd_tmlr2024", "33", "no such table")):
        path = tmp_path / "mine.toml"
        reported = f'[reported]\nsource = "{source}"\ntable = "{table}"\n'
        head = 'title = "mine"\npreset = "paper"\ndataset = "ave"\nmethod = "dm"\nipc = 1\n'
        path.write_text(head + reported, encoding="utf-8")
        grid = read_grid(str(path))
        with pytest.raises(RequestError, match=words):
            compare_grid(grid, grid.blocks, [])
