"""Checks of an architecture: its encoders' shapes, how their weights are drawn, gradients, and what it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avbench.configure import configure, reconstruct
from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.grammar import Variant
from avbench.jobs import EvaluateTask
from avbench.nets.base import Architecture, Encoder, first_order
from avbench.plugin import Setting
from avbench.randomness import Streams
from avbench.testing.bench import PRESET, Bench, Scene
from avbench.testing.devices import another_device, described, mixing_told, need_agreement, words
from avbench.testing.given import SELECTS
from avbench.testing.observing import Outcome
from avbench.testing.registry import Failure, NotChecked, register
from avbench.testing.stores import STORES, describe
from avbench.testing.subject import Subject
from avbench.testing.trials import apart

_BATCH = 3
#: Sides of square inputs, tiny to the size of a small photograph.
_SIDES = (1, 8, 32, 64)
#: For what takes none of the kit's stores.
_LARGER = (64, 224)
#: What batches of other sizes may change in float64.
_ROUNDING = 1e-9


class Encoders(Subject):
    """An architecture under check."""

    def architecture(self, info: StoreInfo) -> Architecture:
        """It, configured for a dataset as the runner does."""
        ref = configure("architectures", self.variant, {}, Setting(info, 1, "av", PRESET)).ref
        built: Architecture = reconstruct("architectures", ref).build()
        return built

    def drawn(self, info: StoreInfo, modality: str, seed: int = 0) -> Encoder:
        """An encoder with weights from a stream, in evaluation mode, float64."""
        architecture = self.architecture(info)
        encoder = architecture.build(info, modality)
        architecture.draw(encoder, Streams(seed)(f"checked encoder {modality}"))
        return encoder.to(torch.float64).train(False)

    def accepted(self) -> list[tuple[StoreInfo, str]]:
        """The stores and modalities whose sizes it does not refuse."""
        if "accepted" not in self.memo:
            inputs = [(describe(name), modality) for name in STORES for modality in "av"]
            larger = [(_sized(side), modality) for side in _LARGER for modality in "av"]
            self.memo["accepted"] = self._of(inputs) or self._of(larger)
        known: list[tuple[StoreInfo, str]] = self.memo["accepted"]
        if not known:
            raise NotChecked("it builds no encoder: see the check 'sizes'")
        return known

    def _of(self, inputs: Sequence[tuple[StoreInfo, str]]) -> list[tuple[StoreInfo, str]]:
        found = []
        for info, modality in inputs:
            try:
                self.architecture(info).build(info, modality)
            except Exception:  # whatever it is, the check "sizes" tells it
                continue
            found.append((info, modality))
        return found

    def exercise(self, data: str = "data") -> Outcome:
        found: dict[str, Tensor] = {}
        for info, modality in self.accepted():
            encoder = self.drawn(info, modality)
            found |= {f"{info.name} {modality} {name}": t for name, t in encoder.state_dict().items()}
            found[f"{info.name} {modality} embedding"] = encoder(sample(info, modality)).detach()
        return found


def sample(info: StoreInfo, modality: str) -> Tensor:
    """A batch (count, channels, height, width) of noise in float64."""
    rng = Streams(0)(f"batch {modality}")
    return torch.from_numpy(rng.standard_normal((_BATCH, *info.shape(modality))))


def _sized(side: int) -> StoreInfo:
    """A store's description with square inputs of that side."""
    depth = max(1, min(3, side.bit_length() - 3))
    grid = (max(1, side >> depth),) * 2
    shapes: dict[str, Any] = {"audio_shape": (1, side, side), "frame_shape": (3, side, side)}
    depths: dict[str, Any] = {"audio_depth": depth, "visual_depth": depth}
    return replace(describe(STORES[1]), name=f"{side} pixels", grid=grid, **shapes, **depths)


def _inputs() -> Iterator[tuple[StoreInfo, str]]:
    for info in [*(describe(name) for name in STORES), *map(_sized, _SIDES)]:
        for modality in "av":
            yield info, modality


