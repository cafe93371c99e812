"""A method on trial: driven in scenes by the runner's own code, each outcome remembered for the checks to come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.configure import reconstruct
from avbench.distilled import DistilledSet, LearnedSet
from avbench.errors import RequestError
from avbench.grid import MODALITIES, Planned
from avbench.method import Method
from avbench.testing.bench import Scene, StoppingDesk
from avbench.testing.observing import Outcome
from avbench.testing.registry import Failure, NotChecked
from avbench.testing.stores import PLAIN, UNLIKE
from avbench.testing.subject import Subject
from avbench.testing.watching import GlobalRandomness, unwatched
from avbench.work import State

#: A method is driven this far: what breaks a promise mostly does so at once, and published runs take thousands.
STEPS = 4
#: Seeds the shared generators where a method is driven again.
_ANOTHER = 3


@dataclass(frozen=True)
class Made:
    """What a method gave in a scene.

    Attributes:
        metrics: what each step returned.
    """

    set: DistilledSet
    metrics: tuple[Mapping[str, float], ...]
    planned: Planned
    device: torch.device
    dtype: torch.dtype


class Trial(Subject):
    """A method under check. Its steps are cut to the first few, and nothing else about it is changed."""

    @cached_property
    def lends(self) -> Any:
        target: Any = self.target

        def steps(method: Any) -> int:
            whole: int = getattr(super(short, method), "steps")  # noqa: B009 - mypy knows no base of `short`
            return min(whole, STEPS)

        about = {"steps": property(steps), "__module__": target.__module__, "__doc__": target.__doc__}
        short: Any = type(target.__name__, (target,), about)
        return short

    def planned(self, scene: Scene) -> Planned:
        """The cell of a scene.

        Raises:
            RequestError: the method refuses this setting.
        """
        return self.bench.planned(scene, {"method": self.variant})

    @cached_property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the method does not refuse, the pair first.

        Raises:
            Failure: it refuses all of them.
        """
        reasons = {}
        for modality in reversed(MODALITIES):
            try:
                self.planned(Scene(modality=modality))
            except RequestError as error:
                reasons[modality] = str(error)
        found = tuple(modality for modality in reversed(MODALITIES) if modality not in reasons)
        if not found:
            told = "; ".join(f"{modality}: {reason}" for modality, reason in reasons.items())
            raise Failure(
                "a setting in which the method works", f"it refuses every modality ({told})", "Correct its check()."
            )
        return found

    @property
    def scene(self) -> Scene:
        """Where most checks are made."""
        return Scene(modality=self._modalities()[0])

    @property
    def scenes(self) -> list[Scene]:
        """Several stores, IPCs and modalities: what assumes a size or a count fails in one of them."""
        first, *others = self._modalities()
        return [
            Scene(modality=first),
            Scene(modality=first, store=UNLIKE, ipc=3),
            Scene(modality=first, store=UNLIKE, ipc=1),
            *(Scene(modality=each, store=UNLIKE) for each in others),
        ]

    def _modalities(self) -> tuple[str, ...]:
        try:
            return self.modalities
        except Failure:
            raise NotChecked("it works nowhere: see the check 'runs'") from None

    def build(self, desk: StoppingDesk, planned: Planned, classes: Sequence[int] | None = None) -> Method:
        """The method of a cell, as the worker makes it."""
        configured = reconstruct("methods", planned.cell.method)
        method: Method = configured.target(configured.config, self.bench.context(desk, planned, classes))
        return method

    def start(self, scene: Scene, classes: Sequence[int] | None = None, out: Path | None = None) -> Method:
        """The method in a scene, with all that it requires, before its first step.

        Args:
            classes: a shard.
            out: a run directory of its own; by default what it requires is taken from what earlier checks built.
        """
        planned = self.planned(scene)
        desk = self.bench.desk(scene, out or self.bench.runs)
        with unwatched():  # the runner maps all splits of a store, and gives the method one
            desk.train_set(planned.cell)
        self.bench.require(desk, planned)
        return self.build(desk, planned, classes)

    def exercise(self, data: str = "data") -> Outcome:
        made = self.drive(at(self.scene, data=data), out=self.bench.new_folder("runs"))
        return tensors_of(made.set)

    def drive(self, scene: Scene, classes: Sequence[int] | None = None, out: Path | None = None) -> Made:
        """Make all steps in a scene. Whatever the plugin raises comes out."""
        method = self.start(scene, classes, out)
        metrics = tuple(dict(method.step(k)) for k in range(method.steps))
        return self._made(scene, method, metrics)

    def drive_on(self, scene: Scene, out: Path) -> Made:
        """As :meth:`drive`, but after the first step another method goes on, from a checkpoint of the first."""
        first = self.start(scene, out=out)
        metrics = [dict(first.step(k)) for k in range(min(1, first.steps))]
        state = through(out / "handed-on.safetensors", first.state(), first.context.device)
        method = self.start(scene, out=out)
        method.load_state(state)
        metrics += [dict(method.step(k)) for k in range(1, method.steps)]
        return self._made(scene, method, tuple(metrics))

    def _made(self, scene: Scene, method: Method, metrics: tuple[Mapping[str, float], ...]) -> Made:
        found = method.distilled()
        if not isinstance(found, DistilledSet):
            advice = "Return a LearnedSet or a SelectedSet."
            raise Failure("distilled() to give a DistilledSet", type(found).__name__, advice)
        context = method.context
        return Made(found, metrics, self.planned(scene), context.device, context.dtype)

    def made(self, scene: Scene) -> Made:
        """What :meth:`drive` gave, remembered.

        Raises:
            NotChecked: the method does not run there; the check "runs" tells why.
        """
        if scene not in self.memo:
            try:
                self.memo[scene] = self.drive(scene)
            except (Exception, SystemExit) as error:
                self.memo[scene] = error
        found = self.memo[scene]
        if isinstance(found, BaseException):
            raise NotChecked(f"it does not run on {scene}: see the check 'runs'")
        assert isinstance(found, Made)
        return found

    def settled(self, scene: Scene) -> Made:
        """What :meth:`made` gave, where it can be compared with: a second use gives the same bits.

        Raises:
            NotChecked: it does not run, or gives something else each time.
        """
        found = self.made(scene)
        if difference(found.set, self._again(scene).set):
            raise NotChecked("it is not repeatable: see 'repeatable' and 'global-random-state'")
        return found

    def _again(self, scene: Scene) -> Made:
        if ("again", scene) not in self.memo:
            with GlobalRandomness(_ANOTHER):
                self.memo["again", scene] = self.drive(scene)
        found: Made = self.memo["again", scene]
        return found

    def recorded(self) -> Mapping[str, Any]:
        """The record of a run by the runner itself, remembered."""
        if "recorded" not in self.memo:
            planned = self.planned(self.scene)
            desk = self.bench.desk(self.scene, self.bench.new_folder("grid"))
            self.bench.require(desk, planned)
            (self.memo["recorded"],) = self.bench.distil(desk, [planned])
            self.memo["recorded at"] = desk
        found: Mapping[str, Any] = self.memo["recorded"]
        return found

    def need_record(self) -> None:
        """Raise :class:`NotChecked` where the runner refuses what the method gives."""
        if self.recorded()["status"] != "done":
            raise NotChecked("the runner refuses it: see the check 'grid'")


