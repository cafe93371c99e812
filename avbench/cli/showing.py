"""What ``avbench show`` does once its options are read. Imports torch."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import typer

from avbench.cli import parsing
from avbench.errors import RequestError, nearest
from avbench.formats import Reading
from avbench.show.gallery import KINDS, show
from avbench.show.room import Options
from avbench.show.subject import Filter, Subject, foreign_sets, own_sets

_NETWORKS = ("random", "trained")


@dataclass(frozen=True)
class Which:
    """Which sets, as the user wrote it."""

    method: str
    ipc: str
    seeds: str
    dataset: str
    factor: int | None


@dataclass(frozen=True)
class How:
    """What of them and how, as the user wrote it."""

    what: str
    classes: str
    per_class: int
    networks: str
    seed: int
    device: str
    dpi: int


def show_sets(path: Path, output: Path, data: Path, which: Which, how: How) -> None:
    """Show the sets under ``path`` in ``output``.

    Raises:
        RequestError: an option is wrong, there is no set, or nothing of it can be shown.
    """
    kinds = _listed(how.what, "--what", KINDS) or tuple(KINDS)
    networks = _listed(how.networks, "--networks", _NETWORKS)
    if not networks:
        raise RequestError("--networks is empty: give random, trained, or both.")
    subjects = _subjects(path, data, which)
    options = Options(
        data=data,
        classes=_names(how.classes, subjects),
        per_class=how.per_class,
        networks=networks,
        seed=how.seed,
        device=parsing.resolve_device(how.device),
        dpi=how.dpi,
    )
    done = show(subjects, options, kinds, output, _tell)
    for name, missing in done.missing:
        print(f"not shown: {name}: {missing.kind}: {missing.reason}", file=sys.stderr)
    files = sum(len(exhibit.pictures) for room in done.rooms for exhibit in room.exhibits)
    sounds = sum(len(clips) for room in done.rooms for exhibit in room.exhibits for _, clips in exhibit.clips)
    typer.echo(f"{len(subjects)} sets, {files} figures, {sounds} sounds: {done.index}")


def _subjects(path: Path, data: Path, which: Which) -> list[Subject]:
    methods = parsing.variants(which.method, "--method")
    ipcs = parsing.parse_ipcs(which.ipc) if which.ipc else ()
    found = own_sets(path, Filter(methods, ipcs, _seeds(which.seeds)))
    if found:
        return found
    if not which.dataset:
        raise RequestError(
            f"{path} is neither a run directory nor a folder with distilled.json; for a set in another layout give the "
            "store that it is for, --dataset NAME."
        )
    return foreign_sets(path, parsing.one_store(which.dataset, data), Reading(which.factor))


def _seeds(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isascii() and part.isdigit() and len(part) <= 9 for part in parts):
        raise RequestError(f"--seeds {text!r}: expected numbers, such as 0,1,2.")
    return tuple(int(part) for part in parts)


def _listed(text: str, flag: str, known: Iterable[str]) -> tuple[str, ...]:
    """Known words, each once, in the order given."""
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    for part in parts:
        if part not in known:
            raise RequestError(f"{flag} {text!r}: {nearest(part, known)}")
    return tuple(dict.fromkeys(parts))


def _names(text: str, subjects: Iterable[Subject]) -> tuple[str, ...]:
    """Names of classes: one as it is, or several by commas, in double quotes where a name holds a comma."""
    if not text:
        return ()
    if any(text in subject.set.dataset.classes for subject in subjects):
        return (text,)
    try:
        (found,) = csv.reader([text], skipinitialspace=True, strict=True)
    except (csv.Error, ValueError) as error:
        raise RequestError(f"--classes {text!r}: {error}; put a name that holds a comma in double quotes.") from None
    return tuple(dict.fromkeys(name.strip() for name in found))


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
