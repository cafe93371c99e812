"""AVDD at equal λ is DM with a learning rate 1 + 2λ times as large, and nothing else is."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avbench.api import Method
from avbench_methods.avdd import LAMBDA_BY_IPC, published_lambda

LR = 0.05


def trajectory(method: Method, steps: int) -> dict[str, Tensor]:
    for k in range(steps):
        method.step(k)
    return {name: x.detach().clone() for name, x in method.items.items.items()}


def start(method: Method) -> dict[str, Tensor]:
    return trajectory(method, 0)


def distance(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def pair(small, lam: float, *, dtype: torch.dtype = torch.float64, factor: int = 2, **avdd) -> tuple:
    common = {"init": "herding", "factor": factor}
    joint = small.method("avdd", small.context(dtype=dtype), lr=LR, **{"icm": lam, "cgm": lam, **common, **avdd})
    plain = small.method("dm", small.context(dtype=dtype), lr=LR * (1 + 2 * lam), **common)
    return joint, plain


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("lam", [1.0, 10.0, 20.0])
def test_equal_weights_follow_the_larger_step_for_twenty_steps(small, lam: float, factor: int) -> None:
    joint, plain = pair(small, lam, factor=factor)
    origin = start(joint)
    assert distance(origin, start(plain)) == 0
    ends = trajectory(joint, 20), trajectory(plain, 20)
    moved = distance(ends[0], origin)
    assert moved > 0.01
    assert distance(*ends) <= 1e-10 * moved


@pytest.mark.parametrize("lam", [1.0, 10.0, 20.0])
def test_one_step_in_float32_agrees_to_1e_4_of_the_movement(small, lam: float) -> None:
    joint, plain = pair(small, lam, dtype=torch.float32)
    origin = start(joint)
    ends = trajectory(joint, 1), trajectory(plain, 1)
    assert ends[0]["a"].dtype == torch.float32
    assert 0 < distance(*ends) <= 1e-4 * distance(ends[0], origin)


@pytest.mark.parametrize(("icm", "cgm"), [(10.0, 0.0), (0.0, 10.0), (10.0, 9.0)])
def test_unequal_weights_are_another_method(small, icm: float, cgm: float) -> None:
    """1 + λ_ICM + λ_CGM times the step does not give the same items: a cross-modal term remains."""
    joint, plain = pair(small, (icm + cgm) / 2, icm=icm, cgm=cgm)
    origin = start(joint)
    ends = trajectory(joint, 2), trajectory(plain, 2)
    assert distance(*ends) > 1e-3 * distance(ends[0], origin)


@pytest.mark.parametrize("ablation", ["scmm", "rscmm"])
def test_the_ablation_losses_are_another_method_too(small, ablation: str) -> None:
    joint, plain = pair(small, 10.0, **{ablation: 1.0})
    origin = start(joint)
    ends = trajectory(joint, 2), trajectory(plain, 2)
    assert distance(*ends) > 1e-3 * distance(ends[0], origin)


def test_all_joint_weights_zero_is_dm_itself_to_the_bit(small) -> None:
    joint, plain = pair(small, 0.0, dtype=torch.float32)
    assert distance(trajectory(joint, 5), trajectory(plain, 5)) == 0


@pytest.mark.parametrize(("ipc", "times"), [(1, 21), (2, 21), (10, 21), (19, 21), (20, 41), (50, 41)])
def test_match_avdd_multiplies_the_step_by_one_plus_two_lambda(small, ipc: int, times: int) -> None:
    matched = small.method("dm", small.context(ipc=ipc), match="avdd", lr_audio=0.1)
    assert matched.config.rates() == pytest.approx({"a": 0.1 * times, "v": 0.2 * times}, rel=1e-15)
    assert small.method("dm", small.context(ipc=ipc), lr_audio=0.1).config.rates() == {"a": 0.1, "v": 0.2}


def test_match_avdd_gives_avdd_s_items(small) -> None:
    common = {"init": "herding", "factor": 2}
    joint = small.method("avdd", small.context(dtype=torch.float64))
    matched = small.method("dm", small.context(dtype=torch.float64), match="avdd", **common)
    origin = start(joint)
    ends = trajectory(joint, 5), trajectory(matched, 5)
    assert distance(*ends) <= 1e-10 * distance(ends[0], origin)


def test_published_lambda_is_that_of_the_nearest_lower_published_ipc() -> None:
    assert LAMBDA_BY_IPC == {1: 10.0, 10: 10.0, 20: 20.0}
    assert [published_lambda(ipc) for ipc in (1, 5, 10, 15, 20, 30)] == [10, 10, 10, 10, 20, 20]
