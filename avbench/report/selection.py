"""Which rows of the boards are shown, and in which sections. What is shown keeps the rank it has among all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from avbench.errors import RequestError, nearest
from avbench.grammar import parse_variants
from avbench.report.board import Board

#: What a table says → the flag that chooses by it. The first are columns of rows, the others facts of a board.
FLAGS = {
    "method": "--method",
    "ipc": "--ipc",
    "modality": "--modality",
    "dataset": "--dataset",
    "protocol": "--protocol",
    "architecture": "--arch",
    "fusion": "--fusion",
}
_OF_ROWS = ("method", "ipc", "modality")
#: What ``--group-by`` takes; "arch" as the flags have it.
GROUPS = {"board": "", **{flag.removeprefix("--"): column for column, flag in FLAGS.items()}}
_WHOLE = "all"


@dataclass(frozen=True)
class Selection:
    """What the user asked to see, by column: the wanted values as text; empty for all.

    Attributes:
        wanted: column of :data:`FLAGS` → what was typed after its flag.
    """

    wanted: tuple[tuple[str, str], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.wanted)

    def without(self, *columns: str) -> Selection:
        """The same, but all values of these columns."""
        return Selection(tuple((column, text) for column, text in self.wanted if column not in columns))

    def boards(self, boards: Sequence[Board]) -> list[Board]:
        """The boards with the rows that are wanted, without those that have none.

        Raises:
            RequestError: a value that no board has, or no row has all that is wanted.
        """
        if not self:
            return list(boards)
        frame = pd.concat([_facts(board, number) for number, board in enumerate(boards)], ignore_index=True)
        keep = self._mask(frame)
        found = [board.part(list(keep[frame["board"] == number])) for number, board in enumerate(boards)]
        return [board for board in found if len(board.rows)]

    def lines(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The lines of a table that are wanted; it has the columns of :data:`FLAGS`, and perhaps ``spellings``.

        Raises:
            RequestError: as :meth:`boards`.
        """
        if not self:
            return frame
        if "spellings" in frame:
            return frame[self._mask(frame)]
        return frame[self._mask(frame.assign(spellings=frame["method"].map(lambda _: frozenset())))]

    def _mask(self, frame: pd.DataFrame) -> pd.Series:
        keep = pd.Series(True, index=frame.index)
        for column, text in self.wanted:
            keep &= _matches(frame, column, text)
        if not keep.any():
            given = " ".join(f"{FLAGS[column]} {text}" for column, text in self.wanted)
            raise RequestError(f"{given}: each of these exists, but no row has them all; leave one out.")
        return keep


def _facts(board: Board, number: int) -> pd.DataFrame:
    about = {column: board.about[column] for column in FLAGS if column not in _OF_ROWS}
    spellings = pd.Series(list(board.spellings), index=board.rows.index, dtype="object")
    return board.rows[list(_OF_ROWS)].assign(**about, board=number, spellings=spellings)


def _matches(frame: pd.DataFrame, column: str, text: str) -> pd.Series:
    """Which rows have one of the values in a comma list."""
    own = frame[column].map(_ipc_text if column == "ipc" else str)
    known = list(dict.fromkeys(own))
    spelled = frame["spellings"] if column == "method" else own.map(lambda _: frozenset())
    labels = [{value, *more} for value, more in zip(own, spelled, strict=True)]
    # A set from elsewhere may be called what the grammar can't read.
    entries = [text] if text in known else _entries(column, text)
    found = pd.Series(False, index=frame.index)
    for entry in entries:
        here = pd.Series([entry in each for each in labels], index=frame.index)
        if not here.any():
            raise RequestError(f"{FLAGS[column]} {entry!r}: no board has it; {_offer(entry, column, known)}")
        found |= here
    return found


def _offer(entry: str, column: str, known: Sequence[str]) -> str:
    if column in ("ipc", "modality"):
        return f"there are: {', '.join(known)}."
    return nearest(entry, known)


def _entries(column: str, text: str) -> list[str]:
    if column in ("ipc", "modality"):
        entries = [part.strip() for part in text.split(",")]
        if not all(entries):
            raise RequestError(
                f"{FLAGS[column]} {text!r}: expected a list such as {'1,10,all' if column == 'ipc' else 'a,av'}."
            )
        return [_ipc_text(entry) for entry in entries] if column == "ipc" else entries
    return [variant.label for variant in parse_variants(text, FLAGS[column])]


def _ipc_text(ipc: Any) -> str:
    """An IPC as boards show it: the whole data, which counts as 0, is "all"."""
    text = str(ipc)
    if text.isascii() and text.isdigit():
        return str(int(text)) if int(text) else _WHOLE
    return text


@dataclass(frozen=True)
class Section:
    """Some boards under a heading; "" for none."""

    heading: str
    boards: list[Board]


def sections(boards: Sequence[Board], group_by: str) -> list[Section]:
    """Boards in sections: a row goes to the section of its value, its board with it.

    Raises:
        RequestError: nothing is grouped by that.
    """
    if group_by not in GROUPS:
        raise RequestError(f"--group-by {group_by!r}: {nearest(group_by, GROUPS)}")
    column = GROUPS[group_by]
    if not column:
        return [Section("", list(boards))]
    values: Callable[[Board], Sequence[str]] = (
        (lambda board: list(board.rows[column].map(_ipc_text)))
        if column in _OF_ROWS
        else (lambda board: [str(board.about[column])] * len(board.rows))
    )
    found: dict[str, list[Board]] = {}
    for board in boards:
        of_rows = values(board)
        for value in dict.fromkeys(of_rows):
            found.setdefault(value, []).append(board.part([each == value for each in of_rows]))
    return [Section(f"{group_by} {value}", found[value]) for value in sorted(found, key=_order)]


def _order(value: str) -> tuple[int, str]:
    """Numbers by size, the whole data behind them."""
    return (int(value), "") if value.isdigit() else (1 << 30, value)
