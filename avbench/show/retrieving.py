"""Retrieval examples: what a sound finds among pictures, and a picture among sounds (AVDD, Fig. 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from avbench.data.samples import Rows, TestSet
from avbench.jobs import default_micro_batch
from avbench.protocols.retrieval import Retrieval, SharedClassifier, class_ranks, test_pairs
from avbench.show.networks import judge_of, predictions, set_network
from avbench.show.room import AbsentError, Room
from avbench.show.scale import Array, decibels, pixels, transform_of
from avbench.show.sheet import LINE_IN, Box, Range, Sheet, wrapped
from avbench.show.style import COLOURS, WIDTH_IN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_QUERIES, _TOP = 4, 3
_TILE_IN, _GAP_IN, _ARROW_IN = 0.92, 0.14, 0.34
_RIGHT, _WRONG = COLOURS[0], COLOURS[1]
_DIRECTIONS = (("a", "v", "Sounds find pictures"), ("v", "a", "Pictures find sounds"))


@dataclass(frozen=True)
class Example:
    """A query's place among the pairs, and those of what it found, nearest first."""

    query: int
    found: tuple[int, ...]


def hang_retrieval(room: Room) -> None:
    """The nearest items of the other modality for the first pair of each class, both ways.

    Raises:
        AbsentError: the set is of one modality, or its store is not at hand.
    """
    if room.modality != "av":
        raise AbsentError("retrieval compares sound and picture, and this set has one of them alone")
    test = room.test_set()
    quick = "retrieval-quick" if room.subject.preset == "quick" else "retrieval"
    judge = judge_of(room.subject, room.store.info, "R@1", quick)
    protocol = judge.protocol
    if not isinstance(protocol, Retrieval):
        raise AbsentError(f"protocol {judge.by.protocol.label} measures R@1 in a way of its own")
    config = protocol.config
    head = SharedClassifier(config.scale, config.margin)
    trained, _ = set_network(room.subject, room.store, judge, room.device, head)
    rows = test_pairs(test, config.pairs, config.pairs_seed)
    found = predictions(trained.network, test, rows, "av", default_micro_batch(room.info))
    labels = test.labels[torch.from_numpy(rows)]
    for asked, given, title in _DIRECTIONS:
        similarity = found[asked].double() @ found[given].double().T  # (pairs, pairs)
        examples = pick(similarity, labels, room.first_classes(_QUERIES))
        figure = retrieval_figure(room, test, rows, labels, examples, asked)
        first = float((class_ranks(similarity, labels) <= 1).double().mean())
        caption = (
            f"The first test pair of each class asks; the {_TOP} nearest by cosine similarity among {len(rows)} test "
            f"pairs answer. Solid blue ✓: of the query's class; dashed orange ✗: of another. Over all pairs R@1 is "
            f"{first:.1%}. Network 0, trained on this set ({judge.by.protocol.label}, {judge.by.architecture.label}, "
            f"seed {room.subject.seed}). Not chosen by result.{_extent(room)}"
        )
        room.hang("retrieval", title, caption, [figure], f"retrieval-{asked}-to-{given}")


def _extent(room: Room) -> str:
    """What a spectrogram of the figure spans, where the store says it: there is no room for ticks."""
    mel = transform_of(room.info)
    if mel is None:
        return ""
    return (
        f" Spectrograms span {mel.samples / mel.sample_rate_hz:g} s and mel bands up to {mel.sample_rate_hz // 2} Hz, "
        "on one scale in dB."
    )


def pick(similarity: Tensor, labels: Tensor, classes: Sequence[int]) -> list[Example]:
    """For the first pair of each class, the places of what is nearest.

    Args:
        similarity: (Q, Q), queries by gallery. labels: (Q,) of both.
    """
    examples = []
    for cls in classes:
        own = (labels == cls).nonzero().flatten()
        if len(own):
            query = int(own[0])
            order = similarity[query].argsort(descending=True, stable=True)[:_TOP]
            examples.append(Example(query, tuple(int(i) for i in order)))
    return examples


def retrieval_figure(
    room: Room, test: TestSet, rows: Rows, labels: Tensor, examples: Sequence[Example], asked: str
) -> Figure:
    """A row a query: itself at the left, then what it found."""
    height = max(_TILE_IN * 0.8, _TILE_IN * room.info.frame_shape[1] / room.info.frame_shape[2])
    lines = max(wrapped(name, _TILE_IN - 0.1).count("\n") + 1 for name in room.info.classes)
    block = height + lines * LINE_IN + 0.16
    sheet = Sheet(LINE_IN + 0.1 + len(examples) * block)
    left = (WIDTH_IN - (_TOP + 1) * _TILE_IN - (_TOP - 1) * _GAP_IN - _ARROW_IN) / 2
    sheet.text(left, LINE_IN, "query", quiet=True, va="bottom")
    places = [left + _TILE_IN + _ARROW_IN + n * (_TILE_IN + _GAP_IN) for n in range(_TOP)]
    for number, x in enumerate(places, 1):
        sheet.text(x, LINE_IN, f"rank {number}", quiet=True, va="bottom")
    scale = _range(room, test, rows, examples)
    for row, example in enumerate(examples):
        y = LINE_IN + 0.08 + row * block
        box = Box(left, y, _TILE_IN, height)
        _tile(sheet, room, test, rows[example.query], box, asked, scale)
        own = int(labels[example.query])
        sheet.text(left, y + height + 0.05, wrapped(room.info.classes[own], _TILE_IN), va="top")
        middle = y + height / 2
        sheet.text(left + _TILE_IN + _ARROW_IN / 2, middle, "→", size=11, ha="center", va="center")
        other = "v" if asked == "a" else "a"
        for x, found in zip(places, example.found, strict=False):
            box, cls = Box(x, y, _TILE_IN, height), int(labels[found])
            _tile(sheet, room, test, rows[found], box, other, scale)
            right = cls == own
            sheet.outline(box, _RIGHT if right else _WRONG, 1.6, "-" if right else (0, (2, 1)))
            name = f"{'✓' if right else '✗'} {room.info.classes[cls]}"
            sheet.text(x, y + height + 0.05, wrapped(name, _TILE_IN + _GAP_IN), va="top")
    return sheet.figure


def _range(room: Room, test: TestSet, rows: Rows, examples: Sequence[Example]) -> Range:
    """One colour range for all spectrograms of the figure."""
    places = sorted({each for example in examples for each in (example.query, *example.found)})
    values = decibels(room.info, test.batch(rows[places], "a")["a"])
    low, high = np.percentile(values, (1, 99.5))
    return Range(float(low), float(high) if high > low else float(low) + 1.0, "dB")


def _tile(sheet: Sheet, room: Room, test: TestSet, row: np.int64, box: Box, name: str, scale: Range) -> None:
    """A test sample in one modality."""
    batch = test.batch(np.array([row], dtype=np.int64), name)[name]
    if name == "a":
        spectrogram: Array = decibels(room.info, batch)[0]
        sheet.spectrogram(spectrogram, box, scale)
    else:
        sheet.picture(pixels(room.info, batch)[0][0], box)
