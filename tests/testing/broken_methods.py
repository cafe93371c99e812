"""A method that keeps its contract, and for each check one that breaks it."""

from __future__ import annotations

import os
import random
import socket
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avbench.api import Context, LearnedSet, Method, SelectionMethod, Setting, State, option, sourced


@dataclass(frozen=True)
class MeansConfig:
    """Options."""

    rate: float = option(0.5, "how far a step goes")
    steps: int = option(3, "steps")
    noise: float | None = option(None, "noise of a step; none: a hundredth")
    scales: tuple[float, ...] = option((1.0, 0.5), "unused; a tuple survives as text")


class Means(Method):
    """Items that move towards their class means, with momentum and noise."""

    separable = True
    Config = MeansConfig
    config: MeansConfig

    def __init__(self, config: MeansConfig, context: Context) -> None:
        super().__init__(config, context)
        means = context.share(("class means", context.classes), self.class_means)
        self.target = {name: mean.repeat_interleave(self.ipc, dim=0) for name, mean in means.items()}
        self.items = {name: torch.zeros_like(mean) for name, mean in self.target.items()}
        self.velocity: dict[str, Tensor] = {}

    @property
    def ipc(self) -> int:
        return self.context.setting.ipc

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        return sourced("this test", rate=0.25) if setting.ipc > 1 else {}

    @classmethod
    def shares(cls, config: MeansConfig) -> Hashable:
        return "class means"

    def class_means(self) -> dict[str, Tensor]:
        train, modality = self.context.train, self.context.setting.modality
        parts = [train.batch(train.class_rows(cls), modality) for cls in self.context.classes]
        return {name: torch.stack([part[name].mean(dim=0) for part in parts]) for name in modality}

    @property
    def steps(self) -> int:
        return self.config.steps

    def noise(self, name: str, k: int) -> Tensor:
        drawn = [
            self.context.streams(f"noise {name}", step=k, cls=cls).standard_normal((1, *self.items[name].shape[1:]))
            for cls in self.context.classes
        ]
        noise = torch.from_numpy(np.concatenate(drawn)).to(self.context.device, self.context.dtype)
        return noise.repeat_interleave(self.ipc, dim=0)

    def step(self, k: int) -> Mapping[str, float]:
        for name, x in self.items.items():
            pull = self.config.rate * (self.target[name] - x) + (self.config.noise or 0.01) * self.noise(name, k)
            self.velocity[name] = pull + 0.5 * self.velocity.get(name, torch.zeros_like(x))
            self.items[name] = x + self.velocity[name]
        return {"size": float(sum(x.abs().sum() for x in self.items.values()))}

    def distilled(self) -> LearnedSet:
        setting = self.context.setting
        return LearnedSet(setting.dataset, setting.modality, self.context.labels, dict(self.items))

    def state(self) -> State:
        return {"items": dict(self.items), "velocity": dict(self.velocity)}

    def load_state(self, state: State) -> None:
        self.items, self.velocity = dict(state["items"]), dict(state["velocity"])


class Undocumented(Means):
    pass


@dataclass(frozen=True)
class SilentConfig(MeansConfig):
    """Options."""

    speed: float = 1.0


class Silent(Means):
    """An option without a word on it."""

    Config = SilentConfig


@dataclass(frozen=True)
class IllTypedConfig(MeansConfig):
    """Options."""

    power: int = option(1.5, "a number")  # type: ignore[assignment]


class IllTyped(Means):
    """A default that is not of its type."""

    Config = IllTypedConfig


class Unsourced(Means):
    """A published value from nowhere."""

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        return {"rate": 0.2}


class Misnamed(Means):
    """A published value of an option that is not there."""

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        return sourced("a paper", lr=0.2)


class OneSize(Means):
    """Made for one size of frames."""

    def class_means(self) -> dict[str, Tensor]:
        found = super().class_means()
        return {name: mean.view(-1, 1, 16, 24 if name == "a" else 16) for name, mean in found.items()}


class BadNotes(Means):
    """Notes that no JSON can hold."""

    def distilled(self) -> LearnedSet:
        return replace(super().distilled(), notes=(b"note",))


class TerseSet(LearnedSet):
    """A set that does not say how many items it has."""

    def describe(self) -> dict[str, Any]:
        return {name: value for name, value in super().describe().items() if name != "items"}


