"""Checks of a fusion: its head for embeddings of any size, its predictions, its loss, and what it declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from avbench.configure import configure, reconstruct
from avbench.nets.fusion import Embedding, Fusion, FusionHead
from avbench.plugin import Setting
from avbench.randomness import Streams
from avbench.testing.bench import PRESET
from avbench.testing.devices import another_device, described, mixing_told, need_agreement, words
from avbench.testing.observing import Outcome
from avbench.testing.registry import Failure, register
from avbench.testing.stores import PLAIN, describe
from avbench.testing.subject import Subject
from avbench.testing.trials import apart

_BATCH, _CLASSES = 6, 3
_LETTERS = frozenset({"a", "v", "av"})
#: How far probabilities may be from a sum of 1.
_SUM_ROUNDING = 1e-6
#: Sizes as (dim, channels): equal, either one larger, and each modality alone.
_CASES: tuple[dict[str, tuple[int, int]], ...] = (
    {"a": (8, 4), "v": (8, 4)},
    {"a": (12, 4), "v": (8, 2)},
    {"a": (6, 6), "v": (20, 5)},
    {"a": (8, 4)},
    {"v": (20, 5)},
)


class Heads(Subject):
    """A fusion under check."""

    def fusion(self) -> Fusion:
        """It, configured as the runner does."""
        ref = configure("fusions", self.variant, {}, Setting(describe(PLAIN), 1, "av", PRESET)).ref
        built: Fusion = reconstruct("fusions", ref).build()
        return built

    def head(self, case: Mapping[str, tuple[int, int]], seed: int = 0) -> FusionHead:
        """A head with weights from streams, in float64."""
        fusion = self.fusion()
        head = fusion.build({name: Embedding(*size) for name, size in case.items()}, _CLASSES)
        fusion.draw(head, _streams(seed))
        return head.to(torch.float64)

    def exercise(self, data: str = "data") -> Outcome:
        found: dict[str, Tensor] = {}
        for case in _CASES:
            head = self.head(case)
            found |= {f"{case} {name}": tensor for name, tensor in head.state_dict().items()}
            found |= {f"{case} of {name}": p.detach() for name, p in head.predict(_embeddings(case)).items()}
            found[f"{case} loss"] = head.loss(_embeddings(case), _labels()).detach()
        return found


def _streams(seed: int) -> Callable[[str], np.random.Generator]:
    return lambda part: Streams(seed)(f"checked head {part}")


def _embeddings(case: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """By modality (B, D), each its own stream's."""
    return {
        name: torch.from_numpy(Streams(0)(f"z {name}").standard_normal((_BATCH, d))) for name, (d, _) in case.items()
    }


def _labels() -> Tensor:
    return torch.arange(_BATCH) % _CLASSES


@register("fusion", name="predictions", promise="class probabilities (B, C) of modalities that were given")
def predictions(subject: Heads) -> None:
    """Heads for equal and unequal sizes, and for one modality."""
    for case in _CASES:
        head = subject.head(case)
        if not isinstance(head, FusionHead):
            raise Failure("build() to give a FusionHead", type(head).__name__, "Derive it from avbench.api.FusionHead.")
        found = _scores(head, case)
        allowed = _LETTERS if len(case) == 2 else set(case)
        if not found or not set(found) <= allowed:
            expected = f"predictions of {', '.join(sorted(allowed))} for embeddings of {', '.join(case)}"
            raise Failure(expected, ", ".join(sorted(found)) or "none", "Name them by the letters of the modality.")
        for name, p in found.items():
            if tuple(p.shape) != (_BATCH, _CLASSES):
                raise Failure(f"{name!r} of {(_BATCH, _CLASSES)}", str(tuple(p.shape)), "One row a sample.")
            off = float((p.sum(dim=1) - 1).abs().max())
            if not off <= _SUM_ROUNDING or bool((p < 0).any()):
                raise Failure(f"{name!r} to be probabilities", f"sums {off:.3g} off 1, or below 0", "Apply a softmax.")