@register("architecture", name="sizes", promise="encoders for any size, or a RequestError that refuses it")
def sizes(subject: Encoders) -> str:
    """Square and oblong inputs from one pixel on; also built without memory, as a plan does."""
    refused, accepted = [], 0
    for info, modality in _inputs():
        architecture = subject.architecture(info)
        where = f"{modality!r} of {info.shape(modality)}"
        try:
            encoder = architecture.build(info, modality)
            with torch.device("meta"):
                architecture.build(info, modality)
        except RequestError:
            refused.append(where)
            continue
        except Exception as error:
            advice = "Refuse in build() a size that does not fit."
            found = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
            raise Failure(f"an encoder for {where}, or a RequestError", found, advice) from error
        accepted += 1
        _embeds(encoder, sample(info, modality).float(), where)
    if not accepted:
        raise Failure("a size that it accepts", "none", "Look at what build() refuses.")
    return f"refuses {'; '.join(refused)}" if refused else ""


def _embeds(encoder: Encoder, x: Tensor, where: str) -> None:
    if not isinstance(encoder, Encoder):
        raise Failure("build() to give an Encoder", type(encoder).__name__, "Derive it from avbench.api.Encoder.")
    try:
        z = encoder.train(False)(x)
    except Exception as error:
        found = f"{type(error).__name__} when it is used: {' '.join(str(error).split())[:120]}"
        raise Failure(f"an encoder that takes {where}", found, "Refuse in build() a size that does not fit.") from error
    wanted = (len(x), encoder.embedding_dim)
    if tuple(z.shape) != wanted:
        advice = "Flatten it, and set embedding_dim to its size."
        raise Failure(f"an embedding of {wanted} for {where}", str(tuple(z.shape)), advice)
    if not bool(torch.isfinite(z).all()):
        raise Failure(f"a finite embedding for {where}", "values that are not", "Look at divisions and roots.")
    channels = encoder.channels
    if channels and encoder.embedding_dim % channels:
        found = f"{encoder.embedding_dim} and {channels}"
        raise Failure("embedding_dim to be a multiple of channels", found, "Set channels to 0 where there are none.")


@register("architecture", name="draw", promise="weights that depend on the stream they are drawn from, all of them")
def draw(subject: Encoders) -> None:
    """The same stream gives the same weights whatever they were before; another stream gives others."""
    for info, modality in subject.accepted():
        one, other = subject.drawn(info, modality), subject.drawn(info, modality, seed=1)
        architecture = subject.architecture(info)
        again = architecture.build(info, modality)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.add_(1.0)
        architecture.draw(again, Streams(0)(f"checked encoder {modality}"))
        again.to(torch.float64)
        advice = "Set every parameter in draw(), from its generator."
        for (name, first), second in zip(one.named_parameters(), again.parameters(), strict=True):
            if apart(first.detach(), second.detach()):
                raise Failure(f"{name} to depend on the stream alone", "its earlier values shine through", advice)
        if all(not apart(a.detach(), b.detach()) for a, b in zip(one.parameters(), other.parameters(), strict=True)):
            raise Failure("other weights from another stream", "the same", advice)


@register("architecture", name="per-sample", promise="per_sample = True only where samples do not see each other")
def per_sample(subject: Encoders) -> str:
    """Each sample alone and in a batch, while training."""
    declared = True
    for info, modality in subject.accepted():
        encoder = subject.drawn(info, modality).train(True)
        declared = encoder.per_sample
        if not declared:
            continue
        x = sample(info, modality)
        together = encoder(x).detach()
        alone = torch.cat([encoder(one[None]).detach() for one in x])
        largest = float((together - alone).abs().max())
        if largest > _ROUNDING * max(1.0, float(together.abs().max())):
            advice = "Set per_sample = False on the encoder, so that batches are not cut."
            raise Failure("a sample's embedding not to depend on its batch", f"{largest:.3g} apart", advice)
    return "sample by sample" if declared else "by batch"


