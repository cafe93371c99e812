"""What is shown: the distilled sets that a path holds, each with what its run directory knows of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from avbench.data.store import StoreInfo
from avbench.distilled import DistilledSet, load
from avbench.errors import RequestError, nearest
from avbench.formats import Reading, read_sets
from avbench.formats.export import check_whole
from avbench.grammar import Variant
from avbench.results import RunDirectory

Record = Mapping[str, Any]
_OWN = "distilled.json"
_SLUG_LENGTH = 40


@dataclass(frozen=True)
class Subject:
    """A distilled set to show.

    Attributes:
        name: what headings call it.
        seed: of the run that made it, or under which it counts.
        directory: the run directory that it lies in; ``None`` for a set from elsewhere.
        record: what that directory recorded of its making.
        folder: where it lies.
    """

    set: DistilledSet
    name: str
    seed: int
    folder: Path
    directory: RunDirectory | None = None
    record: Record | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The precision in which its run computed."""
        return torch.float64 if self.record and self.record["precision"] == "float64" else torch.float32

    @property
    def preset(self) -> str:
        """The preset of its run, or else its dataset's."""
        return str(self.record["preset"]) if self.record else self.set.dataset.preset

    @property
    def threads(self) -> int:
        """Threads of the run that made it; 1 where that is not known."""
        number = self.record.get("threads") if self.record else None
        return number if isinstance(number, int) and number > 0 else 1

    @property
    def ipc(self) -> int:
        """Items a class; 0 for the whole training set."""
        if self.record:
            return int(self.record["ipc"])
        return int(self.set.labels.numel()) // len(self.set.dataset.classes)


@dataclass(frozen=True)
class Filter:
    """Which sets of a run directory to show. Empty: all methods and IPCs; of the seeds the lowest of each.

    A method that has no IPC passes where it is named.
    """

    methods: tuple[Variant, ...] = ()
    ipcs: tuple[int, ...] = ()
    seeds: tuple[int, ...] = ()

    def takes(self, record: Record) -> bool:
        method = record["method"]
        named = [v for v in self.methods if v.label == method["label"] or (not v.options and v.name == method["name"])]
        return not (
            (self.methods and not named)
            or (self.ipcs and record["ipc"] not in self.ipcs and not (named and not record["ipc"]))
            or (self.seeds and record["seed"] not in self.seeds)
        )


def slug(text: str, number: int) -> str:
    """A file name for any text: its number tells apart what looks alike once odd characters are gone."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:_SLUG_LENGTH].strip("-")
    return f"{number:03d}-{plain}" if plain else f"{number:03d}"


def own_sets(path: Path, which: Filter) -> list[Subject]:
    """The sets under a path in avbench's own layout: a run directory, one set, or a snapshot of one; else none.

    Raises:
        RequestError: nothing there, no set that was asked for, or one that is damaged.
    """
    if not path.exists():
        raise RequestError(f"{path}: there is no such file or folder; give a run directory or a distilled set.")
    if (path / _OWN).is_file():
        return [_subject(path)]
    if (path / "distil").is_dir():
        return [_subject(folder) for folder in _chosen(RunDirectory(path), which)]
    return []


def foreign_sets(path: Path, info: StoreInfo, reading: Reading) -> list[Subject]:
    """The sets in a layout that ``avbench evaluate`` reads, for the dataset of ``info``.

    Raises:
        RequestError: no such layout, or a set that does not fit the dataset.
    """
    found = read_sets(path, info, reading)
    return [
        Subject(each.set, _title(path.stem, info.name, _items_a_class(each.set), each.seed), each.seed, path)
        for each in found
    ]


def _items_a_class(given: DistilledSet) -> int:
    return int(given.labels.numel()) // len(given.dataset.classes)


def _title(method: str, dataset: str, ipc: int, seed: int, modality: str = "av") -> str:
    only = {"a": ", audio alone", "v": ", visual alone"}.get(modality, "")
    size = f"IPC {ipc}" if ipc else "whole training set"
    return f"{method} on {dataset}, {size}, seed {seed}{only}"


def _chosen(directory: RunDirectory, which: Filter) -> Iterator[Path]:
    """The folders of the sets that were asked for, in the order of datasets, methods and IPCs."""
    done = [record for record in directory.records("distil") if directory.done("distil", record["key"])]
    if not done:
        raise RequestError(f"{directory.root} holds no finished distilled set: let avbench run finish one first.")
    taken = [record for record in done if which.takes(record)]
    if not taken:
        labels = sorted({f"{r['method']['label']} ipc {r['ipc']} seed {r['seed']}" for r in done})
        raise RequestError(f"none of the sets under {directory.root} was asked for; there are: {'; '.join(labels)}.")
    first: dict[tuple[Any, ...], int] = {}
    for record in taken:
        first[_row(record)] = min(record["seed"], first.get(_row(record), record["seed"]))
    for record in sorted(taken, key=lambda r: (*_row(r), r["seed"])):
        if which.seeds or record["seed"] == first[_row(record)]:
            yield directory.set_folder(record["key"])


def _row(record: Record) -> tuple[Any, ...]:
    data = record["dataset"]
    return (data["name"], data["fingerprint"], record["method"]["label"], record["modality"], record["ipc"])


def _subject(folder: Path) -> Subject:
    try:
        given = load(folder)
    except (ValueError, AttributeError, RuntimeError) as error:
        raise RequestError(f"{folder}: the description is garbled ({error}); make or fetch the set again.") from None
    check_whole(folder, given)
    snapshot = folder.parent.name == "snapshots"
    made = folder.parent.parent if snapshot else folder
    directory = RunDirectory(made.parent.parent) if made.parent.name == "distil" else None
    record = _record(made)
    if record is None:
        return Subject(given, _title(folder.name, given.dataset.name, _items_a_class(given), 0), 0, folder)
    title = _title(record["method"]["label"], given.dataset.name, record["ipc"], record["seed"], given.modality)
    at = f", after step {folder.name}" if snapshot else ""
    return Subject(given, title + at, record["seed"], folder, directory, record)


def _record(folder: Path) -> Record | None:
    """The record that lies beside a set, where it is one of ours."""
    wanted = {"method", "ipc", "seed", "precision", "preset", "modality", "architecture", "prerequisites", "result"}
    try:
        found = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        whole = isinstance(found, dict) and found.get("kind") == "distil" and wanted <= found.keys()
        return found if whole and isinstance(found["seed"], int) and isinstance(found["ipc"], int) else None
    except (OSError, ValueError):
        return None


def chosen_classes(info: StoreInfo, names: Sequence[str]) -> tuple[int, ...]:
    """Class numbers by name; all of them for none.

    Raises:
        RequestError: an unknown name.
    """
    for name in names:
        if name not in info.classes:
            raise RequestError(f"--classes: {info.name!r} has no class {name!r}; {nearest(name, info.classes)}")
    return tuple(info.classes.index(name) for name in names) or tuple(range(len(info.classes)))
