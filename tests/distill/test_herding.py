"""Herding against the paper's Fig. 9."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from avbench.distill.herding import herd


def figure9(features: Tensor, count: int) -> list[int]:
    """The pseudo-code of the paper's Fig. 9, line by line."""
    mean = torch.mean(features, dim=0, keepdim=True)
    idx_selected: list[int] = []
    idx_left = np.arange(features.shape[0]).tolist()
    for i in range(count):
        det = mean * (i + 1) - torch.sum(features[idx_selected], dim=0)
        dis = torch.cdist(det, features[idx_left], compute_mode="donot_use_mm_for_euclid_dist")[0]
        idx = int(torch.argmin(dis))
        idx_selected.append(idx_left[idx])
        del idx_left[idx]
    return idx_selected


@st.composite
def tables(draw: st.DrawFn) -> np.ndarray:
    """Random features in general position. Two rows lie equally far from their mean: ties have their own test."""
    rows, columns = draw(st.integers(1, 25).filter(lambda n: n != 2)), draw(st.integers(1, 6))
    seed = draw(st.integers(0, 2**32 - 1))
    scale = draw(st.sampled_from([1e-3, 1.0, 1e3]))
    return np.random.default_rng(seed).normal(size=(rows, columns)) * scale


@settings(max_examples=150, deadline=None)
@given(tables())
def test_herding_is_figure_9(table: np.ndarray) -> None:
    features = torch.from_numpy(table)
    assert herd(features, len(table)) == figure9(features, len(table))


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.int64, hnp.array_shapes(min_dims=2, max_dims=2, max_side=8), elements=st.integers(-3, 3)))
def test_ties_go_to_the_first_row_and_no_row_is_taken_twice(table: np.ndarray) -> None:
    features = torch.from_numpy(table).double() * len(table)  # the mean is then whole: all sums are exact
    chosen = herd(features, len(table))
    assert sorted(chosen) == list(range(len(table)))
    assert chosen == figure9(features, len(table))


@settings(max_examples=60, deadline=None)
@given(tables(), st.integers(1, 60), st.integers(1, 60))
def test_fewer_is_a_prefix_of_more(table: np.ndarray, one: int, other: int) -> None:
    features = torch.from_numpy(table)
    less, more = sorted((one, other))
    assert herd(features, more)[:less] == herd(features, less)


@settings(max_examples=30, deadline=None)
@given(tables(), st.integers(1, 100))
def test_beyond_the_class_size_the_order_repeats(table: np.ndarray, count: int) -> None:
    chosen = herd(torch.from_numpy(table), count)
    assert len(chosen) == count
    assert all(chosen[i] == chosen[i % len(table)] for i in range(count))


def test_a_choice_by_hand() -> None:
    """Mean 3: first the row 3; then 2·3 − 3 = 3, nearest 2 (tie with 4, which comes later); then 9 − 5 = 4."""
    features = torch.tensor([[0.0], [2.0], [3.0], [4.0], [6.0]])
    assert herd(features, 3) == [2, 1, 3]


def test_float32_features_are_summed_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 40, generator=generator) + 1e5
    assert herd(features, 200) == figure9(features.double(), 200)
    assert herd(features, 200) != figure9(features, 200), "float32 would do: choose harder features"


@pytest.mark.parametrize("count", [1, 5, 20])
def test_the_chosen_follow_the_mean_better_than_the_first_rows(count: int) -> None:
    features = torch.randn(100, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    gap = [(features[rows].mean(dim=0) - features.mean(dim=0)).norm() for rows in (herd(features, count), range(count))]
    assert gap[0] < gap[1]
