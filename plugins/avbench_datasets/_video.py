"""What the datasets of videos have in common: where their files are, and split files in the form of AVDD's authors."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avbench.api import SPLITS, MediaIndex, PrepareContext, RequestError, find_annotation

#: No video of the field begins or ends later; numbers from files that do are refused.
LONGEST_S = 86_400
#: What split files and folders call a split, in lower case.
SPLIT_WORDS = {**{split: split for split in SPLITS}, "valid": "val", "validation": "val"}


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
    split = SPLIT_WORDS.get(word.strip().lower())
    if split is None:
        raise RequestError(f"{where}: unknown split {word!r}; expected train, val or test.")
    return split


def text_of(path: Path) -> str:
    """The text of an annotation file.

    Raises:
        RequestError: it can't be read or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: can't be read as text ({error}); fetch it again.") from None


def table_of(path: Path) -> list[list[str]]:
    """The rows of a CSV file.

    Raises:
        RequestError: it can't be read or is no CSV.
    """
    try:
        return list(csv.reader(io.StringIO(text_of(path), newline="")))
    except csv.Error as error:
        raise RequestError(f"{path}: is no CSV ({error}); fetch it again.") from None


def start_of(text: str) -> int:
    """A start in whole seconds.

    Raises:
        ValueError: it is none, or beyond a day.
    """
    found = float(text)
    if not 0 <= found <= LONGEST_S:  # NaN fails too
        raise ValueError
    return int(found)


def read_split_file(path: Path) -> list[Listed]:
    """Rows of a CSV file with a header that names vid, label and split, and may name num (the start second).

    Raises:
        RequestError: it is absent or has another form.
    """
    if not path.is_file():
        raise RequestError(f"--split-file {path}: there is no such file.")
    head, *lines = table_of(path) or [[]]
    names = [name.strip() for name in head]
    if not {"vid", "label", "split"} <= set(names):
        raise RequestError(
            f"{path}: its first line is {','.join(names)!r}; expected a header with vid, label and split."
        )
    rows = []
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        where = f"{path}, line {number}"
        row = dict(zip(names, (each.strip() for each in line), strict=False))
        if not {"vid", "label", "split"} <= set(row):
            raise RequestError(f"{where}: {','.join(line)!r}; expected {len(names)} entries, as the header has.")
        start = row.get("num", "")
        try:
            start_s = start_of(start) if start else None
        except ValueError:
            raise RequestError(f"{where}: num is {start!r}; expected a start in seconds.") from None
        rows.append(Listed(row["vid"], start_s, row["label"], split_of(row["split"], where)))
    if not rows:
        raise RequestError(f"{path}: it has a header and no rows.")
    return rows
