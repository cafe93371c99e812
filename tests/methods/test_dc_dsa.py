"""`dc` and `dsa` against a plain reading of DC's Algorithm 1: everything in one graph, torch's own optimisers.

The reading shares the drawn weights, batches, transforms and orders with the product, and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avbench.api import Augmentation, Context, Setting, TrainedNetwork, decode
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.errors import RequestError
from avbench.options import resolve
from avbench_methods.dc import LOOPS, DatasetCondensation, DCConfig
from avbench_methods.dsa import DSAConfig, SiameseCondensation

F64 = torch.float64
METHODS = {"dc": DatasetCondensation, "dsa": SiameseCondensation}
LOOPED = {"outer": 2, "inner": 2, "batch_train": 5, "batch_real": 6, "features": "random"}


def build(name: str, context: Context, **options: Any) -> DatasetCondensation:
    cls = METHODS[name]
    layers = [(cls.defaults(context.setting), "published"), ({**LOOPED, **options}, "test")]
    config = resolve(cls.Config, name, layers).config
    cls.check(config, context.setting)
    return cls(config, context)


def published_distance(synthetic: list[Tensor], real: list[Tensor]) -> Tensor:
    total = torch.zeros((), dtype=F64)
    for s, r in zip(synthetic, real, strict=True):
        if s.dim() > 1:
            rows = zip(s.flatten(1), r.flatten(1), strict=True)
            total = total + sum(1 - (a @ b) / (a.norm() * b.norm() + 1e-6) for a, b in rows)
    return total


class Reading:
    """DC's Algorithm 1 for one modality (DSA: with A_ω), class losses summed before one backward."""

    def __init__(self, method: DatasetCondensation, name: str) -> None:
        self.method, self.name = method, name
        self.items = method.items.items[name].detach().clone().requires_grad_(True)
        rate = method.config.rates()[name]
        self.optimiser = torch.optim.SGD([self.items], lr=rate, momentum=method.config.momentum)

    def iteration(self, k: int) -> float:
        c, network = self.method.config, self.method.networks[self.name]
        # Parameters of its own: a copy of the module, trained by torch.
        network.draw(self.method.context.streams, "matching network", k)
        own = torch.optim.SGD(network.parameters(), lr=c.lr_net)
        total = 0.0
        for outer in range(c.outer):
            loss = self.distance(network, k, outer)
            self.optimiser.zero_grad()
            loss.backward()
            self.optimiser.step()
            total += float(loss.detach())
            if outer + 1 < c.outer:
                for inner in range(c.inner):
                    self.train(network, own, self.method.draws.epoch(k, outer, inner))
        return total / (c.outer * len(self.method.context.classes))

    def gradient(self, network: nn.Module, x: Tensor, cls: int, graph: bool) -> list[Tensor]:
        loss = F.cross_entropy(network(x), torch.full((len(x),), cls))
        return list(torch.autograd.grad(loss, list(network.parameters()), create_graph=graph))

    def distance(self, network: nn.Module, k: int, outer: int) -> Tensor:
        context, ipc = self.method.context, self.method.context.setting.ipc
        loss = torch.zeros((), dtype=F64)
        for position, cls in enumerate(context.classes):
            omega = self.method.draws.siamese(k, outer, cls)
            rows = self.method.draws.real_rows(k, outer, cls)
            real = self.gradient(network, omega(context.train.batch(rows, self.name)[self.name]), cls, graph=False)
            mine = decode(self.items[position * ipc : (position + 1) * ipc], self.method.config.factor)
            loss = loss + published_distance(self.gradient(network, omega(mine), cls, graph=True), real)
        return loss

    def train(self, network: nn.Module, optimiser: torch.optim.SGD, rng: np.random.Generator) -> None:
        c = self.method.config
        samples = decode(self.items.detach(), c.factor)
        labels = self.method.context.labels.repeat_interleave(c.factor**2)
        order = rng.permutation(len(samples))
        for start in range(0, len(order), c.batch_train):
            rows = torch.from_numpy(order[start : start + c.batch_train])
            transform = Augmentation(c.augment).per_sample(rng, len(rows))
            optimiser.zero_grad()
            F.cross_entropy(network(transform(samples[rows])), labels[rows]).backward()
            optimiser.step()