@register("architecture", name="gradients", promise="gradients that reach the input and every parameter")
def gradients(subject: Encoders) -> str:
    """First derivatives must be there; a note says where second ones, which gradient matching takes, are not."""
    twice = True
    for info, modality in subject.accepted():
        encoder = subject.drawn(info, modality)
        x = sample(info, modality).requires_grad_(True)
        z = encoder(x)
        parameters = dict(encoder.named_parameters())
        weights = torch.from_numpy(Streams(0)("loss").standard_normal(tuple(z.shape)))
        found = torch.autograd.grad(
            (z * weights).sum(), [x, *parameters.values()], create_graph=True, allow_unused=True
        )
        for name, slope in zip(["the input", *parameters], found, strict=True):
            if slope is None or not bool(torch.isfinite(slope).all()):
                missing = "none" if slope is None else "values that are not finite"
                raise Failure(f"a gradient for {name}", missing, "Detach nothing, and use all that is declared.")
        if not bool(found[0].abs().sum() > 0):
            raise Failure("a gradient for the input", "zeros", "Detach nothing, and let the input reach the embedding.")
        with first_order():
            once = torch.autograd.grad((encoder(x) * weights).sum(), [x, *parameters.values()], allow_unused=True)
        for name, slope, other in zip(["the input", *parameters], found, once, strict=True):
            assert slope is not None  # or it was refused above
            largest = math.inf if other is None else float((slope - other).detach().abs().max())
            if largest > _ROUNDING * max(1.0, float(slope.detach().abs().max())):
                advice = "Only what is differentiated again may be left out where is_first_order()."
                raise Failure(f"the same gradient for {name} inside first_order()", f"{largest:.3g} apart", advice)
        if info.name == subject.accepted()[0][0].name:
            twice = twice and _second(found[0], x, list(parameters.values()))
    return "" if twice else "no second derivative: gradient and trajectory matching can't distil with it"


def _second(slope: Tensor, x: Tensor, parameters: list[Tensor]) -> bool:
    if not slope.requires_grad:
        return False
    try:
        found = torch.autograd.grad(slope.square().sum(), [x, *parameters], allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return False
    return any(each is not None for each in found)


@register("architecture", name="moves", promise="an encoder that follows dtype and device")
def moves(subject: Encoders) -> str:
    """float64 gives float64; on another device than the processor, the same values."""
    there = another_device()
    for info, modality in subject.accepted():
        encoder, x = subject.drawn(info, modality), sample(info, modality)
        z = encoder(x).detach()  # a module can't be swapped to the stand-in while a graph holds its weights
        if z.dtype != torch.float64:
            raise Failure("a float64 embedding", str(z.dtype), "Make tensors of the input's dtype.")
        with mixing_told(there, "Register tensors as buffers, and make others on the input's device."):
            moved = encoder.to(there)(x.to(there))
        if moved.device.type != there:
            found = f"it on {words(moved.device)}"
            raise Failure(f"the embedding on {words(there)}", found, "Make tensors on the input's device.")
        need_agreement("embedding", z, moved, there)
    return described(there)


@register("architecture", "fusion", name="grid", promise="a run that the runner judges with it and records")
def grid(subject: Subject) -> str:
    """A selection judged by networks with it, for each modality."""
    return judged_with(subject, Bench())


def judged_with(subject: Subject, bench: Bench) -> str:
    """Judge the kit's selection with the subject as architecture or fusion; a note of what it cost."""
    spent_s = 0.0
    for scene in (Scene(modality=modality) for modality in ("av", "a", "v")):
        parts = {"method": Variant(SELECTS), subject.kind: subject.variant}
        try:
            planned = bench.planned(scene, parts)
        except RequestError:
            if scene.modality == "av":
                raise NotChecked("it refuses the kit's first store") from None
            continue
        desk = bench.desk(scene, bench.new_folder("grid"))
        bench.distil(desk, [planned])
        record = bench.judge(desk, EvaluateTask(planned.cell, planned.evaluations[0].judged_by, 1))
        if record["status"] != "done":
            error = record["error"]
            found = f"a failure in {error['phase']}: {error['reason']}"
            raise Failure(f"a finished record of modality {scene.modality}", found, "Correct what the runner refuses.")
        spent_s += record["duration_s"]
    return f"{spent_s:.2g} s"
