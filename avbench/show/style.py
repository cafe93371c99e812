"""How all figures look: paper width, type of at least 7 pt, colours that colour-blind readers tell apart."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from avbench.errors import RequestError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_IN = 5.5
HEIGHT_IN = 8.0
FONT_PT = 7.5
#: Okabe and Ito's palette without its yellow, which is lost on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
#: How lines differ besides their colour.
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (3, 1)), (0, (1, 1)))
INK, QUIET = "#1b1f24", "#59616c"

_SETTINGS: dict[str, Any] = {
    "font.size": FONT_PT,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 8,
    "axes.labelsize": FONT_PT,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.2,
    "legend.frameon": False,
    "figure.facecolor": "white",
    # Names of classes are text, whatever signs they hold.
    "text.parse_math": False,
    # Letters stay letters: searchable, and editable in a paper.
    "svg.fonttype": "none",
    # Equal figures are equal files.
    "svg.hashsalt": "avbench",
    "image.composite_image": False,
}


@dataclass(frozen=True)
class Picture:
    """A saved figure: its files, relative to the page, and its size."""

    svg: str
    png: str
    alt: str
    width_in: float


def check_installed() -> None:
    """Refuse to start without matplotlib.

    Raises:
        RequestError: says what to install.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise RequestError(
            "figures are drawn with matplotlib, which is not installed: pip install 'avbench[report]', or ask for "
            "--what sound."
        ) from None


@contextmanager
def drawing() -> Iterator[None]:
    """Inside it figures are made and saved in the common style."""
    import matplotlib as mpl

    with mpl.rc_context(cast(Any, _SETTINGS)), warnings.catch_warnings():
        # A sign that the font lacks is a box in the PNG; browsers have others for the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def new_figure(height_in: float, width_in: float = WIDTH_IN) -> Figure:
    """An empty figure; no window system is ever asked for."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in))


def save(figure: Figure, folder: Path, stem: str, dpi: int, alt: str) -> Picture:
    """Write ``folder/stem.svg`` and ``.png``, at the figure's own size."""
    folder.mkdir(parents=True, exist_ok=True)
    plain: dict[str, Any] = {"Date": None}
    figure.savefig(folder / f"{stem}.svg", dpi=dpi, metadata=plain)
    figure.savefig(folder / f"{stem}.png", dpi=dpi)
    within = folder.name
    return Picture(f"{within}/{stem}.svg", f"{within}/{stem}.png", alt, float(figure.get_figwidth()))
