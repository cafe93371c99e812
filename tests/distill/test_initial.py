"""What synthetic items start from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from avbench.api import decode, herding_rows, initial_items, pack, random_rows, required_for
from avbench.distill.herding import herd
from avbench.prerequisite import TrainedNetwork


def rows_of(small, cls: int) -> set[int]:
    offsets = np.cumsum([0, *small.COUNTS["train"]])
    return set(range(offsets[cls], offsets[cls + 1]))


@pytest.mark.parametrize("cls", range(4))
def test_random_rows_are_distinct_rows_of_the_class(small, cls: int) -> None:
    rows = random_rows(small.context(), cls, 5)
    assert len(set(rows)) == 5 and set(rows) <= rows_of(small, cls)


def test_a_smaller_ipc_takes_a_prefix_of_a_larger_one(small) -> None:
    context = small.context()
    assert random_rows(context, 1, 12)[:4] == random_rows(context, 1, 4)
    assert herding_rows(context, 1, 12, "random")[:4] == herding_rows(context, 1, 4, "random")


def test_random_rows_change_with_the_seed(small) -> None:
    assert random_rows(small.context(seed=0), 1, 6) != random_rows(small.context(seed=1), 1, 6)


@pytest.mark.parametrize("rows", [random_rows, lambda c, cls, n: herding_rows(c, cls, n, "random")])
def test_a_class_that_is_too_small_starts_over(small, rows) -> None:
    found = rows(small.context(), 2, 12)
    assert set(found) == rows_of(small, 2)
    assert found[5:10] == found[:5] and found[10:] == found[:2]


def test_herding_embeds_both_modalities_without_augmentation(small) -> None:
    context = small.context()
    encoders = {name: context.architecture.build(context.setting.dataset, name) for name in "av"}
    for name, encoder in encoders.items():
        context.architecture.draw(encoder, context.streams(f"herding network {name}"))
    rows = context.train.class_rows(1)
    batch = context.train.batch(rows, "av")
    features = torch.cat([encoders["a"](batch["a"]), encoders["v"](batch["v"])], dim=1).detach()
    assert herding_rows(context, 1, 12, "random") == [int(rows[i]) for i in herd(features, 12)]


def test_herding_on_trained_features_uses_the_prerequisite_s_weights(small) -> None:
    context = small.context()
    info, architecture = context.setting.dataset, context.architecture
    weights = {}
    for name in "av":
        encoder = architecture.build(info, name)
        architecture.draw(encoder, context.streams(f"herding network {name}"))
        weights |= {f"{name}.{key}": t for key, t in encoder.state_dict().items()}
    given = replace(context, prerequisites={"features": {**weights, "head.x": torch.zeros(1)}}, shared={})
    assert herding_rows(given, 0, 9, "trained") == herding_rows(context, 0, 9, "random")
    other = {key: t + 0.3 * torch.randn(t.shape) for key, t in weights.items()}
    moved = replace(context, prerequisites={"features": other}, shared={})
    assert herding_rows(moved, 1, 12, "trained") != herding_rows(context, 1, 12, "random")


@pytest.mark.parametrize("micro_batch", [1, 5, 100])
def test_herding_does_not_depend_on_the_micro_batch(small, micro_batch: int) -> None:
    assert herding_rows(small.context(micro_batch=micro_batch), 1, 12, "random") == herding_rows(
        small.context(), 1, 12, "random"
    )


def test_the_network_is_required_only_by_herding_on_trained_features() -> None:
    assert required_for("herding", "trained") == {"features": TrainedNetwork()}
    for init, features in (("herding", "random"), ("random", "trained"), ("noise", "trained")):
        assert required_for(init, features) == {}


@pytest.mark.parametrize("factor", [1, 2])
@pytest.mark.parametrize("init", ["random", "herding"])
def test_items_are_packed_from_consecutive_rows_class_by_class(small, init: str, factor: int) -> None:
    context = small.context(channels=3)
    items, _ = initial_items(context, init, "random", factor)
    pick = random_rows if init == "random" else lambda c, cls, n: herding_rows(c, cls, n, "random")
    for cls in range(4):
        rows = np.array(pick(context, cls, 2 * factor**2))
        for name, x in context.train.batch(rows, "av").items():
            assert torch.equal(items[name][2 * cls : 2 * cls + 2], pack(x, factor))
            assert decode(items[name], factor).shape[0] == 8 * factor**2


def test_a_note_says_which_classes_wrapped_around(small) -> None:
    _, notes = initial_items(small.context(ipc=2), "random", "random", 2)
    assert notes == ("initialisation wrapped around in: cat",)
    assert initial_items(small.context(ipc=1), "random", "random", 2)[1] == ()


def test_noise_is_standard_normal_and_a_class_s_own(small) -> None:
    items, notes = initial_items(small.context(ipc=40), "noise", "random", 1)
    assert notes == () and items["a"].shape == (160, 1, 16, 24) and items["v"].shape == (160, 1, 16, 16)
    for x in items.values():
        assert abs(float(x.mean())) < 0.02 and abs(float(x.std()) - 1) < 0.02
    shard, _ = initial_items(small.context(ipc=40, classes=(2, 3)), "noise", "random", 1)
    assert torch.equal(shard["a"], items["a"][80:])
    assert not torch.equal(items["a"][:40], items["a"][40:80])
