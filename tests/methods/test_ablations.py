"""The ablations of the AVDD paper (Tables 4, 7, 8 and 11) are variants of `avdd`: each runs, and each is its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from packages import avbench

from avbench.api import Method

OFF = {"base": 0.0, "icm": 0.0, "cgm": 0.0}
LAMBDA = 10.0
#: Table 4, left, and Table 7: single and paired losses.
LOSSES = {
    "base": {"base": 1.0},
    "icm": {"icm": LAMBDA},
    "cgm": {"cgm": LAMBDA},
    "base+icm": {"base": 1.0, "icm": LAMBDA},
    "base+cgm": {"base": 1.0, "cgm": LAMBDA},
    "icm+cgm": {"icm": LAMBDA, "cgm": LAMBDA},
    "base+icm+cgm": {"base": 1.0, "icm": LAMBDA, "cgm": LAMBDA},
    "base+scmm": {"base": 1.0, "scmm": 1.0},
    "base+rscmm": {"base": 1.0, "rscmm": 1.0},
    "base+scmm+rscmm": {"base": 1.0, "scmm": 1.0, "rscmm": 1.0},
}
#: Table 4, right: herding and factor, each on and off; Table 8: the factor.
STARTS = [("random", 1), ("random", 2), ("herding", 1), ("herding", 2), ("herding", 3), ("random", 3)]


def moved(method: Method, steps: int = 1) -> dict[str, torch.Tensor]:
    before = {name: x.detach().clone() for name, x in method.items.items.items()}
    for k in range(steps):
        assert method.step(k)["loss"] > 0
    found = method.distilled()
    assert all(torch.isfinite(x).all() for x in found.items.values())
    return {name: found.items[name] - before[name] for name in found.items}


@pytest.fixture(scope="module")
def movements(small) -> dict[str, dict[str, torch.Tensor]]:
    return {case: moved(small.method("avdd", small.context(), **{**OFF, **LOSSES[case]})) for case in LOSSES}


@pytest.mark.parametrize("case", LOSSES)
def test_each_combination_of_losses_moves_both_modalities(movements: dict, case: str) -> None:
    for name, movement in movements[case].items():
        assert float(movement.abs().max()) > 0, name


def test_the_combinations_are_different_methods(movements: dict) -> None:
    cases = list(LOSSES)
    for i, one in enumerate(cases):
        for other in cases[i + 1 :]:
            assert not torch.allclose(movements[one]["a"], movements[other]["a"], rtol=1e-3, atol=0), (one, other)


def test_without_losses_and_steps_the_items_stay_as_they_are(small) -> None:
    """Table 4's first row: herding and factor alone, no learning."""
    start = small.method("avdd", small.context(), steps=0)
    assert start.steps == 0
    moved_items = moved(small.method("avdd", small.context()), steps=0)
    assert all(float(x.abs().max()) == 0 for x in moved_items.values())


@pytest.mark.parametrize(("init", "factor"), STARTS)
@pytest.mark.parametrize("losses", ["base", "base+icm+cgm"])
def test_every_start_and_factor_runs_with_every_loss_and_decodes_to_all_samples(
    small, init: str, factor: int, losses: str
) -> None:
    """Sides of 16 and 24: three cells do not divide 16."""
    context = small.context(ipc=1, channels=3)
    method = small.method("avdd", context, **{**OFF, **LOSSES[losses], "init": init, "factor": factor})
    assert float(moved(method)["v"].abs().max()) > 0
    samples = method.distilled().samples(context.train)
    assert len(samples) == 4 * factor**2
    assert samples.tensors["a"].shape == (4 * factor**2, 1, 16, 24)


@pytest.mark.parametrize("ipc", [1, 2])
def test_the_grid_of_lambda_scales_the_first_step_by_one_plus_two_lambda(small, ipc: int) -> None:
    """Table 11, λ_ICM = λ_CGM = λ: by the parallelogram law the step grows as 1 + 2λ."""
    steps = {
        lam: moved(small.method("avdd", small.context(ipc=ipc, dtype=torch.float64), icm=lam, cgm=lam))
        for lam in (0.0, 1.0, 10.0, 20.0)
    }
    for lam, movement in steps.items():
        for name, x in movement.items():
            torch.testing.assert_close(x, (1 + 2 * lam) * steps[0.0][name], rtol=1e-8, atol=1e-10)


def test_ablations_and_gradient_matching_run_from_the_command_line(avdigits_data: Path, tmp_path: Path) -> None:
    """Factor 3 on sides of 32 and 56, which it does not divide."""
    variants = [
        "dc[outer=2,inner=1]", "dsa[factor=2]", "avdd[base=0,cgm=0]", "avdd[icm=0,cgm=0,scmm=1,rscmm=1]",
        "avdd[factor=1,init=random]", "avdd[factor=3]",
    ]  # fmt: skip
    small = [f"{method}.{option}" for method in ("dc", "dsa", "avdd") for option in ("steps=1", "batch_real=4")]
    done = avbench(
        *("run", "--method", ",".join(variants), "--dataset", "avdigits", "--ipc", "1", "--seeds", "1"),
        *("--networks", "1", "--data", str(avdigits_data), "--out", str(tmp_path / "runs")),
        *(part for option in small for part in ("--set", option)),
        *("--set", "avdd.features=random", "--set", "convnet.width=2"),
        *("--set", "recognition-quick.updates=1", "--set", "recognition-quick.epochs=1"),
    )
    assert done.returncode == 0, done.stderr
    made = [json.loads(p.read_text(encoding="utf-8")) for p in (tmp_path / "runs" / "distil").glob("*/record.json")]
    assert len(made) == len(variants) and {record["status"] for record in made} == {"done"}
    assert len({record["result"]["content_hash"] for record in made}) == len(variants)
    (packed,) = [r for r in made if r["method"]["options"]["factor"] == 3]
    assert packed["result"]["items"] == 10


def test_an_unknown_augmentation_ends_before_anything_is_made(avdigits_data: Path, tmp_path: Path) -> None:
    done = avbench(
        *("run", "--method", "dsa[augment=colour]", "--dataset", "avdigits", "--ipc", "1"),
        *("--data", str(avdigits_data), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 2
    assert "unknown op 'colour'" in done.stderr
    assert not (tmp_path / "runs" / "distil").exists()
