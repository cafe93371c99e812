"""Boards from records: arithmetic, ranks, what is never mixed, what Markdown shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from avbench.report.board import Board, build_boards
from avbench.report.render import render, to_table
from avbench.results import RunDirectory


def reference(name: str, label: str = "", version: int = 1, **options: Any) -> dict[str, Any]:
    common = {"distribution": "avbench", "distribution_version": "1", "origins": {}}
    return {"name": name, "label": label or name, "version": version, "options": options, **common}


#: What tells no cell from another: how it is spelled, what its record says besides, how it is judged.
_BESIDES = ("label", "preset", "protocol", "protocol_version", "equals", "bytes", "labels", "augment", "split", "more")


class Grid:
    """Writes records as workers do."""

    def __init__(self, root: Path) -> None:
        self.directory = RunDirectory(root)

    def add(
        self, method: str, seed: int, scores: list[float], *, ipc: int = 1, planned: int = 2, **changes: Any
    ) -> None:
        """One cell, and its evaluation where there are scores."""
        facts = {name: value for name, value in changes.items() if name not in _BESIDES}
        if method == "random":  # a selection depends on no option
            facts.pop("lr", None)
        key = f"{method}-{seed}-{ipc}-{'-'.join(f'{k}{v}' for k, v in sorted(facts.items()))}"
        role = {"random": "baseline", "whole": "upper bound"}.get(method, "method")
        common = {
            "dataset": {"name": changes.get("dataset", "toy"), "fingerprint": changes.get("fingerprint", "f1")},
            "seed": seed,
            "modality": "av",
            "precision": changes.get("precision", "float32"),
            "preset": changes.get("preset", "quick"),
            "method": {
                **reference(method, changes.get("label", ""), changes.get("version", 1), lr=changes.get("lr", 0.2)),
                "equals": changes.get("equals", ""),
            },
            "role": role,
            "ipc": ipc,
            "architecture": reference("convnet", width=changes.get("width", 16)),
            "planned_seeds": planned,
            "finished": changes.get("finished", ""),
            **changes.get("more", {}),
        }
        if not scores:
            error = {"phase": "step 3", "reason": "not finite", "type": "TaskError"}
            self.directory.write_record("distil", key, {"status": "failed", "error": error, **common})
            return
        result = {"content_hash": key, "ratio": 0.01, "storage_bytes": changes.get("bytes", 1234)}
        result |= {"labels": changes["labels"]} if "labels" in changes else {}
        self.directory.write_record("distil", key, {"status": "done", "result": result, **common})
        augment = changes.get("augment", "color")
        judged = {
            "set_hash": result["content_hash"],
            "planned_networks": len(scores),
            "protocol": reference(
                changes.get("protocol", "recognition"),
                f"recognition[augment={augment}]" if augment != "color" else "",
                version=changes.get("protocol_version", 1),
                augment=augment,
                epochs=30,
            ),
            "evaluated_architecture": reference("convnet", **changes.get("judge", {})),
            "fusion": reference("ensemble"),
            "distil_key": key,
            "result": {
                "primary": "accuracy",
                "metrics": [{"name": "accuracy", "share": True}],
                "networks": [{"index": i, "accuracy": {"av": s, "a": s / 2}} for i, s in enumerate(scores)],
            },
        }
        judged_key = f"{key}-{len(scores)}-{changes.get('protocol_version', 1)}-{augment}"
        judged_key += changes.get("protocol", "") + str(changes.get("judge", ""))
        judged |= {"split": changes["split"]} if "split" in changes else {}
        self.directory.write_record("evaluate", judged_key, {"status": "done", **common, **judged})

    def boards(self) -> list[Board]:
        return build_boards([self.directory])


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def test_mean_and_deviation_are_over_all_networks_of_all_seeds(grid: Grid) -> None:
    grid.add("random", 0, [0.1, 0.3])
    grid.add("random", 1, [0.2, 0.6])
    (board,) = grid.boards()
    row = board.rows.iloc[0]
    values = np.array([0.1, 0.3, 0.2, 0.6])
    assert row["av_mean"] == pytest.approx(values.mean())
    assert row["av_std"] == pytest.approx(values.std())
    assert row["a_mean"] == pytest.approx(values.mean() / 2)
    assert board.parts == ("a", "av")  # nothing was scored on v: no empty column
    assert (row["n"], row["seeds"], row["networks"]) == (4, 2, 2)


def test_the_seed_that_ended_first_changes_no_digit(tmp_path: Path) -> None:
    # 0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 differ in the last bit, which decides how 0.3875 is rounded.
    means = []
    for name, ends in (("up", "012"), ("down", "210")):
        grid = Grid(tmp_path / name)
        for seed, end in enumerate(ends):
            grid.add("random", seed, [(0.1, 0.2, 0.3)[seed]], planned=3, finished=f"2026-01-01T00:00:0{end}")
        means.append([float(value) for value in grid.boards()[0].rows.iloc[0][["av_mean", "av_std", "ci95"]]])
    assert means[0] == means[1]


def test_rows_are_ranked_and_compared_with_the_baseline_of_their_ipc(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("random", seed, [0.2])
        grid.add("dm", seed, [0.5])
        grid.add("whole", seed, [0.9], ipc=0)
        grid.add("random", seed, [0.4], ipc=10)
        grid.add("dm", seed, [0.3], ipc=10)
    (board,) = grid.boards()
    rows = board.rows.set_index(["ipc", "method"])
    assert rows.loc[(1, "dm"), "rank"] == 1
    assert rows.loc[(1, "dm"), "delta"] == pytest.approx(0.3)
    assert rows.loc[(10, "dm"), "rank"] == 2  # it does badly, and is shown badly
    assert rows.loc[(10, "dm"), "delta"] == pytest.approx(-0.1)
    assert board.rows["rank"].isna().sum() == 1  # the upper bound is no contender
    assert list(board.rows["method"]) == ["dm", "random", "random", "dm", "whole"]


def test_a_row_with_missing_seeds_is_shown_marked_and_has_no_rank(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("random", seed, [0.2])
    grid.add("dm", 0, [0.9])
    grid.add("dm", 1, [])
    grid.add("avdd", 0, [])
    (board,) = grid.boards()
    rows = board.rows.set_index("method")
    assert not rows.loc["dm", "complete"]
    assert rows["rank"].isna().tolist() == [False, True, True]
    text = render([board], "md")
    assert "incomplete: 1 of 2 seeds" in text
    assert "incomplete: 0 of 2 seeds" in text


def test_fingerprints_and_protocol_versions_never_share_a_board(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("dm", seed, [0.5])
        grid.add("dm", seed, [0.9], fingerprint="f2")
        grid.add("dm", seed, [0.7], protocol_version=2)
    boards = grid.boards()
    assert len(boards) == 3
    assert sorted(b.rows["av_mean"].iloc[0] for b in boards) == pytest.approx([0.5, 0.7, 0.9])


def test_boards_whose_networks_share_a_name_have_titles_that_differ(grid: Grid) -> None:
    for width in (16, 32):
        grid.add("dm", 0, [width / 100], planned=1, judge={"width": width})
    grid.add("dm", 0, [0.7], planned=1, judge={"width": 32}, protocol_version=2)
    start, end = "toy (f1) · recognition v", " · ensemble · float32 · preset quick"
    assert {board.title: board.rows["av_mean"].iloc[0] for board in grid.boards()} == {
        f"{start}1 · convnet[width=16]{end}": 0.16,
        f"{start}1 · convnet[width=32]{end}": 0.32,
        f"{start}2 · convnet[width=32]{end}": 0.7,
    }


def test_a_set_that_two_presets_share_is_one_row_and_harms_no_board(grid: Grid) -> None:
    grid.add("random", 0, [0.2], planned=1)
    grid.add("dm", 0, [0.5], planned=1, preset="paper", lr=0.4)
    grid.add("random", 0, [0.2], planned=1, preset="paper")
    (board,) = grid.boards()
    assert sorted(board.rows["method"]) == ["dm", "random"]
    assert board.rows.set_index("method").loc["random", "n"] == 1


def test_networks_count_once_however_often_they_were_judged(grid: Grid) -> None:
    grid.add("dm", 0, [0.4], planned=1)
    grid.add("dm", 0, [0.4, 0.6], planned=1)  # the same command with more networks
    for boards in (grid.boards(), build_boards([grid.directory, grid.directory])):
        (row,) = boards[0].rows.to_dict("records")
        assert (row["seeds"], row["networks"], row["n"], row["complete"]) == (1, 2, 2, True)
        assert row["av_mean"] == pytest.approx(0.5)


def test_of_two_cells_of_one_seed_the_later_counts(grid: Grid) -> None:
    grid.add("dm", 0, [0.4], planned=1, prerequisite="old", finished="2026-01-01T00:00:00Z")
    grid.add("dm", 0, [0.6], planned=1, prerequisite="new", finished="2026-01-02T00:00:00Z")
    (board,) = grid.boards()
    (row,) = board.rows.to_dict("records")
    assert (row["n"], row["av_mean"]) == (1, pytest.approx(0.6))


def test_precisions_never_share_a_board(grid: Grid) -> None:
    grid.add("random", 0, [0.2], planned=1)
    grid.add("random", 0, [0.3], planned=1, precision="float64")
    boards = grid.boards()
    assert [len(board.rows) for board in boards] == [1, 1]
    assert len({board.title for board in boards}) == 2


def test_two_spellings_of_one_configuration_are_one_row(grid: Grid) -> None:
    grid.add("dm", 0, [0.4], label="dm[lr=0.2]")
    grid.add("dm", 1, [0.6], label="dm")
    (board,) = grid.boards()
    (row,) = board.rows.to_dict("records")
    assert (row["method"], row["seeds"], row["complete"]) == ("dm", 2, True)


def test_each_row_is_compared_with_the_baseline_of_its_own_network(grid: Grid) -> None:
    for width, level in ((16, 0.1), (32, 0.2)):
        grid.add("random", 0, [level], planned=1, width=width)
        grid.add("dm", 0, [0.5], planned=1, width=width)
    (board,) = grid.boards()
    assert board.rows["delta"].notna().sum() == 2


def test_one_label_with_two_configurations_is_two_rows(grid: Grid) -> None:
    for seed in (0, 1):
        grid.add("dm", seed, [0.5], lr=0.2)
        grid.add("dm", seed, [0.6], lr=0.3)
    (board,) = grid.boards()
    assert sorted(board.rows["method"]) == ["dm[lr=0.2]", "dm[lr=0.3]"]  # told apart by what differs


def test_markdown_shows_names_as_text_whatever_they_hold(grid: Grid) -> None:
    hostile = 'dm[note="<script>|`x`"]'
    grid.add("dm", 0, [0.5], planned=1, label=hostile)
    (board,) = grid.boards()
    text = render([board], "md")
    (line,) = [line for line in text.splitlines() if "script" in line]
    assert '``dm[note="<script>\\|`x`"]``' in line  # inside code, its bar escaped
    heading, rule = (line for line in text.splitlines() if line.startswith(("|   rank", "|-")))
    assert rule.count("|") == line.replace("\\|", "").count("|") == heading.count("|")
    assert to_table(board).row_count == 1


def test_json_holds_missing_values_as_null(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1)
    (found,) = json.loads(render(grid.boards(), "json"))
    assert found["rows"][0]["delta"] is None
    assert found["board"]["fingerprint"] == "f1"


def test_rows_that_are_one_computation_are_marked_and_do_not_take_the_win_from_each_other(grid: Grid) -> None:
    for seed, noise in enumerate((0.0, 0.01, 0.02)):
        same = {"equals": "avbench:dm/1/[lr=4.2]", "planned": 3}
        grid.add("random", seed, [0.2 + noise], planned=3)
        grid.add("avdd", seed, [0.8 + 2 * noise], **same)
        grid.add("dm", seed, [0.8 + 2 * noise], label="dm[match=avdd]", lr=0.3, **same)
        grid.add("dm", seed, [0.5 + noise], planned=3)
    (board,) = grid.boards()
    rows = board.rows.set_index("method")
    assert rows.loc["dm[match=avdd]", "same_as"] == "avdd"
    assert [name for name, best in rows["best"].items() if best] == ["avdd", "dm[match=avdd]"]
    assert "dm[match=avdd] ≡ avdd" in render([board], "md")
    assert render([board], "md").count("≡") == 1


def test_an_equal_that_is_spelled_out_on_the_board_is_recognised(grid: Grid) -> None:
    """The one row declares the other's configuration, which itself declares nothing."""
    grid.add("dm", 0, [0.5], planned=1, label="dm[lr=4.2]", lr=4.2)
    (board,) = grid.boards()
    grid.add("avdd", 0, [0.5], planned=1, equals=board.rows["identity"].iloc[0])
    (board,) = grid.boards()
    assert board.rows.set_index("method").loc["dm[lr=4.2]", "same_as"] == "avdd"


