"""Whether what a ``store.json`` says can be a store at all: types as declared, sizes positive, counts that fit."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, get_args, get_origin, get_type_hints

from avbench.errors import RequestError
from avbench.names import is_device

if TYPE_CHECKING:
    from avbench.data.store import StoreInfo


def check_description(info: StoreInfo, splits: tuple[str, ...]) -> None:
    """Hold a description, as read from a file, to its own declaration.

    Raises:
        ValueError: names the value that is wrong.
    """
    for name, declared in get_type_hints(type(info)).items():
        if not _fits(getattr(info, name), declared):
            raise ValueError(f"{name} = {reprlib.repr(getattr(info, name))}")
    sizes = (*info.audio_shape, *info.frame_shape, *info.grid, info.visual_depth, info.audio_depth)
    if min(sizes) < 1:
        raise ValueError("a shape, depth or grid holds a number below 1")
    if "train" not in info.counts or not set(info.counts) <= set(splits):
        raise ValueError(f"splits {', '.join(info.counts) or 'none'}")
    for split, counts in info.counts.items():
        if len(counts) != len(info.classes) or min(counts, default=0) < 0:
            raise ValueError(f"counts of {split} are {list(counts)} for {len(info.classes)} classes")
    if not len(info.frame_mean) == len(info.frame_std) == info.frame_shape[0]:
        raise ValueError(f"frame_mean and frame_std do not have {info.frame_shape[0]} channels")
    if min(info.audio_std, *info.frame_std) <= 0:
        raise ValueError("audio_std or frame_std is not positive")
    if not re.fullmatch("[0-9a-f]{64}", info.fingerprint):
        raise ValueError(f"fingerprint = {reprlib.repr(info.fingerprint)}")


def _fits(value: Any, declared: Any) -> bool:
    """Whether a value read from JSON is of the type that a field declares."""
    origin, inner = get_origin(declared), get_args(declared)
    if origin is tuple:
        each = inner[:1] * len(value) if isinstance(value, tuple) and inner[1:] == (...,) else inner
        return isinstance(value, tuple) and len(value) == len(each) and all(map(_fits, value, each))
    if origin is Mapping:
        return isinstance(value, dict) and all(_fits(k, inner[0]) and _fits(v, inner[1]) for k, v in value.items())
    if declared is float:
        return type(value) in (int, float) and math.isfinite(value)
    return declared is Any or type(value) is declared


def check_name(name: str) -> None:
    """Refuse what can't name the folder of a store on every system.

    Raises:
        RequestError: signs that mean something in a path, or the name of a device of Windows.
    """
    if is_device(name):
        raise RequestError(f"dataset name {name!r}: on Windows this is a device; use another name.")
    allowed = name and name[0].isalnum() and all(ch.isalnum() or ch in "-_." for ch in name)
    if not (allowed and name.isascii() and len(name) <= 64):
        raise RequestError(
            f"dataset name {name!r}: use up to 64 ASCII letters, digits, '-', '_' and '.', the first one no sign."
        )
