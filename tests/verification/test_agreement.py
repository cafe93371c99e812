"""When does a repeated evaluation agree? Honest repetitions pass, numbers raised by some points do not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from avbench.verification.agreement import BIT_EQUAL, DIFFERS, WITHIN, Repeated, Verdict, compare

SAMPLES = 500
Drawn = np.ndarray[Any, np.dtype[np.float64]]


def record(method: str, seed: int, scores: Drawn, losses: Drawn, processor: str) -> dict[str, Any]:
    def named(name: str) -> dict[str, Any]:
        plain = {"options": {}, "origins": {}, "distribution": "avbench", "distribution_version": "1"}
        return {"name": name, "label": name, "version": 1, **plain}

    networks = [
        {"index": i, "accuracy": {"av": float(score)}, "train_loss": float(loss)}
        for i, (score, loss) in enumerate(zip(scores, losses, strict=True))
    ]
    return {
        **{"dataset": {"name": "d", "fingerprint": "f"}, "seed": seed, "modality": "av", "precision": "float32"},
        **{"preset": "quick", "planned_seeds": 3, "planned_networks": 3, "role": "method", "ipc": 1},
        **{"method": named(method), "architecture": named("net"), "prerequisites": {}, "status": "done"},
        **{"protocol": named("p"), "evaluated_architecture": named("net"), "fusion": named("f")},
        "engine": {"device": "cpu", "threads": 1, "micro_batch": None},
        "environment": {"processor": processor, "packages": {"torch": "2"}},
        "result": {"primary": "accuracy", "metrics": [{"name": "accuracy", "share": True}], "networks": networks},
    }


def grid(
    rng: np.random.Generator, again: Callable[[Drawn, int], Drawn], *, processor: str = "theirs", spread: float = 0.015
) -> list[Repeated]:
    """Ten methods × 3 seeds × 3 networks; ``again`` gives the recorded scores from what is found here."""
    found = []
    for method in range(10):
        for seed in range(3):
            here = (0.6 + spread * rng.normal(size=3)).clip(0, 1)
            recorded, losses = again(here, method), rng.random(3)
            old = record(f"m{method}", seed, recorded, losses if processor == "ours" else losses + 1e-6, processor)
            new = record(f"m{method}", seed, here, losses, "ours")
            found.append(Repeated(f"{method}-{seed}", old, new, SAMPLES))
    return found


def verdicts(found: list[Verdict]) -> dict[str, str]:
    return {verdict.key: verdict.verdict for verdict in found}


def test_even_if_rounding_drew_all_networks_anew_honest_grids_pass() -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(40):
        drawn = grid(rng, lambda here, method: here.mean() + 0.015 * rng.normal(size=3))
        alarms += any(verdict.verdict == DIFFERS for verdict in compare(drawn))
    # 1200 records and 400 rows; a row may be off by three standard errors once or twice.
    assert alarms <= 3


@pytest.mark.parametrize("points", [4, -4])
def test_a_method_raised_by_points_differs_and_only_it(points: int) -> None:
    rng = np.random.default_rng(1)

    def raised(here: Drawn, method: int) -> Drawn:
        noise = 0.003 * rng.normal(size=3)
        return here + noise + (points / 100 if method == 3 else 0.0)

    found = verdicts(compare(grid(rng, raised)))
    assert {key for key, verdict in found.items() if verdict == DIFFERS} == {"3-0", "3-1", "3-2"}


def test_a_forged_spread_allows_no_more() -> None:
    rng = np.random.default_rng(2)
    forged = compare(grid(rng, lambda here, method: here.mean() + np.array([0.3, 0.05, -0.1])))
    assert set(verdicts(forged).values()) == {DIFFERS}


def test_equal_bits_need_no_spread() -> None:
    found = compare(grid(np.random.default_rng(3), lambda here, method: here.copy()))
    assert set(verdicts(found).values()) == {BIT_EQUAL}


def test_on_a_machine_that_rounds_alike_one_answer_more_is_found() -> None:
    def one_more(here: Drawn, method: int) -> Drawn:
        return here + np.array([1 / SAMPLES, 0, 0]) if method == 4 else here.copy()

    alike = verdicts(compare(grid(np.random.default_rng(4), one_more, processor="ours")))
    assert {key[0] for key, verdict in alike.items() if verdict == DIFFERS} == {"4"}
    elsewhere = verdicts(compare(grid(np.random.default_rng(4), one_more)))
    assert {key[0] for key, verdict in elsewhere.items() if verdict == WITHIN} == {"4"}
    assert DIFFERS not in elsewhere.values()


def test_a_little_on_every_seed_of_a_row_adds_up() -> None:
    rng = np.random.default_rng(5)

    def drawn_anew(here: Drawn, method: int) -> Drawn:
        noise = 0.015 * rng.normal(size=3)
        return here.mean() + noise - noise.mean() + (0.028 if method == 0 else 0.0)

    found = compare(grid(rng, drawn_anew))
    off = {verdict.key: verdict.text for verdict in found if verdict.verdict == DIFFERS}
    assert off.keys() == {"0-0", "0-1", "0-2"}
    assert all(text.startswith("its row: accuracy av") for text in off.values())


def test_where_roundings_part_little_one_point_on_one_record_is_found() -> None:
    rng = np.random.default_rng(7)
    drawn = grid(rng, lambda here, method: here + 0.002 * rng.normal(size=3))
    for network in drawn[4].recorded["result"]["networks"]:
        network["accuracy"]["av"] += 0.012
    assert [verdict.key for verdict in compare(drawn) if verdict.verdict == DIFFERS] == [drawn[4].key]


def test_a_score_that_is_left_out_is_not_within() -> None:
    (one, *_) = grid(np.random.default_rng(6), lambda here, method: here)
    for network in one.recorded["result"]["networks"]:
        network["accuracy"].clear()
    assert compare([one])[0].verdict == DIFFERS
