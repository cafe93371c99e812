"""Checks of every kind of plugin: what it says of itself, and its options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import product
from typing import Any

from avbench.errors import RequestError
from avbench.grammar import canonical, parse_variants
from avbench.grid import MODALITIES
from avbench.options import Sourced, describe, from_json, resolve, to_json
from avbench.plugin import Setting
from avbench.presets import PRESETS
from avbench.testing.registry import Failure, register
from avbench.testing.stores import STORES
from avbench.testing.stores import describe as describe_store
from avbench.testing.subject import Subject, spell

_CONFIGURED = ("method", "architecture", "fusion", "protocol", "dataset", "executor")
_IPCS = (1, 10, 20)


@register(*_CONFIGURED, name="declared", promise="a docstring for listings and a whole version from 1")
def declared(subject: Subject) -> None:
    """What ``avbench list`` shows, and what keys hold."""
    target = subject.target
    if not (target.__doc__ or "").strip():
        raise Failure(
            "a docstring, whose first line is listed", "none", f"Say in one line what {target.__name__} does."
        )
    if type(target.version) is not int or target.version < 1:
        advice = "Start at 1 and raise it when results change."
        raise Failure("version to be a whole number from 1", repr(target.version), advice)


@register(*_CONFIGURED, name="options", promise="options that are typed, explained and written as text without loss")
def options(subject: Subject) -> str:
    """Every option as a user meets it: in a listing, on the command line, in a record."""
    config_type = subject.target.Config
    params = getattr(config_type, "__dataclass_params__", None)
    if params is None or not params.frozen:
        raise Failure("Config to be a frozen dataclass", f"{config_type!r}", "Write @dataclass(frozen=True).")
    for field in dataclasses.fields(config_type):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Failure(f"a default of option {field.name!r}", "none", "Declare it with avbench.api.option.")
    found = describe(config_type)
    for each in found:
        if not each.help.strip():
            raise Failure(f"a sentence on option {each.name!r}", "none", "Declare it with avbench.api.option.")
    config = subject.config
    _round_trip(subject, config, {each.name: getattr(config, each.name) for each in found})
    return f"{len(found)} options" if len(found) != 1 else "1 option"


def _round_trip(subject: Subject, config: Any, values: Mapping[str, Any]) -> None:
    """Each value as the grammar and a record give it back."""
    for name, value in values.items():
        label = canonical("x", {name: spell(value)}).label
        (variant,) = parse_variants(label, "option")
        needed = {**subject.options, **variant.given}
        try:
            again = getattr(resolve(type(config), subject.name, [(needed, "text")]).config, name)
        except (RequestError, ValueError, TypeError) as error:
            advice = "Use bool, int, float, str, Literal, one of them or None, or a tuple of one of them."
            raise Failure(f"option {name!r} to be read from {label!r}", f"{error}", advice) from error
        if again != value or type(again) is not type(value):
            advice = "Give the default the declared type."
            raise Failure(f"option {name!r} = {value!r} to survive as text", f"{again!r}", advice)
    try:
        again = from_json(type(config), to_json(config), subject.name)
    except RequestError as error:
        raise Failure("the options to be read from their record", f"{error}", "Keep to plain values.") from error
    if again != config:
        raise Failure("the options to survive a record", f"{again!r}", "Keep to plain values.")


@register(
    "method",
    "architecture",
    "fusion",
    "protocol",
    name="defaults",
    promise="defaults for each setting that name known options and their source",
)
def defaults(subject: Subject) -> None:
    """``defaults`` on several stores, IPCs, modalities and presets."""
    for store, ipc, modality, preset in product(STORES, _IPCS, MODALITIES, PRESETS):
        setting = Setting(describe_store(store), ipc, modality, preset)
        given = dict(subject.target.defaults(setting))
        where = f"at ipc {ipc}, modality {modality}, preset {preset}"
        for name, value in given.items():
            if not isinstance(value, Sourced) or not value.source.strip():
                advice = "Give avbench.api.Sourced(value, source), or avbench.api.sourced for several."
                raise Failure(f"the default of {name!r} {where} with its source", repr(value), advice)
        try:
            resolve(subject.target.Config, subject.name, [(given, "default"), (subject.options, "check")])
        except RequestError as error:
            advice = "Name declared options and give them values of their type."
            raise Failure(f"defaults {where} that the options take", f"{error}", advice) from error
