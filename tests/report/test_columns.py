"""What a row says: version, marks, cost, the records behind it; and that numbers survive being written."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markdown_it import MarkdownIt
from test_board import Grid, reference

from avbench.report.mixing import mixed
from avbench.report.render import render


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def test_versions_of_a_method_are_rows_of_their_own_and_say_which(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("dm", seed, [0.4])
        grid.add("dm", seed, [0.6], version=2)
        grid.add("dm", seed, [0.8], version=2, ipc=10)
    (board,) = grid.boards()
    rows = board.rows.set_index(["ipc", "method"])["av_mean"]
    assert rows.to_dict() == pytest.approx({(1, "dm v1"): 0.4, (1, "dm v2"): 0.6, (10, "dm v2"): 0.8})
    assert mixed([board]) == ["dm was distilled by versions 1, 2 of its plugin: a row each."]


def test_what_is_not_to_be_compared_is_said_once_a_pair(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1)
    assert mixed(grid.boards()) == []
    grid.add("dm", 0, [0.9], planned=1, fingerprint="f2")
    grid.add("dm", 0, [0.7], planned=1, protocol_version=2)
    samples, versions = mixed(grid.boards())
    assert "toy was prepared in 2 ways (f1, f2)" in samples
    assert "2 versions of recognition (1, 2)" in versions


def test_networks_that_distil_are_told_apart_by_the_options_in_which_they_differ(grid: Grid) -> None:
    for width in (16, 32):
        grid.add("dm", 0, [0.5], planned=1, width=width)
    (board,) = grid.boards()
    assert sorted(board.rows["distilled_with"]) == ["convnet[width=16]", "convnet[width=32]"]
    assert "| convnet[width=32]" in render([board], "md").replace("`", "")


def test_a_family_s_member_and_its_option_are_one_row_and_a_slash_in_a_user_s_name_is_not(grid: Grid) -> None:
    for seed, spelled in enumerate(("timm/resnet10t", "timm[model=resnet10t]")):
        network = reference(spelled.partition("[")[0], spelled, model="resnet10t")
        grid.add("dm", seed, [0.5], more={"architecture": network})
        for name in ("ours/first", "ours/second"):
            adopted = {**reference(name), "distribution": "adopted"}
            grid.add(name.replace("/", "-"), seed, [0.6], more={"architecture": network, "method": adopted})
    (board,) = grid.boards()
    assert sorted(board.rows["method"]) == ["dm", "ours/first", "ours/second"]
    assert set(board.rows["seeds"]) == {2} and board.rows["complete"].all()


def test_the_second_is_marked_only_behind_a_best_and_beyond_the_noise(grid: Grid) -> None:
    def fill(ipc: int, first: float) -> None:
        for seed, noise in enumerate((0.0, 0.01, 0.02)):
            grid.add("avdd", seed, [first + noise * 1.5], ipc=ipc, planned=3)
            grid.add("dm", seed, [0.6 + noise], ipc=ipc, planned=3)
            grid.add("random", seed, [0.2 + noise / 2], ipc=ipc, planned=3)

    fill(1, 0.8)  # a clear best, and a clear second
    fill(10, 0.59)  # nobody leads
    (board,) = grid.boards()
    rows = board.rows.set_index(["ipc", "method"])
    assert [place for place, best in rows["best"].items() if best] == [(1, "avdd")]
    assert [place for place, second in rows["second"].items() if second] == [(1, "dm")]
    lines = render([board], "md").splitlines()
    assert sum("| *dm* " in line for line in lines) == 1 == sum("| **avdd** " in line for line in lines)


def test_the_second_is_the_first_behind_all_that_equal_the_best(grid: Grid) -> None:
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        same = {"equals": "avbench:dm/1/[lr=4.2]", "planned": 3}
        grid.add("avdd", seed, [0.8 + 2 * noise], **same)
        grid.add("dm", seed, [0.8 + 2 * noise], label="dm[match=avdd]", lr=0.3, **same)
        grid.add("dm", seed, [0.5 + noise], planned=3)
        grid.add("random", seed, [0.2 + 1.5 * noise], planned=3)
    rows = grid.boards()[0].rows.set_index("method")
    assert rows["best"].to_dict() == {"avdd": True, "dm[match=avdd]": True, "dm": False, "random": False}
    assert rows["second"].to_dict() == {"avdd": False, "dm[match=avdd]": False, "dm": True, "random": False}


def test_two_contenders_have_no_second(grid: Grid) -> None:
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        grid.add("dm", seed, [0.6 + 2 * noise], planned=3)
        grid.add("random", seed, [0.2 + noise], planned=3)
    (board,) = grid.boards()
    assert (board.rows["best"].sum(), board.rows["second"].sum()) == (1, 0)


def test_time_is_the_mean_over_seeds_and_memory_the_most_of_them(grid: Grid) -> None:
    for seed, seconds in ((0, 60.0), (1, 120.0)):
        memory = {"resident": 100.0 + seed, "gpu": 50.0 - seed}
        grid.add("dm", seed, [0.5], more={"duration_s": seconds, "peak_memory_mib": memory})
        grid.add("own", seed, [0.5], more={"duration_s": 0.0, "adopted": {"path": "own"}})
    (board,) = grid.boards()
    rows = board.rows.set_index("method")
    costs = rows.loc["dm", ["duration_s", "peak_memory_mib", "peak_gpu_memory_mib"]]
    assert costs.to_list() == [90.0, 101.0, 50.0]
    assert rows.loc["own", ["duration_s", "peak_memory_mib"]].isna().all()  # nobody knows what that took
    assert "| 1.5 min |" in render([board], "md")


def test_each_row_names_its_records_cells_before_their_evaluations(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("dm", seed, [0.4 + seed / 10])
    grid.add("random", 0, [0.2])
    grid.add("random", 1, [])
    (board,) = grid.boards()
    for row, paths in zip(board.rows.to_dict("records"), board.records, strict=True):
        kinds = [path.parts[-3] for path in paths]
        assert kinds == (["distil", "evaluate"] * 2 if row["method"] == "dm" else ["distil", "evaluate", "distil"])
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        assert {record["method"]["name"] for record in records} == {row["method"]}
        judged = [r["result"]["networks"][0]["accuracy"]["av"] for r in records if r["kind"] == "evaluate"]
        assert row["av_mean"] == pytest.approx(np.mean(judged))  # the numbers are those of these very files


def test_a_superseded_cell_is_not_among_the_records_of_its_row(grid: Grid) -> None:
    grid.add("dm", 0, [0.4], planned=1, prerequisite="old", finished="2026-01-01T00:00:00Z")
    grid.add("dm", 0, [0.6], planned=1, prerequisite="new", finished="2026-01-02T00:00:00Z")
    ((cell, judged),) = grid.boards()[0].records
    assert cell.parent.name.endswith("prerequisitenew")
    assert json.loads(judged.read_text(encoding="utf-8"))["distil_key"] == cell.parent.name


def test_numbers_come_back_from_csv_and_json_to_the_last_bit(grid: Grid) -> None:
    draw = np.random.default_rng(0)
    for seed in range(3):
        for method in ("dm", "random", "avdd"):
            more = {"duration_s": float(draw.uniform(1, 1e4))}
            grid.add(method, seed, draw.uniform(size=3).tolist(), planned=3, more=more)
    grid.add("whole", 0, [1 / 3], ipc=0, planned=3)
    (board,) = grid.boards()
    from_csv = pd.read_csv(io.StringIO(render([board], "csv")), dtype=str)  # its own reader of numbers may round
    from_json = pd.DataFrame(json.loads(render([board], "json"))[0]["rows"])
    numbers = board.rows.select_dtypes("number").columns
    assert {"av_mean", "av_std", "duration_s", "delta", "score", "ci95", "rank"} <= set(numbers)
    for back in (from_csv, from_json):
        for name in numbers:
            given, found = (frame[name].astype("float64").to_numpy() for frame in (board.rows, back))
            np.testing.assert_array_equal(found, given, err_msg=name)


def test_markdown_is_one_table_a_board_whose_cells_a_parser_reads_back(grid: Grid) -> None:
    hostile = 'dm[note="a|b`c*d_e<i>f"]'
    grid.add("dm", 0, [0.5], planned=1, label=hostile)
    grid.add("random", 0, [0.25], planned=1)
    tokens = MarkdownIt("commonmark").enable("table").parse(render(grid.boards(), "md"))
    texts = []
    for before, token in pairwise(tokens):
        if before.type in ("th_open", "td_open"):
            texts.append("".join(child.content for child in token.children or []))
    headers = ["rank", "method", "ipc", "audio %", "AV %", "Δ baseline", "seeds × networks", "ratio %", "bytes", "time"]
    assert texts[:10] == headers
    first = ["1", hostile, "1", "25.0 ± 0.0", "50.0 ± 0.0", "+25.0", "1 × 1", "1.00", "1.2 kB", "–"]
    assert texts[10:20] == first
    assert len(texts) == 30