def test_labels_are_shown_where_rows_differ_in_them_and_are_hard_where_nothing_is_said(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1)
    (board,) = grid.boards()
    assert "labels" not in render([board], "md")
    grid.add("mtt", 0, [0.6], planned=1, labels="soft")
    (board,) = grid.boards()
    assert dict(zip(board.rows["method"], board.rows["labels"], strict=True)) == {"dm": "hard", "mtt": "soft"}
    assert "| soft " in render([board], "md") and "| hard " in render([board], "md")


def test_what_was_judged_on_the_validation_split_is_on_no_board(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1)
    grid.add("dm", 0, [0.9, 0.9], planned=1, split="val")
    grid.add("dm", 0, [0.9], planned=1, lr=4.2, split="val")
    (board,) = grid.boards()
    (row,) = board.rows.to_dict("records")
    assert (row["av_mean"], row["n"]) == (pytest.approx(0.5), 1)


def test_a_chosen_value_is_marked_and_a_value_that_failed_when_tried_is_no_row(grid: Grid) -> None:
    grid.add("dm", 0, [0.5], planned=1, label="dm[lr=4.2]", lr=4.2)
    grid.add("dm", 0, [], planned=1, label="dm[lr=100]", lr=100.0)
    choice = {
        "status": "done",
        "option": "lr",
        "chosen_on": "validation",
        "chosen_cells": ["dm-0-1-lr4.2"],
        "values": [{"cells": ["dm-0-1-lr4.2"]}, {"cells": ["dm-0-1-lr100.0"]}],
    }
    assert len(grid.boards()[0].rows) == 2
    grid.directory.write_record("tuning", "t", choice)
    (row,) = grid.boards()[0].rows.to_dict("records")
    assert row["chosen"] == "lr chosen on validation"
    assert "dm[lr=4.2] (lr chosen on validation)" in render(grid.boards(), "md")