@torch.no_grad()
def _scores(head: FusionHead, case: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    return head.train(False).predict(_embeddings(case))


@register("fusion", name="loss", promise="a finite scalar loss whose gradient reaches what the loss trains")
def loss(subject: Heads) -> None:
    """With respect to every embedding and every parameter of the head."""
    for case in _CASES:
        head = subject.head(case)
        embeddings = {name: z.requires_grad_(True) for name, z in _embeddings(case).items()}
        value = head.loss(embeddings, _labels())
        if value.dim() != 0 or not bool(torch.isfinite(value)):
            raise Failure(
                "a finite scalar loss", f"{tuple(value.shape)} {value.flatten()[:2].tolist()}", "Take a mean."
            )
        parameters = dict(head.named_parameters())
        slopes = torch.autograd.grad(value, [*embeddings.values(), *parameters.values()], allow_unused=True)
        for name, slope in zip([*(f"embedding {n!r}" for n in embeddings), *parameters], slopes, strict=True):
            if slope is None or not bool(torch.isfinite(slope).all()):
                missing = "none" if slope is None else "values that are not finite"
                raise Failure(f"a gradient of the loss for {name}", missing, "Detach nothing; drop unused layers.")


@register("fusion", name="draw", promise="weights that depend on the streams they are drawn from, all of them")
def draw(subject: Heads) -> None:
    """The same streams give the same weights whatever they were before; others give others."""
    for case in _CASES:
        one, other, fusion = subject.head(case), subject.head(case, seed=1), subject.fusion()
        again = fusion.build({name: Embedding(*size) for name, size in case.items()}, _CLASSES)
        with torch.no_grad():
            for parameter in again.parameters():
                parameter.add_(1.0)
        fusion.draw(again, _streams(0))
        again.to(torch.float64)
        advice = "Set every parameter in draw(), each child's from the stream of its name."
        for (name, first), second in zip(one.named_parameters(), again.parameters(), strict=True):
            if apart(first.detach(), second.detach()):
                raise Failure(f"{name} to depend on the streams alone", "its earlier values shine through", advice)
        parameters = list(zip(one.parameters(), other.parameters(), strict=True))
        if parameters and all(not apart(a.detach(), b.detach()) for a, b in parameters):
            raise Failure("other weights from other streams", "the same", advice)


@register("fusion", name="own-parts", promise="own(modality) names parameters that serve that modality alone")
def own_parts(subject: Heads) -> None:
    """They belong to the head, to one modality each, and do not change what the other one scores."""
    case = _CASES[1]
    head = subject.head(case)
    known = {id(parameter) for parameter in head.parameters()}
    parts = {name: list(head.own(name)) for name in case}
    advice = "Return in own() what one modality alone uses; an empty list where the head joins them."
    ids = {name: {id(parameter) for parameter in part} for name, part in parts.items()}
    if not ids["a"] | ids["v"] <= known:
        raise Failure("own() to give the head's parameters", "others", advice)
    if ids["a"] & ids["v"]:
        raise Failure("own() to give each parameter to one modality", "some to both", advice)
    for name, other in (("a", "v"), ("v", "a")):
        z = _embeddings(case)[other].requires_grad_(True)
        if not parts[name] or other not in head.predict(_embeddings(case)):
            continue
        predict = partial(head.predict, {**_embeddings(case), other: z})
        slopes = torch.autograd.grad(predict()[other].square().sum(), parts[name], allow_unused=True)
        if any(slope is not None and bool(slope.abs().sum() > 0) for slope in slopes):
            raise Failure(f"parameters of {name!r} not to change scores of {other!r}", "they do", advice)


@register("fusion", name="moves", promise="a head that follows its embeddings to another device")
def moves(subject: Heads) -> str:
    """The same predictions and the same loss as on the processor."""
    there = another_device()
    for case in _CASES:
        head = subject.head(case).train(False)
        found: list[dict[str, Tensor]] = []
        for device in ("cpu", there):
            with mixing_told(device, "Register tensors as buffers, and make others on the embeddings' device."):
                head.to(device)
                embeddings = {name: z.to(device) for name, z in _embeddings(case).items()}
                told = {**head.predict(embeddings), "loss": head.loss(embeddings, _labels().to(device))}
            found.append({name: value.detach() for name, value in told.items()})
            del told  # a head can't be swapped to the stand-in while a graph holds its weights
        for name, here in found[0].items():
            other = found[1][name]
            if other.device.type != there:
                where = f"it on {words(other.device)}"
                raise Failure(f"{name!r} on {words(there)}", where, "Make tensors on the embeddings' device.")
            need_agreement(repr(name), here, other, there)
    return described(there)
