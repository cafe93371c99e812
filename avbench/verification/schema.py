"""The form of records: which fields each kind has, and of which type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avbench.precision import PRECISIONS
from avbench.presets import PRESETS
from avbench.randomness import STREAM_SCHEME
from avbench.results import SCHEMA_VERSION

_FLOAT = (int, float)


@dataclass(frozen=True)
class _Each:
    """A list of values of one form."""

    form: Any


@dataclass(frozen=True)
class _Named:
    """An object with any names and values of one form."""

    form: Any


@dataclass(frozen=True)
class _Maybe:
    """A field that older records, or records of another state, do not have."""

    form: Any


_REFERENCE: dict[str, Any] = {
    "name": str,
    "label": str,
    "version": int,
    "distribution": str,
    "distribution_version": str,
    "options": dict,
    "origins": dict,
    "equals": _Maybe(str),
}
_COMMON: dict[str, Any] = {
    "schema_version": int,
    "kind": str,
    "key": str,
    "status": str,
    "dataset": {"name": str, "fingerprint": str, "plugin": _Maybe(str)},
    "precision": str,
    "preset": str,
    "planned_seeds": int,
    "planned_networks": int,
    "finished": str,
}
_MADE = _COMMON | {
    "streams": int,
    "argv": _Each(str),
    "environment": dict,
    "duration_s": _FLOAT,
    "engine": _Maybe(dict),
    "error": _Maybe({"phase": str, "reason": str}),
}
_CELL = _MADE | {
    "seed": int,
    "modality": str,
    "method": _REFERENCE,
    "role": str,
    "ipc": int,
    "architecture": _REFERENCE,
    "prerequisites": _Named(str),
}
_JUDGED = _CELL | {
    "distil_key": str,
    "protocol": _REFERENCE,
    "evaluated_architecture": _REFERENCE,
    "fusion": _REFERENCE,
    "split": _Maybe(str),
}
_SET = {
    "content_hash": str,
    "kind": str,
    "items": int,
    "storage_bytes": int,
    "ratio": _FLOAT,
    "steps": int,
    "snapshots": dict,
    "notes": _Each(str),
}
_SCORES = {
    "primary": str,
    "metrics": _Each({"name": str, "share": bool}),
    "networks": _Each({"index": int}),
}
_FORMS: dict[tuple[str, str], dict[str, Any]] = {
    ("distil", "done"): _CELL | {"result": _SET, "adopted": _Maybe(dict)},
    ("distil", "failed"): _CELL,
    ("evaluate", "done"): _JUDGED | {"set_hash": str, "result": _SCORES},
    ("evaluate", "failed"): _JUDGED,
    ("prerequisite", "done"): _MADE
    | {"name": str, "training": dict, "depends_on": _Each(str), "identity": dict, "seed": _Maybe(int)},
    ("prerequisite", "failed"): _MADE | {"name": str, "training": dict, "depends_on": _Each(str)},
    ("tuning", "done"): _COMMON
    | {
        "method": str,
        "option": str,
        "chosen": str,
        "chosen_on": str,
        "values": _Each({"value": str, "cells": _Each(str)}),
        "chosen_cells": _Each(str),
        "ipc": int,
        "modality": str,
        "judged_by": dict,
    },
}
KINDS = ("distil", "evaluate", "prerequisite", "tuning")


def malformed(record: Any, kind: str) -> str:
    """What of a record's form is wrong, or "": it says which field, what it is and what was expected."""
    if not isinstance(record, dict):
        return "is no JSON object"
    if record.get("schema_version") != SCHEMA_VERSION:
        return f"schema_version is {record.get('schema_version')!r}, this avbench reads {SCHEMA_VERSION}"
    form = _FORMS.get((kind, str(record.get("status"))))
    if form is None:
        return f"status is {record.get('status')!r}, expected done or failed"
    return _mismatch(record, form, "") or _impossible(record, kind)


def _mismatch(value: Any, form: Any, where: str) -> str:
    """The first place where a value does not have a form."""
    if isinstance(form, _Maybe):
        return _mismatch(value, form.form, where)
    if isinstance(form, _Named):
        if not isinstance(value, dict):
            return f"{where} is {_told(value)}, expected an object"
        return next(filter(None, (_mismatch(v, form.form, f"{where}.{name}") for name, v in value.items())), "")
    if isinstance(form, _Each):
        if not isinstance(value, list):
            return f"{where} is {_told(value)}, expected a list"
        return next(filter(None, (_mismatch(v, form.form, f"{where}[{i}]") for i, v in enumerate(value))), "")
    if isinstance(form, Mapping):
        if not isinstance(value, dict):
            return f"{where} is {_told(value)}, expected an object"
        for name, inner in form.items():
            at = f"{where}.{name}" if where else name
            if name not in value:
                if isinstance(inner, _Maybe):
                    continue
                return f"{at} is missing"
            if problem := _mismatch(value[name], inner, at):
                return problem
        return ""
    # To Python a truth value is a number.
    if not isinstance(value, form) or (isinstance(value, bool) and form is not bool):
        names = "a number" if form is _FLOAT else f"{form.__name__}"
        return f"{where} is {_told(value)}, expected {names}"
    return ""


def _told(value: Any) -> str:
    return repr(value)[:60]


def _impossible(record: Mapping[str, Any], kind: str) -> str:
    """A value that no run writes."""
    known: dict[str, tuple[Any, ...]] = {
        "kind": (kind,),
        "precision": PRECISIONS,
        "preset": tuple(PRESETS),
        "modality": ("a", "v", "av"),
        "split": ("test", "val"),
        "streams": (STREAM_SCHEME,),
    }
    for name, values in known.items():
        if name in record and record[name] not in values:
            return f"{name} is {_told(record[name])}, expected {' or '.join(map(str, values))}"
    least = {"seed": 0, "ipc": 0, "planned_seeds": 1, "planned_networks": 1, "duration_s": 0}
    for name, lowest in least.items():
        if name in record and record[name] < lowest:
            return f"{name} is {record[name]}, expected at least {lowest}"
    return ""