CASES = {
    "dc": ("dc", {"outer": 3}, {}),
    "dc, published loops of IPC 1": ("dc", {"outer": 1, "inner": 1}, {}),
    "dc, real start, colour": ("dc", {"init": "random"}, {"channels": 3}),
    "dc, small micro-batches": ("dc", {}, {"micro_batch": 3}),
    "dc, no inner epochs": ("dc", {"inner": 0}, {}),
    "dsa": ("dsa", {}, {}),
    "dsa, colour, small micro-batches": ("dsa", {}, {"channels": 3, "micro_batch": 3}),
    "dsa, one ω for all classes": ("dsa", {"omega_per_class": False}, {}),
    "dsa, herding and factor 2": ("dsa", {"init": "herding", "factor": 2}, {"ipc": 1}),
    "dsa, factor 3 that does not divide": ("dsa", {"factor": 3, "inner": 1}, {"ipc": 1, "micro_batch": 10}),
    "dsa, audio alone": ("dsa", {}, {"modality": "a"}),
}


@pytest.mark.parametrize("case", CASES)
def test_iterations_are_those_of_algorithm_1(small, case: str) -> None:
    name, options, context = CASES[case]
    method = build(name, small.context(dtype=F64, **context), **options)
    readings = {m: Reading(build(name, small.context(dtype=F64, **context), **options), m) for m in method.networks}
    before = {m: x.detach().clone() for m, x in method.items.items.items()}
    for k in range(2 if case in METHODS else 1):  # two: momentum crosses iterations
        loss = sum(reading.iteration(k) for reading in readings.values())
        assert method.step(k)["loss"] == pytest.approx(loss, rel=1e-10)
    for m, reading in readings.items():
        moved = float((reading.items - before[m]).detach().abs().max())
        assert moved > 0
        assert float((method.items.items[m] - reading.items).detach().abs().max()) <= 1e-10 * moved


@pytest.mark.parametrize("name", METHODS)
def test_both_modalities_together_are_each_alone_to_the_bit(small, name: str) -> None:
    both = build(name, small.context())
    both.step(0)
    for modality in "av":
        alone = build(name, small.context(modality=modality))
        alone.step(0)
        assert torch.equal(both.items.items[modality], alone.items.items[modality])


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_has_the_bits_of_an_uninterrupted_one(small, tmp_path: Path, name: str) -> None:
    whole, killed = build(name, small.context()), build(name, small.context())
    losses = [whole.step(k)["loss"] for k in range(3)]
    killed.step(0)
    save_checkpoint(tmp_path / "checkpoint", 1, killed.state())
    killed.step(1)  # it went on a little before it died
    done, state = load_checkpoint(tmp_path / "checkpoint")
    resumed = build(name, small.context())
    resumed.load_state(state)
    assert [resumed.step(k)["loss"] for k in range(done, 3)] == losses[1:]
    assert resumed.distilled().content_hash == whole.distilled().content_hash


@pytest.mark.parametrize("name", METHODS)
def test_classes_are_separable_without_a_second_outer_step_and_coupled_with_one(small, name: str) -> None:
    for outer, same in ((1, True), (2, False)):
        whole = build(name, small.context(dtype=F64), outer=outer)
        shard = build(name, small.context(dtype=F64, classes=(1, 2)), outer=outer)
        whole.step(0)
        shard.step(0)
        close = torch.allclose(whole.items.items["a"][2:6], shard.items.items["a"], rtol=1e-12, atol=1e-14)
        assert close is same