def through(path: Path, state: State, device: torch.device | str = "cpu") -> State:
    """A state as a checkpoint gives it back to a run on ``device``."""
    save_checkpoint(path, 0, state, device)
    found = load_checkpoint(path, device)
    assert found is not None
    return found[1]


def at(scene: Scene, **changes: Any) -> Scene:
    """A scene with changes."""
    return replace(scene, **changes)


def difference(one: DistilledSet, other: DistilledSet) -> str:
    """In words how two sets differ in their bits; "" where they do not."""
    if one.kind != other.kind:
        return f"a {one.kind} set, then a {other.kind} one"
    ours, theirs = tensors_of(one), tensors_of(other)
    for name in sorted(set(ours) | set(theirs)):
        if name not in ours or name not in theirs:
            return f"{name!r} in one of them alone"
        told = apart(ours[name], theirs[name])
        if told:
            return f"{name!r} {told}"
    steps = [each.step_size if isinstance(each, LearnedSet) else None for each in (one, other)]
    return "" if steps[0] == steps[1] else f"step sizes {steps[0]} and {steps[1]}"


def tensors_of(found: DistilledSet) -> dict[str, Tensor]:
    """The tensors of a set on the CPU."""
    return {name: tensor.detach().cpu() for name, tensor in found.tensors().items()}


def apart(one: Tensor, other: Tensor) -> str:
    """How far two tensors are apart; "" for equal bits."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return f"of {one.dtype} {tuple(one.shape)}, then {other.dtype} {tuple(other.shape)}"
    if torch.equal(one.nan_to_num(), other.nan_to_num()):
        return ""
    changed = int((one != other).sum())
    largest = float((one.double() - other.double()).abs().max())
    return f"with {changed} of {one.numel()} values different, by up to {largest:.3g}"


def equal_states(one: Any, other: Any) -> bool:
    """Whether two states hold the same."""
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and not apart(one.cpu(), other.cpu())
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(equal_states(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal_states, one, other))
    return bool(one == other)


__all__ = ["PLAIN", "STEPS", "UNLIKE", "Made", "Trial", "apart", "at", "difference", "equal_states", "tensors_of"]
