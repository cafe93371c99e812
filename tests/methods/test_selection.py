"""Methods that select, and what the matching methods refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avbench.api import Augmentation, SelectedSet, Setting, TrainedNetwork
from avbench.errors import RequestError
from avbench.options import resolve
from avbench_methods.avdd import AudioVisualDistillation, AVDDConfig
from avbench_methods.dm import DistributionMatching, DMConfig
from avbench_methods.herding import Herding, HerdingConfig
from avbench_methods.random import RandomSelection
from avbench_methods.whole import Whole


@pytest.fixture(params=["random", "herding"])
def select(request: pytest.FixtureRequest):  # type: ignore[no-untyped-def]
    if request.param == "random":
        return lambda context: RandomSelection(None, context).distilled()
    return lambda context: Herding(HerdingConfig(features="random"), context).distilled()


def test_a_selection_has_ipc_distinct_samples_of_each_class(small, select) -> None:
    found = select(small.context(ipc=5))
    assert isinstance(found, SelectedSet)
    assert found.labels.tolist() == [c for c in range(4) for _ in range(5)]
    assert len(set(found.rows.tolist())) == 20
    train = small.context().train
    assert torch.equal(train.labels[found.rows], found.labels)


def test_a_selection_s_shards_join_to_the_whole(small, select) -> None:
    whole = select(small.context(ipc=3))
    parts = [select(small.context(ipc=3, classes=classes)) for classes in ((0, 1), (2, 3))]
    assert torch.equal(torch.cat([p.rows for p in parts]), whole.rows)


def test_a_larger_selection_contains_the_smaller(small, select) -> None:
    few, many = select(small.context(ipc=2)).rows, select(small.context(ipc=4)).rows
    assert torch.equal(many.view(4, 4)[:, :2], few.view(4, 2))


def test_whole_takes_every_training_sample_whatever_the_ipc(small) -> None:
    for ipc in (0, 1):
        found = Whole(None, small.context(ipc=ipc)).distilled()
        assert found.rows.tolist() == list(range(36))
        assert found.labels.tolist() == [c for c, n in enumerate(small.COUNTS["train"]) for _ in range(n)]


def test_random_and_dm_start_from_the_same_samples(small) -> None:
    context = small.context(ipc=2)
    chosen = RandomSelection(None, context).distilled()
    items = small.method("dm", context).distilled().items
    assert torch.equal(context.train.batch(chosen.rows.numpy(), "a")["a"], items["a"])


@pytest.mark.parametrize(("init", "factor", "needed"), [("random", 1, False), ("herding", 2, True)])
def test_what_dm_and_avdd_require(small, init: str, factor: int, needed: bool) -> None:
    setting = small.context().setting
    config = DMConfig(init=init, factor=factor)
    assert DistributionMatching.requires(config, setting) == ({"features": TrainedNetwork()} if needed else {})
    assert AudioVisualDistillation.requires(AVDDConfig(), setting) == {"features": TrainedNetwork()}
    assert Herding.requires(HerdingConfig(), setting) == {"features": TrainedNetwork()}


@pytest.mark.parametrize("options", [{}, {"base": 0.0, "cgm": 0.0}, {"icm": 0.0, "cgm": 0.0, "scmm": 1.0}])
@pytest.mark.parametrize("modality", ["a", "v"])
def test_joint_losses_refuse_one_modality(small, modality: str, options: dict) -> None:
    setting = replace(small.context().setting, modality=modality)
    with pytest.raises(RequestError, match="joint losses need both modalities"):
        AudioVisualDistillation.check(AVDDConfig(**options), setting)
    AudioVisualDistillation.check(AVDDConfig(icm=0.0, cgm=0.0), setting)
    DistributionMatching.check(DMConfig(), setting)


def test_noise_has_nothing_to_pack(small) -> None:
    setting = small.context().setting
    with pytest.raises(RequestError, match="init = noise"):
        DistributionMatching.check(DMConfig(init="noise", factor=2), setting)
    with pytest.raises(RequestError, match="factor = 17"):
        DistributionMatching.check(DMConfig(factor=17), setting)


def test_published_defaults(small) -> None:
    info = small.stores[1].info
    for ipc, lam in ((1, 10.0), (10, 10.0), (20, 20.0)):
        setting = Setting(info, ipc, "av", "paper")
        found = resolve(AVDDConfig, "avdd", [(AudioVisualDistillation.defaults(setting), "published")])
        assert (found.config.icm, found.config.cgm) == (lam, lam)
        assert found.origins["icm"] == "AVDD, appendix C"
    config = AVDDConfig()
    assert (config.steps, config.lr, config.momentum, config.batch_real) == (5000, 0.2, 0.5, 128)
    assert (config.init, config.factor, config.base) == ("herding", 2, 1.0)
    assert set(Augmentation(config.augment).ops) == {"color", "crop", "cutout", "flip", "scale", "rotate"}
    plain = DMConfig()
    assert (plain.lr, plain.batch_real, plain.steps, plain.init, plain.factor) == (0.2, 128, 5000, "random", 1)


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0}, {"lr_audio": -1.0}, {"steps": -1}, {"batch_real": 0}, {"factor": 0},
        {"momentum": 1.0}, {"momentum": -0.1}, {"augment": "flap"}, {"init": "herd"},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_options_are_refused(options: dict) -> None:
    with pytest.raises(RequestError):
        resolve(DMConfig, "dm", [(options, "test")])


def test_zero_steps_leave_the_initialisation(small) -> None:
    method = small.method("dm", small.context(), steps=0)
    assert method.steps == 0
    assert method.distilled().content_hash == small.method("dm", small.context()).distilled().content_hash


def test_a_learned_set_says_that_its_start_wrapped_around(small) -> None:
    assert small.method("dm", small.context(ipc=2), factor=2).distilled().notes == (
        "initialisation wrapped around in: cat",
    )
