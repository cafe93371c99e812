"""Grids of frames and spectrograms by class, before and after distillation (AVDD, Figs. 5 and 12 to 18)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from avbench.show.scale import Array, Axes
from avbench.show.sheet import LETTER_IN, LINE_IN, Box, Range, Sheet, wrapped
from avbench.show.style import FONT_PT, HEIGHT_IN, WIDTH_IN

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GAP_IN, _PANEL_GAP_IN, _EDGE_IN = 0.04, 0.16, 0.03
_NAME_IN, _STAGE_IN, _TICKS_IN, _SCALE_IN, _TIME_IN = 0.78, 0.17, 0.52, 0.66, 0.22
_MOST_COLUMNS = 12
#: Outside these percentiles values are shown as the ends of the colour map.
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class Stage:
    """The items of some classes at one time, such as before distillation.

    Attributes:
        images: for each class (n, H, W, 3) pictures or (n, bands, frames) spectrograms.
    """

    name: str
    images: tuple[Array, ...]


@dataclass(frozen=True)
class Look:
    """How items are drawn: as pictures where ``scale`` is ``None``, else as spectrograms.

    Attributes:
        aspect: height of an item by its width.
        axes: the ticks of spectrograms; ``None`` for items that pack several, which have no common axes.
        factor: l where an item packs l × l samples: lines part them.
    """

    aspect: float
    scale: Range | None = None
    axes: Axes | None = None
    factor: int = 1

    @property
    def left_in(self) -> float:
        return _TICKS_IN if self.axes else 0.0

    @property
    def right_in(self) -> float:
        return _SCALE_IN if self.scale else _EDGE_IN

    @property
    def below_in(self) -> float:
        return _TIME_IN if self.axes else _EDGE_IN


def range_of(stages: Sequence[Stage], unit: str) -> Range:
    """A colour range that all stages share."""
    values = np.concatenate([images.ravel() for stage in stages for images in stage.images])
    low, high = np.percentile(values, PERCENTILES)
    return Range(float(low), float(high) if high > low else float(low) + 1.0, unit)


def grid_figures(stages: Sequence[Stage], names: Sequence[str], look: Look) -> list[Figure]:
    """As many figures as paper width and a page's height make of the stages.

    Args:
        stages: of equal classes; stages of a figure stand above each other for one item a class, else side by side.
        names: of the classes.
    """
    most = max(len(images) for stage in stages for images in stage.images)
    if most == 1:
        return _of_single_items(stages, names, look)
    if most * len(stages) > _MOST_COLUMNS:
        return [figure for stage in stages for figure in _of_rows([stage], names, look)]
    return _of_rows(stages, names, look)


def _of_single_items(stages: Sequence[Stage], names: Sequence[str], look: Look) -> list[Figure]:
    """Class beside class, its name above; the stages of a class below each other."""
    words = max(len(name) for name in names)
    columns = min(len(names), 10 if words <= 8 and look.scale is None else 5)
    left = max(_EDGE_IN, look.left_in) + (_STAGE_IN if len(stages) > 1 else 0.0)
    # A few classes do not fill the width: tiles as large as they would be beside others look best.
    width = (WIDTH_IN - left - look.right_in - _GAP_IN * (columns - 1)) / max(columns, 4)
    lines = max(wrapped(name, width).count("\n") + 1 for name in names)
    block = lines * LINE_IN + 0.05 + len(stages) * (width * look.aspect + _GAP_IN) + 0.06
    rows_a_page = max(1, int((HEIGHT_IN - look.below_in) / block))
    figures = []
    for start in range(0, len(names), columns * rows_a_page):
        page = range(start, min(start + columns * rows_a_page, len(names)))
        rows = ceil(len(page) / columns)
        sheet = Sheet(rows * block + look.below_in)
        for place, cls in enumerate(page):
            row, column = divmod(place, columns)
            x, y = left + column * (width + _GAP_IN), row * block
            sheet.text(x, y + lines * LINE_IN + 0.02, wrapped(names[cls], width), ha="left", va="bottom")
            for number, stage in enumerate(stages):
                top = y + lines * LINE_IN + 0.05 + number * (width * look.aspect + _GAP_IN)
                box = Box(x, top, width, width * look.aspect)
                if not len(stage.images[cls]):
                    continue
                _draw(sheet, stage.images[cls][0], box, look)
                last = number == len(stages) - 1 and place + columns >= len(page)
                _label(sheet, box, stage, look, (len(stages) > 1) and column == 0, column == 0, last)
        _finish(
            sheet, Box(WIDTH_IN - look.right_in + 0.06, LINE_IN * lines + 0.05, 0, block - LINE_IN * lines - 0.2), look
        )
        figures.append(sheet.figure)
    return figures


def _of_rows(stages: Sequence[Stage], names: Sequence[str], look: Look) -> list[Figure]:
    """A row a class, its items side by side; stages beside each other."""
    counts = [max(len(images) for images in stage.images) for stage in stages]
    name_in = min(_NAME_IN, LETTER_IN * max(len(name) for name in names) + 0.1)
    left = name_in + look.left_in
    free = WIDTH_IN - left - look.right_in - _PANEL_GAP_IN * (len(stages) - 1)
    width = min((free - _GAP_IN * (sum(counts) - len(stages))) / max(sum(counts), 4), 1.0)
    height = max(width * look.aspect, 2 * LINE_IN if not look.axes else 0.36)
    top = LINE_IN + 0.08
    rows_a_page = max(1, int((HEIGHT_IN - top - look.below_in) / (height + _GAP_IN)))
    figures = []
    for start in range(0, len(names), rows_a_page):
        page = range(start, min(start + rows_a_page, len(names)))
        sheet = Sheet(top + len(page) * (height + _GAP_IN) + look.below_in)
        x = left
        for stage, count in zip(stages, counts, strict=True):
            sheet.text(x, top - 0.05, stage.name, size=FONT_PT, ha="left", va="bottom")
            for row, cls in enumerate(page):
                y = top + row * (height + _GAP_IN)
                if x == left:
                    sheet.text(0, y + height / 2, wrapped(names[cls], name_in), ha="left", va="center")
                for item, image in enumerate(stage.images[cls]):
                    box = Box(x + item * (width + _GAP_IN), y, width, height)
                    _draw(sheet, image, box, look)
                    _label(sheet, box, stage, look, False, x == left and item == 0, cls == page[-1])
            x += count * (width + _GAP_IN) - _GAP_IN + _PANEL_GAP_IN
        _finish(sheet, Box(WIDTH_IN - look.right_in + 0.06, top, 0, min(len(page) * (height + _GAP_IN), 2.0)), look)
        figures.append(sheet.figure)
    return figures


def _draw(sheet: Sheet, image: Array, box: Box, look: Look) -> None:
    if look.scale is None:
        sheet.picture(image, box)
    else:
        sheet.spectrogram(image, box, look.scale)
    for cut in range(1, look.factor):
        x, y = box.x + box.width * cut / look.factor, box.y + box.height * cut / look.factor
        sheet.line((x, x), (box.y, box.y + box.height), color="white")
        sheet.line((box.x, box.x + box.width), (y, y), color="white")


def _label(sheet: Sheet, box: Box, stage: Stage, look: Look, staged: bool, first: bool, last: bool) -> None:
    """The stage's name and the ticks of an item at the edge of the grid."""
    if staged:
        at = box.x - look.left_in - _STAGE_IN / 2
        sheet.text(at, box.y + box.height / 2, stage.name, rotation=90, ha="center", va="center")
    if look.axes is None:
        return
    bands, frames = stage.images[0].shape[1:]
    if first:
        sheet.band_ticks(box, look.axes, bands)
        sheet.text(box.x - _TICKS_IN + 0.08, box.y + box.height / 2, look.axes.band_label, rotation=90, va="center")
    if last:
        sheet.time_ticks(box, look.axes, frames)
        bottom = box.y + box.height + 0.05
        sheet.text(box.x + box.width / 2, bottom, look.axes.time_label, ha="center", va="top")


def _finish(sheet: Sheet, bar: Box, look: Look) -> None:
    if look.scale is not None:
        sheet.colour_bar(Box(bar.x, bar.y, bar.width, max(bar.height, 0.6)), look.scale)