@pytest.mark.parametrize("name", METHODS)
def test_at_one_network_and_batch_the_items_come_nearer_to_the_real_gradients(small, name: str) -> None:
    method = build(name, small.context(), outer=1, init="noise", lr=1.0)
    losses = [method.step(0)["loss"] for _ in range(12)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("name", METHODS)
def test_the_published_settings_are_the_defaults(small, name: str) -> None:
    info = small.stores[1].info
    for ipc, loops in {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}.items():
        defaults = METHODS[name].defaults(Setting(info, ipc, "av", "paper"))
        found = resolve(METHODS[name].Config, name, [(defaults, "published")])
        assert (found.config.outer, found.config.inner) == loops == LOOPS[ipc]
        assert found.origins["outer"] == "DC's code"
    c = found.config
    assert (c.steps, c.lr, c.momentum, c.lr_net, c.batch_real, c.batch_train) == (1000, 0.1, 0.5, 0.01, 256, 256)
    assert (c.init, c.factor) == (("noise", 1) if name == "dc" else ("random", 1))
    assert len(Augmentation(c.augment).ops) == (0 if name == "dc" else 6)
    assert c.omega_per_class


@pytest.mark.parametrize(("ipc", "nearest"), [(2, 1), (9, 1), (11, 10), (45, 40), (100, 50)])
def test_another_ipc_has_the_loops_of_the_nearest_lower_published_one(small, ipc: int, nearest: int) -> None:
    defaults = DatasetCondensation.defaults(Setting(small.stores[1].info, ipc, "av", "paper"))
    assert (defaults["outer"].value, defaults["inner"].value) == LOOPS[nearest]
    assert defaults["outer"].source == f"DC's code for IPC {nearest}, the nearest lower one published"


@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.0}, {"lr_audio": 0.0}, {"lr_visual": -1.0}, {"lr_net": 0.0}, {"steps": -1}, {"outer": 0},
        {"inner": -1}, {"batch_real": 0}, {"batch_train": 0}, {"factor": 0}, {"momentum": 1.0}, {"augment": "flap"},
        {"init": "herd"}, {"lr": "nan"}, {"lr_net": "inf"},
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("config", [DCConfig, DSAConfig])
def test_impossible_options_are_refused(config: type, options: dict) -> None:
    with pytest.raises(RequestError):
        resolve(config, "dc", [(options, "test")])


@pytest.mark.parametrize("rate", [math.nan, math.inf])
def test_a_rate_that_is_no_number_is_refused_from_python_too(rate: float) -> None:
    with pytest.raises(ValueError, match="positive and finite"):
        DCConfig(lr=rate)


def test_what_cannot_work_in_a_setting_is_refused_before_anything_runs(small) -> None:
    setting = small.context().setting
    with pytest.raises(RequestError, match="init = noise fills whole items"):
        DatasetCondensation.check(DCConfig(factor=2), setting)
    with pytest.raises(RequestError, match="factor = 17"):
        SiameseCondensation.check(DSAConfig(factor=17), setting)
    many = replace(setting, ipc=6)  # the class "cat" has 5 samples
    for init in ("random", "herding"):
        with pytest.raises(RequestError, match="the smallest class of 'small1' has 5 samples"):
            DatasetCondensation.check(DCConfig(init=init), many)
    DatasetCondensation.check(DCConfig(init="noise"), many)
    DatasetCondensation.check(DCConfig(init="random", factor=2), replace(setting, ipc=5))


def test_a_start_that_uses_samples_again_is_noted(small) -> None:
    found = build("dsa", small.context(ipc=2), factor=2).distilled()
    assert found.notes == ("initialisation wrapped around in: cat",)
    assert build("dsa", small.context(ipc=2)).distilled().notes == ()


@pytest.mark.parametrize(
    ("init", "needed"), [("noise", {}), ("random", {}), ("herding", {"features": TrainedNetwork()})]
)
def test_herding_needs_a_trained_network_and_nothing_else_does(small, init: str, needed: dict) -> None:
    assert DatasetCondensation.requires(DCConfig(init=init), small.context().setting) == needed


@pytest.mark.parametrize(("ipc", "steps"), [(1, 80), (9, 80), (10, 16), (20, 16)])
def test_the_quick_preset_sets_sizes_and_says_so(small, ipc: int, steps: int) -> None:
    setting = replace(small.context().setting, ipc=ipc, preset="quick")
    found = resolve(DCConfig, "dc", [(DatasetCondensation.defaults(setting), "published")])
    assert (found.config.steps, found.config.batch_real, found.config.init) == (steps, 16, "random")
    assert found.origins["steps"] == found.origins["init"] == "preset quick"
    assert found.config.lr == 0.1 and found.origins["lr"] == "class default"


def test_dsa_without_augmentation_from_noise_is_dc(small) -> None:
    one, other = build("dc", small.context()), build("dsa", small.context(), augment="none", init="noise")
    assert one.step(0) == other.step(0)
    assert one.distilled().content_hash == other.distilled().content_hash
