"""Records as reports read them: each file once, its shape checked; what can't be used is told, with its path."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any

from avbench.results import SCHEMA_VERSION, RunDirectory, Unreadable, read_record

#: The kinds that boards are made from.
_KINDS = ("distil", "evaluate", "tuning")
_NAMED_AT_MOST = 5
_Shape = Mapping[str, Any]
_NUMBER = (int, float)

_REFERENCE: _Shape = {"name": str, "label": str, "version": int, "distribution": str, "options": dict}
_CELL: _Shape = {
    "dataset": {"name": str, "fingerprint": str},
    "seed": int,
    "modality": str,
    "precision": str,
    "preset": str,
    "method": _REFERENCE,
    "role": str,
    "ipc": int,
    "architecture": _REFERENCE,
    "planned_seeds": int,
}
_EVALUATION: _Shape = {
    "dataset": {"name": str, "fingerprint": str},
    "seed": int,
    "modality": str,
    "precision": str,
    "planned_networks": int,
    "distil_key": str,
    "protocol": _REFERENCE,
    "evaluated_architecture": _REFERENCE,
    "fusion": _REFERENCE,
}
_TUNING: _Shape = {"option": str, "chosen_on": str, "chosen_cells": list, "values": list}
#: What every record of a kind holds, and what only one of a task that is done.
_SHAPES: Mapping[str, tuple[_Shape, _Shape]] = {
    "distil": (_CELL, {"result": {"content_hash": str}}),
    "evaluate": (_EVALUATION, {"set_hash": str, "result": {"primary": str, "networks": list}}),
    "tuning": (_TUNING, {}),
}
#: What may be absent or null, and is of this type where it is not.
_MAYBE: Mapping[str, _Shape] = {
    "distil": {
        "method": {"equals": str},
        "finished": str,
        "duration_s": _NUMBER,
        "peak_memory_mib": {"resident": _NUMBER, "gpu": _NUMBER},
        "result": {
            "ratio": _NUMBER,
            "storage_bytes": int,
            "labels": str,
            "snapshots": dict,
            "steps": int,
            "cells_in_job": int,
        },
    },
    "evaluate": {"split": str, "dataset": {"plugin": str}, "result": {"metrics": list}},
    "tuning": {},
}
_SPELLED = {str: "text", int: "whole number", _NUMBER: "number", dict: "object", list: "list"}


@dataclass(frozen=True)
class Archive(RunDirectory):
    """A run directory whose records are read once and checked. Each record that is given has what boards ask for."""

    _kept: dict[str, list[tuple[Path, dict[str, Any]]]] = field(default_factory=dict, repr=False, compare=False)
    _left_out: list[Unreadable] = field(default_factory=list, repr=False, compare=False)

    @classmethod
    def of(cls, directory: RunDirectory) -> Archive:
        """The directory itself where it is an archive already."""
        return directory if isinstance(directory, cls) else cls(directory.root)

    def records(self, kind: str) -> Iterator[dict[str, Any]]:
        """All usable records of a kind, in the order of their keys."""
        return (record for _, record in self.located(kind))

    def located(self, kind: str) -> Sequence[tuple[Path, dict[str, Any]]]:
        """All usable records of a kind, each with the path of its file."""
        if kind not in self._kept:
            self._kept[kind] = list(self._read(kind))
        return self._kept[kind]

    def unreadable(self) -> Sequence[Unreadable]:
        """The records that boards pass over, with the reason for each."""
        for kind in _KINDS:
            self.located(kind)
        return self._left_out

    def _read(self, kind: str) -> Iterator[tuple[Path, dict[str, Any]]]:
        for path in sorted((self.root / kind).glob("*/record.json")):
            found = read_record(path)
            if isinstance(found, Unreadable):
                self._left_out.append(found)
            elif wrong := fault(kind, found):
                self._left_out.append(Unreadable(path, wrong))
            else:
                yield path, found


def fault(kind: str, record: Mapping[str, Any]) -> str:
    """What a record lacks that boards are made from, in words; "" where it lacks nothing."""
    common, when_done = _SHAPES[kind]
    done = record["status"] == "done"
    found = _differs(record, {"key": str, **common, **(when_done if done else {})})
    found = found or _differs(record, _MAYBE[kind], required=False)
    if found or kind == "distil":
        return found
    if kind == "tuning":
        lists = ({"cells": record["chosen_cells"]}, *record["values"])
        return next(filter(None, map(_cells_fault, lists)), "")
    return _score_fault(record["result"]) if done else ""


def _differs(value: Any, shape: _Shape, place: str = "", required: bool = True) -> str:
    """The first field that is absent or of another type than a shape says."""
    if not isinstance(value, Mapping):
        return f"has no object as {place.rstrip('.')}"
    for name, wanted in shape.items():
        inner = value.get(name)
        if not required and inner is None:
            continue
        if name not in value:
            return f"lacks {place}{name}"
        if isinstance(wanted, Mapping):
            if deeper := _differs(inner, wanted, f"{place}{name}.", required):
                return deeper
        elif not isinstance(inner, wanted) or isinstance(inner, bool):
            return f"has no {_SPELLED[wanted]} as {place}{name}"
    return ""


def _cells_fault(value: Any) -> str:
    whole = isinstance(value, Mapping) and isinstance(value.get("cells"), list)
    return "" if whole and all(isinstance(key, str) for key in value["cells"]) else "has no list of keys as its cells"


def _score_fault(result: Mapping[str, Any]) -> str:
    metrics = result.get("metrics") or [{"name": result["primary"], "share": True}]
    if any(_differs(metric, {"name": str}) or "share" not in metric for metric in metrics):
        return "has metrics without name or share"
    for network in result["networks"]:
        if wrong := _differs(network, {"index": int, **{m["name"]: dict for m in metrics}}, "result.networks."):
            return wrong
        for metric in metrics:
            for part, value in network[metric["name"]].items():
                if not isinstance(value, _NUMBER) or not isfinite(value):
                    return f"has {value!r} as {metric['name']} {part} of network {network['index']}: no finite number"
    return ""


def left_out(archives: Iterable[Archive]) -> list[str]:
    """One sentence for each reason why records are on no board; the first few are named by path."""
    archives = list(archives)
    found = list(chain.from_iterable(archive.unreadable() for archive in archives))
    newer = Counter(each.schema_version for each in found if each.schema_version is not None)
    notes = [
        f"{_count(count)} of schema {schema} {'is' if count == 1 else 'are'} newer than this avbench reads "
        f"({SCHEMA_VERSION}): upgrade avbench."
        for schema, count in sorted(newer.items())
    ]
    broken = [f"{each.path} {each.reason}" for each in found if each.schema_version is None]
    if broken:
        more = f"; and {len(broken) - _NAMED_AT_MOST} more" if len(broken) > _NAMED_AT_MOST else ""
        notes.append(f"{_count(len(broken))} left out: {'; '.join(broken[:_NAMED_AT_MOST])}{more}.")
    cells = {record["key"] for archive in archives for record in archive.records("distil")}
    hashes = {r["result"]["content_hash"] for a in archives for r in a.records("distil") if r["status"] == "done"}
    lost = {
        record["key"]
        for archive in archives
        for record in archive.records("evaluate")
        if record["distil_key"] not in cells and record.get("set_hash") not in hashes
    }
    if lost:
        notes.append(f"{_count(len(lost))} of evaluations left out: no record here says how their sets were made.")
    return notes


def _count(count: int) -> str:
    return f"{count} record{'' if count == 1 else 's'}"
