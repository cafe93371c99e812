"""From what the user typed to values: lists, numbers, devices. What is wrong is said in one line. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import cast, get_args

import torch

from avbench.cli.progress import preparation
from avbench.data.prepare import current, ensure
from avbench.data.store import StoreInfo
from avbench.errors import RequestError, StoreError, nearest
from avbench.formats.base import AudioSpace, FrameSpace
from avbench.grammar import Variant, parse_variants
from avbench.grid import MODALITIES
from avbench.gridfile import dataset_names
from avbench.precision import PRECISIONS

_MOST_DIGITS = 9
NO_COMMANDS: Mapping[str, str] = MappingProxyType({})


def prepared(names: Sequence[str], data: Path, commands: Mapping[str, str] = NO_COMMANDS) -> tuple[StoreInfo, ...]:
    """The stores of these names; an embedded one that is absent is built, and this is said on stderr.

    Args:
        commands: for stores that are not named after their dataset, the command that makes them.

    Raises:
        RequestError: names every store that is not there and how each is prepared.
    """
    absent, outdated = {}, []
    for name in names:
        try:
            if current(name, data) is None:
                outdated.append(name)
        except StoreError as error:
            absent[name] = f"run {commands[name]} first." if name in commands else str(error)
    if absent and len(names) == 1 and names[0] not in commands:
        raise StoreError(absent[names[0]])
    if absent:
        there = [name for name in names if name not in absent]
        rest = f" To do without: --dataset {','.join(there)}." if there else ""
        told = " ".join(f"{name}: {advice}" for name, advice in absent.items())
        raise RequestError(f"{len(absent)} of {len(names)} datasets are not under {data}/. {told}{rest}")
    for name in outdated:
        print(f"dataset {name!r} is not under {data}/ or is outdated: it is built now, once.", file=sys.stderr)
    with preparation() as progress:
        return tuple(ensure(name, data, progress) for name in names)


def one_store(text: str, data: Path) -> StoreInfo:
    """The one store that ``--dataset`` names."""
    found = prepared(dataset_names(text, "--dataset"), data)
    if len(found) > 1:
        raise RequestError(f"--dataset {text!r}: a set is judged on one dataset at a time.")
    return found[0]


def variants(text: str, flag: str) -> tuple[Variant, ...]:
    """Plugins with options; "" for none."""
    return parse_variants(text, flag) if text else ()


def frame_space(text: str) -> FrameSpace:
    """What ``--frames`` says."""
    return cast(FrameSpace, _one_of(get_args(FrameSpace), text, "--frames"))


def audio_space(text: str) -> AudioSpace:
    """What ``--audio`` says."""
    return cast(AudioSpace, _one_of(get_args(AudioSpace), text, "--audio"))


def _one_of(known: Sequence[str], text: str, flag: str) -> str:
    """A word that an option may have."""
    if text not in known:
        raise RequestError(f"{flag} {text!r}: {nearest(text, known)}")
    return text


def _is_number(text: str) -> bool:
    """Whether text is a whole number of at most nine digits: of thousands, Python makes none."""
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def parse_ipcs(text: str) -> tuple[int, ...]:
    """``1,10,20`` as numbers."""
    found: list[int] = []
    for part in text.split(","):
        if not _is_number(part.strip()) or int(part) < 1:
            raise RequestError(f"--ipc {text!r}: {part.strip()!r} is not a whole number of at least 1.")
        found.append(int(part))
    if len(set(found)) != len(found):
        raise RequestError(f"--ipc {text!r}: a number is listed twice.")
    return tuple(found)


def parse_snapshots(text: str) -> tuple[int, ...]:
    """``0,50,150`` as numbers; "" for none."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(_is_number(part) for part in parts):
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


def parse_precision(text: str, among: Sequence[str] = PRECISIONS) -> str:
    """A precision by name."""
    return _one_of(among, text, "--precision")


def single(variants: tuple[Variant, ...], flag: str) -> Variant | None:
    """At most one variant."""
    if len(variants) > 1:
        raise RequestError(f"{flag} takes one architecture.")
    return variants[0] if variants else None


def resolve_device(name: str) -> str:
    """``auto`` becomes the GPU where there is one."""
    _one_of(("auto", "cpu", "cuda"), name, "--device")
    if name == "cuda" and not torch.cuda.is_available():
        raise RequestError("--device cuda: torch sees no CUDA device here; use --device cpu, or look at the driver.")
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return name