class Terse(Means):
    """A set of its own kind, of which the runner can make no record."""

    def distilled(self) -> LearnedSet:
        found = super().distilled()
        return TerseSet(found.dataset, found.modality, found.labels, found.items)


class Champion(Means):
    """A role that boards do not know."""

    role = "champion"  # type: ignore[assignment]


class ByMicroBatch(Means):
    """The result depends on what is sent through at once."""

    def step(self, k: int) -> Mapping[str, float]:
        self.items = {name: x + 1e-3 * self.context.micro_batch for name, x in self.items.items()}
        return {}


class Generous(Means):
    """One item a class too many."""

    @property
    def ipc(self) -> int:
        return self.context.setting.ipc + 1


class Packed(Means):
    """A factor that is none."""

    def distilled(self) -> LearnedSet:
        return replace(super().distilled(), factor=0)


class Shuffled(Means):
    """Labels that are not class after class."""

    def distilled(self) -> LearnedSet:
        return replace(super().distilled(), labels=self.context.labels.flip(0))


class Twice(SelectionMethod):
    """The same row again and again."""

    def select(self, cls: int, count: int) -> Sequence[int]:
        return [int(self.context.train.class_rows(cls)[0])] * count


class Double(Means):
    """Items in another precision than asked for."""

    def distilled(self) -> LearnedSet:
        found = super().distilled()
        return replace(found, items={name: x.double() for name, x in found.items.items()})


class Exploding(Means):
    """A value that is not finite."""

    def distilled(self) -> LearnedSet:
        found = super().distilled()
        return replace(found, items={name: x / 0 for name, x in found.items.items()})


class NanLoss(Means):
    """A metric that is not finite."""

    def step(self, k: int) -> Mapping[str, float]:
        super().step(k)
        return {"loss": float("nan")}


class HalfLoaded(Means):
    """A state that replaces only what is not there yet."""

    def load_state(self, state: State) -> None:
        self.items = dict(state["items"])
        self.velocity = self.velocity or dict(state["velocity"])


class Unstorable(Means):
    """A state that a checkpoint can't hold."""

    def state(self) -> State:
        return {**super().state(), "rng": np.random.default_rng(0)}


class Forgetful(Means):
    """A state without the momentum."""

    def state(self) -> State:
        return {"items": dict(self.items)}

    def load_state(self, state: State) -> None:
        self.items = dict(state["items"])


class Centred(Means):
    """Says that it is separable, and centres over all classes."""

    def class_means(self) -> dict[str, Tensor]:
        return {name: mean - mean.mean(dim=0) for name, mean in super().class_means().items()}


class OneStream(Means):
    """Says that it is separable, and draws the noise of all classes from one stream."""

    def noise(self, name: str, k: int) -> Tensor:
        shape = (len(self.context.classes), *self.items[name].shape[1:])
        drawn = self.context.streams(f"noise {name}", step=k).standard_normal(shape)
        noise = torch.from_numpy(drawn).to(self.context.device, self.context.dtype)
        return noise.repeat_interleave(self.ipc, dim=0)


class Averaging(Means):
    """Says that it is separable, and logs means over its classes."""

    def step(self, k: int) -> Mapping[str, float]:
        return {name: value / len(self.context.classes) for name, value in super().step(k).items()}


class CommonStep(Means):
    """Says that it is separable, and learns one step size for all classes."""

    def distilled(self) -> LearnedSet:
        return replace(super().distilled(), step_size=dict.fromkeys(self.items, 0.1))


class Joint(Centred):
    """Centres over all classes, and says so."""

    separable = False


class Greedy(Means):
    """Shares under one key what depends on the IPC."""

    def __init__(self, config: MeansConfig, context: Context) -> None:
        super().__init__(config, context)
        scale = context.share("scale", lambda: context.setting.ipc)
        self.target = {name: scale * mean for name, mean in self.target.items()}


class Whimsical(Means):
    """Draws from the system."""

    def noise(self, name: str, k: int) -> Tensor:
        return super().noise(name, k) * (1 + int.from_bytes(os.urandom(4), "little"))


class Global(Means):
    """Draws from the generator that everything shares."""

    def noise(self, name: str, k: int) -> Tensor:
        return torch.randn_like(self.items[name])


