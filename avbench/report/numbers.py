"""What a table of a paper prints of a cell, and its figures by what they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import isnan
from typing import Any

from avbench.blocks import Beside
from avbench.errors import RequestError, nearest
from avbench.report.reported import DIRECTIONS, METRICS, Reported, Source, sources

#: What records call a task's part, and a metric, of the figures.
_PARTS = {task: part for part, task in DIRECTIONS.items()}
_METRICS = {printed: metric for metric, printed in METRICS.items()}


@dataclass(frozen=True)
class Number:
    """What a table prints of a cell, as its figures name it."""

    task: str = "recognition"
    name: str = "accuracy"
    modality: str = "av"

    @property
    def metric(self) -> str:
        return _METRICS.get(self.name, self.name)

    @property
    def part(self) -> str:
        return _PARTS.get(self.task, self.modality)

    @property
    def share(self) -> bool:
        return self.name not in _METRICS

    @property
    def fused(self) -> bool:
        """Whether the fusion plays a part, so that figures name it."""
        return self.task not in _PARTS


@dataclass(frozen=True)
class Figure:
    """A reported number, and why the paper has a dash in its place; "" where it has none."""

    number: Reported
    dash: str = ""


#: (table, dataset, ipc, method, variant, architecture, fusion, number) of a figure.
Figures = Mapping[tuple[Any, ...], Figure]


def source_of(beside: Beside) -> Source | None:
    """The paper beside which a block stands; ``None`` for one that stands beside nothing.

    Raises:
        RequestError: no such paper comes with avbench, or it has no such table.
    """
    if not beside.table:
        return None
    known = {source.name: source for source in sources()}
    if beside.source not in known:
        raise RequestError(f"reported.source = {beside.source!r}: {nearest(beside.source, known)}")
    tables = set(known[beside.source].figures["table"])
    if beside.table not in tables:
        raise RequestError(f"reported.table = {beside.table!r}: no such table; {nearest(beside.table, tables)}")
    return known[beside.source]


@cache
def figures_of(name: str) -> Figures:
    """All figures of a source."""
    (source,) = (source for source in sources() if source.name == name)
    found = {}
    for _, row in source.figures.iterrows():
        number = source.figure(row)
        # A dash has its reason where other figures have their variant.
        variant, dash = ("", row["variant"] or "no number") if isnan(number.mean) else (row["variant"], "")
        what = (row["table"], row["dataset"], row["ipc"], row["method"], variant, row["arch"], row["fusion"])
        found[*what, Number(row["task"], row["metric"], row["modality"])] = Figure(number, dash)
    return found


def numbers_of(figures: Figures, table: str) -> tuple[Number, ...]:
    """What a table prints of its cells; accuracy of both modalities where it prints nothing."""
    return tuple(dict.fromkeys(key[-1] for key in figures if key[0] == table)) or (Number(),)
