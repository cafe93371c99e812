"""From a distilled set in avbench's own folder to a layout that other programs read, with a card."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from avbench.data.description import check_description
from avbench.data.store import SPLITS, Store, available, open_store
from avbench.distill.factor import check_fits
from avbench.distilled import DistilledSet, LearnedSet, SelectedSet, load
from avbench.errors import RequestError, nearest
from avbench.formats.card import card, facts, made_by
from avbench.formats.folder_out import FolderWriter
from avbench.formats.hf_out import HuggingFaceWriter
from avbench.formats.npz_out import NpzWriter
from avbench.formats.references_out import ReferencesWriter
from avbench.formats.webdataset_out import WebDatasetWriter
from avbench.formats.writing import Contents, Writer

CARD, FACTS, VIDEOS = "README.md", "card.json", "videos.csv"
_SHOWN = 3

WRITERS: dict[str, Writer] = {
    each.name: each
    for each in (NpzWriter(), FolderWriter(), WebDatasetWriter(), HuggingFaceWriter(), ReferencesWriter())
}


@dataclass(frozen=True)
class Exported:
    """What was written."""

    contents: Contents
    folder: Path
    disk_bytes: int


def export_set(path: Path, to: str, target: Path, data: Path, decoded: bool) -> Exported:
    """Write a distilled set into ``target``, a new or empty folder.

    Args:
        path: a folder with ``distilled.json``: of a run, or one of its snapshots.
        to: one of :data:`WRITERS`.
        data: the folder of stores, which selected sets need.
        decoded: cut factor-packed items into training samples.

    Raises:
        RequestError: no such set, layout or store, a set that is not whole, or a folder that can't take it.
    """
    if to not in WRITERS:
        raise RequestError(f"--to {to!r}: {nearest(to, WRITERS)}")
    writer = WRITERS[to]
    check_free(target)
    given = _load(path)
    check_whole(path, given)
    store = _store(given, data, writer) if isinstance(given, SelectedSet) else None
    videos = None
    if store is not None and isinstance(given, SelectedSet):
        known = store.samples("train")
        videos = tuple(known[row] for row in given.rows.tolist())
    contents = Contents(given, decoded, data, made_by(path, given.content_hash), videos)
    writer.check(contents)
    with _filled(target) as folder:
        writer.write(contents, folder)
        if videos is not None and writer.holds_samples:
            with (folder / VIDEOS).open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(
                    [("item", "video", "second"), *((i, *each) for i, each in enumerate(videos))]
                )
        text = json.dumps(facts(contents, writer), indent=2, ensure_ascii=False)
        (folder / FACTS).write_text(text + "\n", encoding="utf-8")
        (folder / CARD).write_text(card(contents, writer), encoding="utf-8")
    held = sum(each.stat().st_size for each in target.rglob("*") if each.is_file())
    return Exported(contents, target, held)


def check_free(target: Path) -> None:
    """Refuse a place where something lies: an export deletes and overwrites nothing."""
    try:
        if not target.exists() and not target.is_symlink():
            return
        if not target.is_dir():
            raise RequestError(f"-o {target} is a file: name a new or empty folder.")
        there = sorted(each.name for each in target.iterdir())
    except OSError as error:
        raise RequestError(f"-o {target}: can't be looked into ({error.strerror}); choose another folder.") from None
    if there:
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise RequestError(
            f"-o {target} is not empty, it holds {', '.join(there[:_SHOWN])}{more}: name a new or empty folder; "
            "nothing there was touched."
        )


@contextmanager
def _filled(target: Path) -> Iterator[Path]:
    """A hidden folder inside the target, whose files move up once all are written; on failure nothing is left."""
    fresh = not target.exists()
    building = target / f".building-{os.getpid()}"
    try:
        building.mkdir(parents=True)
        yield building
        # The card last: where it lies, all the rest does.
        for each in sorted(building.iterdir(), key=lambda each: each.name == CARD):
            each.rename(target / each.name)
        building.rmdir()
    except BaseException as error:
        shutil.rmtree(building, ignore_errors=True)
        if fresh and target.is_dir() and not any(target.iterdir()):
            target.rmdir()
        if isinstance(error, OSError):
            raise RequestError(
                f"-o {target}: can't be written ({error.strerror or error}); choose another folder."
            ) from None
        raise


def _load(path: Path) -> DistilledSet:
    if not path.exists():
        raise RequestError(f"{path}: there is no such folder; expected one that holds distilled.json.")
    if (path / "distil").is_dir():
        inside = next(
            iter(sorted(each.parent for each in path.glob("distil/*/distilled.json"))), path / "distil" / "KEY"
        )
        raise RequestError(f"{path} is a run directory: name one of its sets, such as {inside}.")
    if not (path / "distilled.json").exists():
        raise RequestError(
            f"{path} is no folder with distilled.json, and avbench exports only its own sets: avbench evaluate {path} "
            "--dataset NAME --out DIR takes a set from elsewhere into DIR/distil."
        )
    try:
        return load(path)
    except (ValueError, AttributeError, RuntimeError) as error:
        raise RequestError(f"{path}: the description is garbled ({error}); make or fetch the set again.") from None


def check_whole(path: Path, given: DistilledSet) -> None:
    """A description may have been written by anybody: hold it to itself before its words become files."""
    info = given.dataset
    try:
        check_description(info, SPLITS)
        json.dumps([info.as_json(), given.notes], ensure_ascii=False).encode()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RequestError(
            f"{path}: the description of its dataset is garbled ({error}); fetch the set again."
        ) from None
    labels, classes = given.labels, len(info.classes)
    if labels.ndim != 1 or labels.numel() == 0 or int(labels.min()) < 0 or int(labels.max()) >= classes:
        raise RequestError(f"{path}: its labels do not fit the {classes} classes of {info.name!r}; make the set again.")
    if given.modality not in ("a", "v", "av"):
        raise RequestError(f"{path}: modality {given.modality!r}, expected a, v or av; make the set again.")
    if isinstance(given, SelectedSet):
        rows, held = given.rows, info.size("train")
        if rows.shape != labels.shape or int(rows.min()) < 0 or int(rows.max()) >= held:
            raise RequestError(f"{path}: its rows are none of the {held} training rows of {info.name!r}.")
    if not isinstance(given, LearnedSet):
        return
    for name, tensor in given.items.items():
        expected = (labels.numel(), *info.shape(name))
        if tuple(tensor.shape) != expected:
            raise RequestError(f"{path}: {name!r} has shape {tuple(tensor.shape)}, {info.name} needs {expected}.")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise RequestError(f"{path}: {name!r} holds values that are not finite numbers; make the set again.")
        if type(given.factor) is not int:
            raise RequestError(f"{path}: factor {given.factor!r}, expected a whole number; make the set again.")
        check_fits(given.factor, info.shape(name))


def _store(given: SelectedSet, data: Path, writer: Writer) -> Store | None:
    """The store that a selection refers to; ``None`` where it is not at hand and not needed."""
    info = given.dataset
    found = open_store(data, info.name) if info.name in available(data) else None
    if found is not None and found.info.fingerprint == info.fingerprint:
        return found
    if not writer.holds_samples:
        return None
    here = f"has fingerprint {found.info.fingerprint[:12]}" if found else f"is not under {data}/"
    raise RequestError(
        f"this set selects rows of {info.name!r} (fingerprint {info.fingerprint[:12]}) and holds no sound or picture, "
        f"and that store {here}: prepare it as it was and name its folder with --data, or export --to references, "
        "which needs none."
    )