class Seeding(Means):
    """Seeds the generators that everything shares."""

    def step(self, k: int) -> Mapping[str, float]:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)
        return super().step(k)


class Writing(Means):
    """Keeps a diary."""

    def step(self, k: int) -> Mapping[str, float]:
        Path("diary.txt").write_text(f"step {k}", encoding="utf-8")
        return super().step(k)


class Saving(Means):
    """Saves by native code, which tells Python nothing."""

    def step(self, k: int) -> Mapping[str, float]:
        torch.save(self.items, "items.pt")
        return super().step(k)


class Scratching(Means):
    """Uses a temporary folder and removes it: no fault."""

    def step(self, k: int) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as folder:
            torch.save(self.items, Path(folder) / "items.pt")
            (Path(folder) / "deeper").mkdir()
        return super().step(k)


class Calling(Means):
    """Calls home."""

    def step(self, k: int) -> Mapping[str, float]:
        with socket.socket() as connection:
            connection.settimeout(0.1)
            connection.connect_ex(("127.0.0.1", 9))
        return super().step(k)


class Chatty(Means):
    """Prints."""

    def step(self, k: int) -> Mapping[str, float]:
        print(f"step {k} done")
        return super().step(k)


class Meddling(Means):
    """Changes what everything in the process shares."""

    def step(self, k: int) -> Mapping[str, float]:
        torch.set_default_dtype(torch.float64)
        np.seterr(all="ignore")
        return super().step(k)


class Peeking(Means):
    """Looks at the test split beside the training split."""

    def step(self, k: int) -> Mapping[str, float]:
        train = Path(self.context.train._arrays["a"].filename)
        peeked = np.load(train.parent.parent / "test" / "audio.npy")
        self.items = {name: x + float(peeked.mean()) for name, x in self.items.items()}
        return {}


class Raising(Means):
    """Raises what is no error of ours."""

    def step(self, k: int) -> Mapping[str, float]:
        raise KeyError("loss")


class Leaving(Means):
    """Exits instead of raising."""

    def step(self, k: int) -> Mapping[str, float]:
        raise SystemExit(3)


class NoSet(Means):
    """Gives something else."""

    def distilled(self) -> Any:
        return dict(self.items)


#: By the check that must catch it, first, all the checks that fail.
BROKEN: list[tuple[type[Method], tuple[str, ...], str]] = [
    (Undocumented, ("declared",), "docstring"),
    (Silent, ("options",), "'speed'"),
    (IllTyped, ("options", "runs"), "'power'"),
    (Unsourced, ("defaults",), "source"),
    (Misnamed, ("defaults", "runs"), "'lr'"),
    (OneSize, ("runs",), "unlike"),
    (Raising, ("runs",), "KeyError"),
    (Leaving, ("runs",), "SystemExit"),
    (NoSet, ("runs",), "DistilledSet"),
    (BadNotes, ("saved-set",), "JSON"),
    (Terse, ("grid",), "items"),
    (Champion, ("declarations",), "'champion'"),
    (ByMicroBatch, ("precision",), "micro-batches"),
    (Generous, ("budget",), "9 items"),
    (Packed, ("budget",), "factor"),
    (Shuffled, ("labels",), "context.labels"),
    (Twice, ("labels",), "distinct"),
    (Double, ("shapes",), "float64"),
    (Exploding, ("finite",), "not"),
    (NanLoss, ("finite",), "'loss'"),
    (HalfLoaded, ("state",), "load_state() must replace all of it"),
    (Unstorable, ("state", "resume"), "Generator"),
    (Forgetful, ("resume", "state"), "interruption before step"),
    (Centred, ("class-shards",), "apart"),
    (OneStream, ("class-shards",), "apart"),
    (Averaging, ("class-shards",), "a sum over classes"),
    (CommonStep, ("class-shards",), "can put together"),
    (Greedy, ("sharing",), "lock-step"),
    (Whimsical, ("repeatable",), "one seed"),
    (Global, ("global-random-state",), "shared generators"),
    (Seeding, ("global-random-state",), "numpy.random, random, torch"),
    (Writing, ("files",), "diary.txt"),
    (Saving, ("files",), "items.pt"),
    (Calling, ("files",), "9"),
    (Chatty, ("stdout",), "step 0 done"),
    (Meddling, ("settings",), "default dtype"),
    (Peeking, ("test-data",), "test/audio.npy"),
]
