"""Fairness: the measures by hand, within [0, 1] whatever the accuracies, and absent with a reason."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_board import Grid

from avbench.report.fairness import augmentation_robust, fairness, label_robust, render_fairness, unit_map
from avbench.report.statistics import interval

SHARE = st.floats(0, 1)


@pytest.fixture
def grid(tmp_path: Path) -> Grid:
    return Grid(tmp_path)


def fill(grid: Grid, **changes: Any) -> None:
    """Two seeds: dm 0.5 at 100 bytes, random 0.2, 0.3 and 0.4 at 30, 90 and 110, the whole data 0.9."""
    for seed in (0, 1):
        grid.add("dm", seed, [0.5 + 0.02 * seed], bytes=100, **changes)
        for ipc, score, size in ((1, 0.2, 30), (3, 0.3, 90), (4, 0.4, 110)):
            grid.add("random", seed, [score], ipc=ipc, bytes=size, **changes)
        grid.add("whole", seed, [0.9], ipc=0, bytes=9999, **changes)


def line(grid: Grid) -> dict[str, Any]:
    frame = fairness(grid.boards())
    return frame[frame["method"] == "dm"].to_dict("records")[0]


def test_the_map_takes_the_ends_to_the_ends_and_grows() -> None:
    assert unit_map(-1) == 0
    assert unit_map(1) == pytest.approx(1, abs=1e-15)
    # By hand: (1 − 0.36788) / (2.71828 − 0.36788).
    assert unit_map(0) == pytest.approx(0.268941, abs=1e-6)


@given(SHARE, SHARE, SHARE, SHARE)
def test_the_label_robust_score_of_any_accuracies_is_a_share(syn: float, random: float, whole: float, w: float) -> None:
    score = label_robust(syn - random, whole - syn, w)
    assert -1e-12 <= score <= 1 + 1e-12


@given(SHARE, SHARE, SHARE, SHARE, SHARE)
def test_the_augmentation_robust_score_of_any_accuracies_is_a_share(
    syn: float, random: float, bare_syn: float, bare_random: float, gamma: float
) -> None:
    score = augmentation_robust(syn - random, bare_syn - bare_random, gamma)
    assert -1e-12 <= score <= 1 + 1e-12


@given(SHARE, SHARE, SHARE, st.floats(0, 0.5))
def test_a_better_set_never_scores_less(syn: float, random: float, whole: float, gain: float) -> None:
    better = min(1.0, syn + gain)
    assert label_robust(better - random, whole - better) >= label_robust(syn - random, whole - syn)


def test_the_measures_by_hand(grid: Grid) -> None:
    fill(grid)
    found = line(grid)
    assert found["hlr"] == pytest.approx(0.9 - 0.51)
    assert (found["baseline"], found["baseline_ipc"]) == ("random", 3)  # 90 of 100 bytes; 110 would be too many
    assert found["storage_ratio"] == pytest.approx(0.9)
    assert found["ior"] == pytest.approx(0.51 - 0.3)
    assert found["ior_ci95"] == pytest.approx(interval([0.2, 0.22]).half)
    alpha = 0.5 * 0.21 - 0.5 * 0.39
    assert found["lrs"] == pytest.approx((math.exp(alpha) - math.exp(-1)) / (math.e - math.exp(-1)))
    assert math.isnan(found["ars"]) and "no board of recognition with augment=none" in found["why"]


def test_ars_takes_both_rows_from_the_board_without_augmentation(grid: Grid) -> None:
    fill(grid)
    for seed in (0, 1):
        grid.add("dm", seed, [0.4], bytes=100, augment="none")
        grid.add("random", seed, [0.35], ipc=3, bytes=90, augment="none")
    found = fairness(grid.boards()).set_index(["protocol", "method"])
    ars = found.loc[("recognition", "dm"), "ars"]
    assert ars == pytest.approx(unit_map(0.5 * 0.21 + 0.5 * 0.05))
    assert found.loc[("recognition", "dm"), "why"] == ""
    assert math.isnan(found.loc[("recognition[augment=none]", "dm"), "ars"])


def test_another_version_without_augmentation_is_no_partner(grid: Grid) -> None:
    fill(grid)
    for seed in (0, 1):
        grid.add("dm", seed, [0.4], bytes=100, augment="none", protocol_version=2)
        grid.add("random", seed, [0.35], ipc=3, bytes=90, augment="none", protocol_version=2)
    assert fairness(grid.boards())["ars"].isna().all()


@pytest.mark.parametrize(
    ("missing", "absent", "words"),
    [
        ("whole", ["hlr", "lrs"], "no complete upper bound"),
        ("random", ["ior", "lrs", "ars"], "no complete baseline that takes no more bytes"),
    ],
)
def test_what_is_missing_is_absent_and_said_why(grid: Grid, missing: str, absent: list[str], words: str) -> None:
    for seed in (0, 1):
        grid.add("dm", seed, [0.5], bytes=100)
        # Two rows that do not count: an incomplete upper bound, a baseline that takes more bytes.
        if missing != "whole" or seed == 0:
            grid.add("whole", seed, [0.9], ipc=0, bytes=9999)
        grid.add("random", seed, [0.3], ipc=3, bytes=101 if missing == "random" else 90)
    found = line(grid)
    assert all(math.isnan(found[name]) for name in absent)
    assert words in found["why"]


def test_soft_labels_have_no_hard_label_recovery(grid: Grid) -> None:
    fill(grid)
    for seed in (0, 1):
        grid.add("mtt", seed, [0.7], bytes=120, labels="soft")
    frame = fairness(grid.boards()).set_index("method")
    assert math.isnan(frame.loc["mtt", "hlr"]) and "soft labels" in frame.loc["mtt", "why"]
    assert frame.loc["mtt", "ior"] == pytest.approx(0.7 - 0.4)  # at 120 bytes the larger random set is allowed
    assert not math.isnan(frame.loc["dm", "hlr"])


def test_of_an_incomplete_row_nothing_is_measured(grid: Grid) -> None:
    fill(grid)
    grid.add("avdd", 0, [0.8], bytes=100)
    frame = fairness(grid.boards()).set_index("method")
    assert frame.loc["avdd", ["hlr", "ior", "lrs", "ars"]].isna().all()
    assert frame.loc["avdd", "why"].startswith("incomplete")


def test_every_format_tells_the_comparison_and_the_reasons(grid: Grid) -> None:
    fill(grid)
    frame = fairness(grid.boards())
    text = render_fairness(frame, "md")
    assert "random at ipc 3, 90 % of the bytes" in text
    assert "- all rows: no ARS" in text
    for seed in (0, 1):
        grid.add("mtt", seed, [0.7], bytes=10)
    assert "- mtt at ipc 1: no IOR" in render_fairness(fairness(grid.boards()), "md")
    (plain,) = json.loads(render_fairness(frame, "json"))
    assert plain["ars"] is None and plain["baseline_ipc"] == 3
    read = pd.read_csv(io.StringIO(render_fairness(frame, "csv")))
    assert read["lrs"].iloc[0] == pytest.approx(plain["lrs"])
