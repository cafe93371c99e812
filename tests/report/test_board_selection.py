"""``avbench leaderboard`` with filters and sections: what is shown keeps its rank, what does not exist is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import leaderboard
from test_board import Grid


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    """Two stores, two protocols, two IPCs and the whole data; dm also with another learning rate."""
    made = Grid(tmp_path / "runs")
    for store in ("toy", "other"):
        facts: dict[str, Any] = {"planned": 1, "dataset": store, "fingerprint": f"of-{store}"}
        for ipc in (1, 10):
            made.add("random", 0, [0.2], ipc=ipc, **facts)
            made.add("dm", 0, [0.5], ipc=ipc, **facts)
            made.add("dm", 0, [0.6], ipc=ipc, label="dm[lr=4.2]", lr=4.2, **facts)
        made.add("whole", 0, [0.9], ipc=0, **facts)
    made.add("dm", 0, [0.7], planned=1, dataset="toy", fingerprint="of-toy", protocol="retrieval")
    return made


def rows(grid: Grid, *arguments: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """All rows that are shown, with what their boards have in common."""
    assert leaderboard(grid, *arguments, "--format", "json") == 0
    return [board["board"] | row for board in json.loads(capsys.readouterr().out) for row in board["rows"]]


@pytest.mark.parametrize(
    ("arguments", "column", "values"),
    [
        (["--dataset", "other"], "dataset", {"other"}),
        (["--ipc", "10"], "ipc", {10}),
        (["--ipc", "1,all"], "ipc", {1, 0}),
        (["--ipc", "10,0"], "ipc", {10, 0}),
        (["--protocol", "retrieval"], "protocol", {"retrieval"}),
        (["--method", "random, dm"], "method", {"random", "dm"}),
        (["--method", "dm[ lr=4.2 ]"], "method", {"dm[lr=4.2]"}),
        (["--modality", "av"], "modality", {"av"}),
        (["--arch", "convnet"], "architecture", {"convnet"}),
        (["--fusion", "ensemble"], "fusion", {"ensemble"}),
    ],
)
def test_a_filter_shows_all_rows_of_its_values_and_no_other(
    grid: Grid, arguments: list[str], column: str, values: set[object], capsys: pytest.CaptureFixture[str]
) -> None:
    everything = rows(grid, capsys=capsys)
    shown = rows(grid, *arguments, capsys=capsys)
    assert {row[column] for row in shown} == values
    assert shown == [row for row in everything if row[column] in values]  # and every number stays what it was


def test_what_is_shown_keeps_its_rank_and_the_reader_is_told(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    (row,) = rows(grid, "--method", "random", "--ipc", "1", "--dataset", "toy", capsys=capsys)
    assert row["rank"] == 3
    assert leaderboard(grid, "--method", "random") == 0
    assert "ranks, marks and differences are those among all" in capsys.readouterr().out
    assert leaderboard(grid, "--method", "random,dm,dm[lr=4.2],whole") == 0
    assert "among all" not in capsys.readouterr().out


def test_a_configuration_is_found_under_each_of_its_spellings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid(tmp_path)
    grid.add("dm", 0, [0.4], label="dm[lr=0.2]")
    grid.add("dm", 1, [0.6], label="dm")
    for spelling in ("dm", "dm[lr=0.2]"):
        (row,) = rows(grid, "--method", spelling, capsys=capsys)
        assert (row["method"], row["n"]) == ("dm", 2)


def test_a_set_from_elsewhere_is_found_by_a_name_that_no_grammar_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid(tmp_path)
    for label in ("my own, set [2]", "dm"):
        grid.add("dm" if label == "dm" else "own", 0, [0.4], planned=1, label=label)
    (row,) = rows(grid, "--method", "my own, set [2]", capsys=capsys)
    assert row["method"] == "my own, set [2]"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--ipc", "7"], "there are: 1, 10, all"),
        (["--ipc", "1,"], "expected a list such as 1,10,all"),
        (["--dataset", "toi"], "did you mean 'toy'"),
        (["--dataset", "zzz"], "known: other, toy"),
        (["--method", "dmm"], "did you mean 'dm'"),
        (["--method", "dm[lr=9]"], "dm[lr=4.2]"),
        (["--method", "dm["], "an option's name"),
        (["--method", "dm,dm"], "more than once"),
        (["--protocol", "retrievals"], "did you mean 'retrieval'"),
        (["--arch", "vgg"], "known: convnet"),
        (["--fusion", "sum"], "known: ensemble"),
        (["--modality", "a"], "there are: av"),
        (["--method", "random", "--protocol", "retrieval"], "no row has them all"),
        (["--group-by", "ipcs"], "did you mean 'ipc'"),
        (["--group-by", "ipc", "--format", "csv"], "holds the columns to group by"),
        (["--group-by", "ipc", "--fairness"], "--group-by ipc"),
        (["--format", "markdown"], "--format 'markdown'"),
        (["--format", "latex", "--curves"], "--curves gives md, csv, json"),
        (["--standalone"], "goes with --format latex"),
    ],
)
def test_a_wrong_request_is_one_line_that_names_what_there_is(
    grid: Grid, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert leaderboard(grid, *arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("avbench: ") and words in line


@pytest.mark.parametrize(
    ("by", "headings"),
    [
        ("ipc", ["ipc 1", "ipc 10", "ipc all"]),
        ("dataset", ["dataset other", "dataset toy"]),
        ("method", ["method dm", "method `dm[lr=4.2]`", "method random", "method whole"]),
        ("protocol", ["protocol recognition", "protocol retrieval"]),
        ("board", []),
    ],
)
def test_sections_hold_every_row_once(
    grid: Grid, by: str, headings: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert leaderboard(grid, "--group-by", by) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == headings
    assert sum("1 × 1" in line for line in lines) == len(rows(grid, capsys=capsys))


def test_pairs_and_fairness_measure_on_all_rows_and_show_some(grid: Grid, capsys: pytest.CaptureFixture[str]) -> None:
    def table(*arguments: str) -> list[dict[str, Any]]:
        assert leaderboard(grid, *arguments, "--format", "json") == 0
        found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
        return found

    every, some = table("--against", "random"), table("--against", "random", "--method", "dm", "--ipc", "10")
    assert some == [each for each in every if each["method"] == "dm" and each["ipc"] == 10]
    assert len(some) == 2  # on both stores
    every, some = table("--fairness"), table("--fairness", "--method", "dm", "--ipc", "10")
    assert some == [each for each in every if each["method"] == "dm" and each["ipc"] == 10]
    assert {each["baseline"] for each in some} == {"random"}  # which is not shown itself


def test_boards_of_other_samples_or_versions_are_named_on_stderr_and_on_the_page(
    grid: Grid, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.add("dm", 0, [0.5], planned=1, dataset="toy", fingerprint="anew")
    for format in ("md", "html", "latex"):
        assert leaderboard(grid, "--dataset", "toy", "--format", format) == 0
        printed = capsys.readouterr()
        for text in (printed.out, printed.err):
            assert "toy was prepared in 2 ways" in " ".join(text.replace("`", "").split())
    assert leaderboard(grid, "--dataset", "other") == 0
    assert capsys.readouterr().err == ""  # what is not shown can't be mixed up


def test_a_page_links_to_its_records_from_where_it_lies(
    grid: Grid, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "site" / "board.html"
    assert leaderboard(grid, "--format", "html", "-o", str(page)) == 0
    assert 'href="../runs/distil/' in page.read_text(encoding="utf-8")
    assert leaderboard(grid, "--format", "html") == 0
    assert f'href="{(tmp_path / "runs" / "distil").as_uri()}/' in capsys.readouterr().out


def test_a_board_needs_no_torch(grid: Grid) -> None:
    root = grid.directory.root
    code = (
        "import sys; from avbench.cli import app\n"
        f"try: app(['leaderboard', {str(root)!r}])\nexcept SystemExit as end: assert not end.code\n"
        "assert 'torch' not in sys.modules and 'pandas' in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
