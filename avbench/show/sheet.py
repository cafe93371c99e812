"""A sheet to lay pictures on, measured in inches from its top left corner."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from avbench.show.scale import Array, Axes
from avbench.show.style import FONT_PT, INK, QUIET, WIDTH_IN, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: What a letter of the smaller type takes, and a line of it.
LETTER_IN, LINE_IN = 0.064, 0.125
SMALL_PT = 7.0
_TICK_IN, _BAR_IN = 0.03, 0.09


@dataclass(frozen=True)
class Box:
    """A place on a sheet, in inches: its left and upper edge and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Range:
    """The values between which a colour map runs, and what they are."""

    low: float
    high: float
    unit: str


def wrapped(text: str, width_in: float) -> str:
    """``text`` on at most two lines of a width; what does not fit ends in an ellipsis."""
    letters = max(3, int(width_in / LETTER_IN))
    found = textwrap.wrap(" ".join(text.split()), letters, max_lines=2, placeholder="…")
    return "\n".join(found)


class Sheet:
    """A figure whose one pair of axes is measured in inches, downwards."""

    def __init__(self, height_in: float) -> None:
        self.figure: Figure = new_figure(height_in)
        self._size = (WIDTH_IN, height_in)
        self._axes = self.figure.add_axes((0, 0, 1, 1))
        self._axes.axis("off")

    def _frame(self) -> None:
        # Every picture that is added moves the limits.
        self._axes.set_xlim(0, self._size[0])
        self._axes.set_ylim(self._size[1], 0)
        self._axes.set_aspect("auto")

    def picture(self, image: Array, box: Box) -> None:
        """A picture (H, W, 3) from 0 to 1, its pixels as they are."""
        extent = (box.x, box.x + box.width, box.y + box.height, box.y)
        self._axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto", vmin=0, vmax=1)
        self._frame()

    def spectrogram(self, values: Array, box: Box, scale: Range) -> None:
        """Values (bands, frames), the lowest band at the bottom."""
        extent = (box.x, box.x + box.width, box.y + box.height, box.y)
        self._axes.imshow(
            np.flipud(values),
            extent=extent,
            interpolation="nearest",
            aspect="auto",
            cmap="viridis",
            vmin=scale.low,
            vmax=scale.high,
        )
        self._frame()

    def text(self, x: float, y: float, text: str, *, size: float = SMALL_PT, quiet: bool = False, **how: Any) -> None:
        """Text at a point; ``how`` as matplotlib's ``text``."""
        self._axes.text(x, y, text, fontsize=size, color=QUIET if quiet else INK, **how)

    def line(self, xs: Sequence[float], ys: Sequence[float], **how: Any) -> None:
        """A line through points; ``how`` as matplotlib's ``plot``."""
        self._axes.plot(xs, ys, **{"color": INK, "linewidth": 0.5, "solid_capstyle": "butt", **how})
        self._frame()

    def outline(self, box: Box, colour: str, width_pt: float = 0.5, dashes: Any = "-") -> None:
        """A line around a box."""
        xs = (box.x, box.x + box.width, box.x + box.width, box.x, box.x)
        ys = (box.y, box.y, box.y + box.height, box.y + box.height, box.y)
        self.line(xs, ys, color=colour, linewidth=width_pt, linestyle=dashes)

    def band_ticks(self, box: Box, axes: Axes, bands: int) -> None:
        """Ticks and numbers at the left of a spectrogram."""
        for at, label in axes.bands:
            y = box.y + box.height * (1 - at / bands)
            self.line((box.x - _TICK_IN, box.x), (y, y))
            self.text(box.x - 1.5 * _TICK_IN, y, label, ha="right", va="center")

    def time_ticks(self, box: Box, axes: Axes, frames: int) -> None:
        """Ticks and numbers below a spectrogram."""
        bottom = box.y + box.height
        for place, (at, label) in enumerate(axes.times):
            x = box.x + min(box.width, box.width * at / frames)
            self.line((x, x), (bottom, bottom + _TICK_IN))
            self.text(x, bottom + 1.5 * _TICK_IN, label, ha=("left", "right")[place % 2], va="top")

    def colour_bar(self, box: Box, scale: Range) -> None:
        """The colour map with its numbers, at the right."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        width, height = self._size
        place = (box.x / width, 1 - (box.y + box.height) / height, _BAR_IN / width, box.height / height)
        axes = self.figure.add_axes(place)
        shades = ScalarMappable(Normalize(scale.low, scale.high), cmap="viridis")
        bar = self.figure.colorbar(shades, cax=axes)
        bar.set_label(scale.unit, fontsize=FONT_PT, labelpad=2)
        axes.spines[:].set_linewidth(0.4)
        bar.ax.tick_params(length=2, width=0.5, labelsize=SMALL_PT, pad=1.5)
