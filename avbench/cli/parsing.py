"""From what the user typed to values: lists, numbers, devices. What is wrong is said in one line. Imports torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast, get_args

import torch

from avbench.cli.progress import preparation
from avbench.data.prepare import current, ensure
from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.formats.base import AudioSpace, FrameSpace
from avbench.grammar import Variant, parse_variants
from avbench.grid import MODALITIES


def prepared(text: str, data: Path) -> tuple[StoreInfo, ...]:
    """The stores that ``--dataset`` names; an embedded one that is absent is built, and this is said on stderr."""
    variants = parse_variants(text, "--dataset")
    options = [v.label for v in variants if v.options]
    if options:
        raise RequestError(f"--dataset {options[0]}: options belong to avbench prepare; a run takes the store's name.")
    for name in [v.name for v in variants if current(v.name, data) is None]:
        print(f"dataset {name!r} is not under {data}/ or is outdated: it is built now, once.", file=sys.stderr)
    with preparation() as progress:
        return tuple(ensure(v.name, data, progress) for v in variants)


def one_store(text: str, data: Path) -> StoreInfo:
    """The one store that ``--dataset`` names."""
    found = prepared(text, data)
    if len(found) > 1:
        raise RequestError(f"--dataset {text!r}: a set is judged on one dataset at a time.")
    return found[0]


def variants(text: str, flag: str) -> tuple[Variant, ...]:
    """Plugins with options; "" for none."""
    return parse_variants(text, flag) if text else ()


def frame_space(text: str) -> FrameSpace:
    """What ``--frames`` says."""
    for known in get_args(FrameSpace):
        if text == known:
            return cast(FrameSpace, known)
    raise RequestError(f"--frames {text!r}: {nearest(text, get_args(FrameSpace))}")


def audio_space(text: str) -> AudioSpace:
    """What ``--audio`` says."""
    for known in get_args(AudioSpace):
        if text == known:
            return cast(AudioSpace, known)
    raise RequestError(f"--audio {text!r}: {nearest(text, get_args(AudioSpace))}")


def parse_ipcs(text: str) -> tuple[int, ...]:
    """``1,10,20`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        if not part.strip().isascii() or not part.strip().isdigit() or int(part) < 1:
            raise RequestError(f"--ipc {text!r}: {part.strip()!r} is not a whole number of at least 1.")
        found.append(int(part))
    if len(set(found)) != len(found):
        raise RequestError(f"--ipc {text!r}: a number is listed twice.")
    return tuple(found)


def parse_snapshots(text: str) -> tuple[int, ...]:
    """``0,50,150`` as numbers; "" for none."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise RequestError(f"--snapshots {text!r}: expected numbers of steps, such as 0,50,150.")
    return tuple(sorted({int(part) for part in parts}))


def parse_modalities(text: str) -> tuple[str, ...]:
    """``a,v,av`` as a tuple."""
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if name not in MODALITIES:
            raise RequestError(f"--modality {text!r}: {nearest(name, MODALITIES)}")
    if len(set(found)) != len(found):
        raise RequestError(f"--modality {text!r}: one is listed twice.")
    return found


def parse_precision(text: str) -> str:
    """A precision by name."""
    if text not in ("float32", "float64"):
        raise RequestError(f"--precision {text!r}: {nearest(text, ('float32', 'float64'))}")
    return text


def single(variants: tuple[Variant, ...], flag: str) -> Variant | None:
    """At most one variant."""
    if len(variants) > 1:
        raise RequestError(f"{flag} takes one architecture.")
    return variants[0] if variants else None


def resolve_device(name: str) -> str:
    """``auto`` becomes the GPU where there is one."""
    if name not in ("auto", "cpu", "cuda"):
        raise RequestError(f"--device {name!r}: {nearest(name, ('auto', 'cpu', 'cuda'))}")
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch sees no CUDA device here; use --device cpu, or look at the driver.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
