"""Items after several steps: the same bits under other micro-batches, in class shards and after a resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from avbench.api import Method
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.distill.real import MeanAccumulator

METHODS = {
    "dm": ("dm", {}),
    "avdd": ("avdd", {}),
    "avdd, ω per class": ("avdd", {"omega_per_class": True}),
    "avdd, factor 3": ("avdd", {"factor": 3}),
}


def run(method: Method, start: int = 0, stop: int = 10) -> list[float]:
    return [method.step(k)["loss"] for k in range(start, stop)]


def items(method: Method) -> dict[str, Tensor]:
    return {name: x.detach().clone() for name, x in method.items.items.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert set(one) == set(other)
    for name, x in one.items():
        assert torch.isfinite(x).all() and torch.equal(x, other[name]), name


def build(small, case: str, **context) -> Method:
    name, options = METHODS[case]
    return small.method(name, small.context(**context), **options)


@pytest.mark.parametrize("micro_batch", [1, 7, 22])
@pytest.mark.parametrize("case", METHODS)
def test_micro_batches_change_no_bit(small, case: str, micro_batch: int) -> None:
    whole, cut = build(small, case, micro_batch=1000), build(small, case, micro_batch=micro_batch)
    before = items(whole)
    losses = run(whole), run(cut)
    assert_same(items(whole), items(cut))
    assert losses[0] == losses[1]
    assert not torch.equal(before["a"], items(whole)["a"])


def test_a_hundred_steps_keep_every_bit_where_float32_sums_of_micro_batches_part(
    small, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends(steps: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        methods = [build(small, "dm", micro_batch=micro_batch) for micro_batch in (1000, 7)]
        for method in methods:
            run(method, stop=steps)
        return items(methods[0]), items(methods[1])

    assert_same(*ends(100))
    for module in ("real", "synthetic"):
        monkeypatch.setattr(f"avbench.distill.{module}.MeanAccumulator", NaiveSums)
    one, other = ends(10)
    assert not torch.equal(one["a"], other["a"]) and not torch.equal(one["v"], other["v"])


class NaiveSums(MeanAccumulator):
    """Sums each micro-batch in the precision of the run, then adds it: what the float64 sums are there to prevent."""

    def add(self, name: str, z: Tensor, positions: np.ndarray) -> None:
        total = self._sums.setdefault(name, torch.zeros(self._classes, z.shape[1]))
        for position in sorted(set(positions.tolist())):
            total[position] += z[torch.from_numpy(positions == position)].sum(dim=0)


@pytest.mark.parametrize("shards", [((0, 1), (2, 3)), ((0,), (1,), (2,), (3,))], ids=["halves", "singles"])
@pytest.mark.parametrize("ipc", [1, 2])
@pytest.mark.parametrize("case", METHODS)
def test_class_shards_give_the_bits_of_the_whole(small, case: str, ipc: int, shards: tuple) -> None:
    """At IPC 1 without factor a shard of one class sends a single sample through the networks."""
    whole = build(small, case, ipc=ipc, channels=3)
    run(whole)
    parts = [build(small, case, ipc=ipc, channels=3, classes=classes) for classes in shards]
    for part in parts:
        run(part)
    joined = {name: torch.cat([items(part)[name] for part in parts]) for name in ("a", "v")}
    assert_same(items(whole), joined)
    labels = torch.cat([part.distilled().labels for part in parts])
    assert torch.equal(whole.distilled().labels, labels)


@pytest.mark.parametrize("case", METHODS)
def test_cells_that_share_their_real_side_get_the_bits_of_cells_alone(small, case: str) -> None:
    name, options = METHODS[case]
    context = small.context()
    first = small.method(name, context, **options)
    second = small.method("dm", context, lr=3.0, **options)
    for k in range(5):
        first.step(k)
        second.step(k)
    alone = build(small, case)
    run(alone, stop=5)
    assert_same(items(alone), items(first))
    assert (first.real is second.real) and not torch.equal(items(first)["a"], items(second)["a"])


@pytest.mark.parametrize("k", [0, 1, 4])
@pytest.mark.parametrize("case", METHODS)
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(small, tmp_path: Path, case: str, k: int) -> None:
    whole = build(small, case)
    losses = run(whole, stop=8)
    killed = build(small, case)
    run(killed, stop=k)
    save_checkpoint(tmp_path / "checkpoint", k, killed.state())
    run(killed, start=k, stop=k + 1)  # it went on a little before it died
    done, state = load_checkpoint(tmp_path / "checkpoint")
    resumed = build(small, case)
    resumed.load_state(state)
    assert done == k
    assert run(resumed, start=k, stop=8) == losses[k:]
    assert_same(items(whole), items(resumed))
    assert whole.distilled().content_hash == resumed.distilled().content_hash


def test_momentum_is_part_of_the_state(small, tmp_path: Path) -> None:
    """Without it a resumed run would differ: the test above could not fail otherwise."""
    method = build(small, "dm")
    run(method, stop=3)
    end = items(method)
    fresh = build(small, "dm")
    with torch.no_grad():
        for name, x in fresh.items.items.items():
            x.copy_(end[name])
    run(method, 3, 4)
    run(fresh, 3, 4)
    assert not torch.equal(items(method)["a"], items(fresh)["a"])


def test_the_same_method_twice_gives_the_same_bits_and_another_seed_others(small) -> None:
    one, two, other = (build(small, "avdd", seed=seed) for seed in (0, 0, 1))
    for method in (one, two, other):
        run(method, stop=3)
    assert_same(items(one), items(two))
    assert not torch.equal(items(one)["a"], items(other)["a"])


def test_torch_s_and_numpy_s_global_generators_play_no_part(small) -> None:
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        method = build(small, "avdd")
        run(method, stop=2)
        found.append(items(method))
    assert_same(*found)


def test_steps_leave_the_distilled_set_handed_out_before_alone(small) -> None:
    method = build(small, "dm")
    early = method.distilled()
    before = {name: x.clone() for name, x in early.items.items()}
    run(method, stop=2)
    assert_same(dict(early.items), before)
