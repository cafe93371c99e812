"""What the datasets of videos have in common: where their files are, and split files in the form of AVDD's authors."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avbench.api import SPLITS, MediaIndex, PrepareContext, RequestError, find_annotation

_SPLIT_WORDS = {**{split: split for split in SPLITS}, "valid": "val", "validation": "val"}


@dataclass(frozen=True)
class Listed:
    """A row of a split file; ``start_s`` where it names one."""

    video: str
    start_s: int | None
    label: str
    split: str


def folder_of(context: PrepareContext, dataset: str) -> Path:
    """The user's folder.

    Raises:
        RequestError: the source is no folder.
    """
    if context.source is None or not context.source.is_dir():
        raise RequestError(f"{context.source} is no folder; write avbench prepare {dataset} --source DIR.")
    return context.source


def annotation(source: Path, names: Sequence[str], dataset: str) -> Path:
    """The annotation file under ``source`` with one of ``names``.

    Raises:
        RequestError: there is none.
    """
    found = find_annotation(source, names)
    if found is None:
        raise RequestError(
            f"{dataset}: no {' or '.join(names)} under {source}; put the dataset's annotation file there "
            f"(docs/datasets/{dataset}.md says where its owners publish it)."
        )
    return found


def index_of(source: Path, dataset: str) -> MediaIndex:
    """The videos under ``source``.

    Raises:
        RequestError: there are none.
    """
    index = MediaIndex(source)
    if not len(index):
        raise RequestError(f"{dataset}: no video (.mp4, .webm, .mkv, .avi, .mov) under {source}.")
    return index


def split_of(word: str, where: str) -> str:
    """``train``, ``val`` or ``test``.

    Raises:
        RequestError: another word.
    """
    split = _SPLIT_WORDS.get(word.strip().lower())
    if split is None:
        raise RequestError(f"{where}: unknown split {word!r}; expected train, val or test.")
    return split


def read_split_file(path: Path) -> list[Listed]:
    """Rows of a CSV file with a header that names vid, label and split, and may name num (the start second).

    Raises:
        RequestError: it is absent or has another form.
    """
    if not path.is_file():
        raise RequestError(f"--split-file {path}: there is no such file.")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        names = [(name or "").strip() for name in reader.fieldnames or ()]
        if not {"vid", "label", "split"} <= set(names):
            raise RequestError(
                f"{path}: its first line is {','.join(names)!r}; expected a header with vid, label and split."
            )
        reader.fieldnames = names
        rows = []
        for number, row in enumerate(reader, 2):
            start = (row.get("num") or "").strip()
            try:
                start_s = int(float(start)) if start else None
            except ValueError:
                raise RequestError(f"{path}, line {number}: num is {start!r}; expected a start in seconds.") from None
            where = f"{path}, line {number}"
            rows.append(Listed(row["vid"].strip(), start_s, row["label"].strip(), split_of(row["split"] or "", where)))
    if not rows:
        raise RequestError(f"{path}: it has a header and no rows.")
    return rows
