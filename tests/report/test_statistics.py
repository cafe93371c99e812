"""Intervals by Student's t over seeds, paired comparisons, and a winner only beyond the noise."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from avbench.errors import RequestError
from avbench.report.board import Board
from avbench.report.pairs import compare, render_pairs
from avbench.report.statistics import beats, interval, paired


def test_an_interval_is_scipy_s() -> None:
    values = [0.61, 0.64, 0.58, 0.66, 0.6]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    found = interval(values)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-12)
    assert found.n == 5


@pytest.mark.parametrize("values", [[], [0.5]])
def test_below_two_seeds_nothing_is_known_of_the_spread(values: list[float]) -> None:
    assert math.isnan(interval(values).half)


def test_an_interval_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        found = interval(list(rng.normal(0.7, 0.05, size=3)))
        hits += found.low <= 0.7 <= found.high
    assert 0.935 <= hits / 2000 <= 0.965


def test_a_pair_is_compared_over_the_seeds_that_both_have() -> None:
    first, second = {0: 0.7, 1: 0.8, 2: 0.9, 5: 0.1}, {0: 0.6, 1: 0.7, 2: 0.8, 7: 0.99}
    found = paired(first, second)
    assert found.n == 3
    assert found.mean == pytest.approx(0.1)


def test_shared_draws_cancel_in_the_difference() -> None:
    """Seeds far apart, methods close together: unpaired intervals overlap, the paired one is clear."""
    second = {0: 0.5, 1: 0.6, 2: 0.7, 3: 0.8}
    first = {seed: value + gain for (seed, value), gain in zip(second.items(), (0.02, 0.03, 0.025, 0.02), strict=True)}
    assert interval(list(first.values())).low < interval(list(second.values())).high
    assert beats(first, second) and not beats(second, first)


def test_a_lead_inside_the_noise_is_none() -> None:
    assert not beats({0: 0.9, 1: 0.6, 2: 0.8}, {0: 0.7, 1: 0.7, 2: 0.7})
    assert not beats({0: 0.9}, {0: 0.1})  # one seed tells nothing
    assert not beats({0: 0.5, 1: 0.6}, {0: 0.5, 1: 0.6})


def test_without_a_difference_nobody_wins_more_often_than_one_time_in_forty() -> None:
    rng = np.random.default_rng(1)
    wins = 0
    for _ in range(2000):
        wins += beats(dict(enumerate(rng.normal(0.7, 0.05, 5))), dict(enumerate(rng.normal(0.7, 0.05, 5))))
    assert wins / 2000 <= 0.035


def test_a_comparison_pairs_rows_of_one_ipc_and_says_what_it_is_worth() -> None:
    rows = pd.DataFrame({"method": ["good", "plain", "noisy", "plain"], "ipc": [1, 1, 1, 10], "modality": ["av"] * 4})
    by_seed = ({0: 0.8, 1: 0.91, 2: 0.7}, {0: 0.7, 1: 0.8, 2: 0.6}, {0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.9})
    about = dict.fromkeys(
        ("dataset", "protocol", "protocol_version", "architecture", "fusion", "precision", "preset"), "x"
    )
    board = Board({**about, "fingerprint": "f" * 12}, ("av",), rows, by_seed=by_seed)
    found = compare([board], "plain").set_index("method")
    assert found["verdict"].to_dict() == {"good": "better", "noisy": "inside the noise"}
    assert found.loc["good", "difference"] == pytest.approx(0.31 / 3)
    assert compare([board], "good").set_index("method").loc["plain", "verdict"] == "worse"
    assert "+10.3 ± 1.4 |" in render_pairs(compare([board], "plain"), "md")
    with pytest.raises(RequestError, match="did you mean 'plain'"):
        compare([board], "plan")
