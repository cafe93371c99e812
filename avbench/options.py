"""Typed options: frozen dataclasses of scalars, read from text or TOML, each value with its origin.

A plugin declares ``@dataclass(frozen=True) class Config`` whose fields are made by :func:`option`. What the user
writes, what a paper publishes for a dataset and IPC, and the class default are merged here, by this precedence:
``dm[lr=4.2]`` > ``--set dm.lr=4.2`` > published or preset defaults > class default.
"""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from avbench.errors import RequestError, nearest

T = TypeVar("T")
Scalar = bool | int | float | str | None

_HINTS: dict[type[Any], dict[str, Any]] = {}
_TRUE, _FALSE = {"true", "yes", "on", "1"}, {"false", "no", "off", "0"}


def option(default: T, help: str, *, added: bool = False) -> T:
    """A field of a ``Config``: its default and one sentence of help, with units where there are any.

    Args:
        added: the option came to a plugin that had results. While it has its default it is left out of records and
            keys, so that what was done before it came stays done.
    """
    return dataclasses.field(default=default, metadata={"help": help, "added": added})


@dataclass(frozen=True)
class Sourced(Generic[T]):
    """A value with where it comes from: ``Sourced(0.2, "AVDD, appendix C")``."""

    value: T
    source: str


def sourced(source: str, **values: Any) -> dict[str, Sourced[Any]]:
    """Several values that share one source."""
    return {name: Sourced(value, source) for name, value in values.items()}


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A configuration and, for each of its options, where the value came from."""

    config: T
    origins: Mapping[str, str]


@dataclass(frozen=True)
class OptionInfo:
    """One option as it is listed to users."""

    name: str
    type: str
    default: Any
    help: str


def describe(config_type: type[Any]) -> list[OptionInfo]:
    """The options of a ``Config`` class, in the order of its fields."""
    hints = _hints(config_type)
    return [
        OptionInfo(f.name, _spell(hints[f.name]), _default(f), f.metadata.get("help", ""))
        for f in dataclasses.fields(config_type)
    ]


def _default(field: dataclasses.Field[Any]) -> Any:
    """The default of a field, ``None`` where it has none."""
    if field.default is not dataclasses.MISSING:
        return field.default
    return None if field.default_factory is dataclasses.MISSING else field.default_factory()


def _hints(config_type: type[Any]) -> dict[str, Any]:
    """The types of the options, remembered: evaluating annotations takes longer than all the rest of resolving."""
    if config_type not in _HINTS:
        _HINTS[config_type] = typing.get_type_hints(config_type)
    return _HINTS[config_type]


def to_json(config: Any) -> dict[str, Any]:
    """A ``Config`` as JSON-able values; tuples become lists. An ``added`` option is left out at its default."""
    plain = dataclasses.asdict(config)
    for f in dataclasses.fields(config):
        if f.metadata.get("added") and plain[f.name] == f.default:
            del plain[f.name]
    return {k: list(v) if isinstance(v, tuple) else v for k, v in plain.items()}


def from_json(config_type: type[T], values: Mapping[str, Any], owner: str) -> T:
    """The inverse of :func:`to_json`; every option is checked anew."""
    return resolve(config_type, owner, [(values, "record")]).config


def resolve(config_type: type[T], owner: str, layers: Sequence[tuple[Mapping[str, Any], str]]) -> Resolved[T]:
    """Merge ``layers``, the weakest first, over the class defaults.

    Args:
        config_type: the frozen dataclass.
        owner: the plugin's name, for errors.
        layers: pairs of (values by option, origin). A value may be a :class:`Sourced`, whose source then counts.

    Raises:
        RequestError: an unknown option, a value of the wrong type, or one that ``__post_init__`` refuses.
    """
    hints = _hints(config_type)
    fields = {f.name: f for f in dataclasses.fields(typing.cast(Any, config_type))}
    values: dict[str, Any] = {}
    origins = dict.fromkeys(fields, "class default")
    for layer, origin in layers:
        for name, raw in layer.items():
            if name not in fields:
                raise RequestError(f"{owner} has no option {name!r}; {nearest(name, fields)}")
            source = raw.source if isinstance(raw, Sourced) else origin
            value = raw.value if isinstance(raw, Sourced) else raw
            values[name] = coerce(value, hints[name], f"{owner}.{name}")
            origins[name] = source
    try:
        return Resolved(config_type(**values), origins)
    except ValueError as error:  # a plugin's own validation in __post_init__
        raise RequestError(f"{owner}: {error}") from None


def coerce(raw: Any, annotation: Any, where: str) -> Any:
    """``raw`` (text, or a TOML/JSON value) as ``annotation`` asks; raises :class:`RequestError` if it can't be."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _optional(raw, arguments, where)
    if origin is typing.Literal:
        choices = {str(a): a for a in arguments}
        if str(raw) in choices:
            return choices[str(raw)]
        raise RequestError(f"{where} = {raw!r}: {nearest(str(raw), choices)}")
    if origin is tuple:
        parts = raw.split() if isinstance(raw, str) else raw
        if not isinstance(parts, list | tuple):
            raise RequestError(f"{where} = {raw!r}: expected {_spell(annotation)}.")
        return tuple(coerce(part, arguments[0], where) for part in parts)
    try:
        return _scalar(raw, annotation)
    except (ValueError, TypeError, OverflowError):
        raise RequestError(f"{where} = {raw!r}: expected {_spell(annotation)}.") from None


def _optional(raw: Any, arguments: tuple[Any, ...], where: str) -> Any:
    if raw is None or (isinstance(raw, str) and raw.lower() == "none"):
        return None
    (inner,) = [a for a in arguments if a is not type(None)]
    return coerce(raw, inner, where)


def _scalar(raw: Any, annotation: Any) -> Scalar:
    if annotation is bool:
        if isinstance(raw, bool):
            return raw
        text = str(raw).lower()
        if text in _TRUE | _FALSE:
            return text in _TRUE
        raise ValueError
    if isinstance(raw, bool) or raw is None:
        raise TypeError
    if annotation is int:
        if isinstance(raw, float) and raw != int(raw):
            raise ValueError
        return int(raw)
    if annotation is float:
        value = float(raw)
        if not math.isfinite(value):
            raise ValueError
        return value
    if annotation is str:
        return str(raw)
    raise TypeError


def _spell(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_spell(a) for a in arguments)
    if origin is typing.Literal:
        return "one of " + ", ".join(str(a) for a in arguments)
    if origin is tuple:
        return f"{_spell(arguments[0]).removeprefix('a ')}s separated by spaces"
    names = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false"}
    return names.get(annotation, "none" if annotation is type(None) else str(annotation))
