"""How a method looks in every plot of a page: a colour, a marker and a dash, so that none is told by colour alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avbench.report.board import Board

#: Outlines of a method's marker, within ±5 pixels of a point.
MARKERS = (
    "M-3.6 0a3.6 3.6 0 1 0 7.2 0a3.6 3.6 0 1 0-7.2 0z",
    "M-3.2-3.2h6.4v6.4h-6.4z",
    "M0-4.2L4 3H-4z",
    "M0-4.4L3.8 0L0 4.4L-3.8 0z",
    "M0 4.2L4-3H-4z",
    "M-1.3-4h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7v-2.6h2.7z",
    "M0-4.4L4.2-1.3L2.6 3.6H-2.6L-4.2-1.3z",
)
#: Those of baselines and upper bounds.
BOUNDS = (
    "M-4-2.6L-2.6-4L0-1.4L2.6-4L4-2.6L1.4 0L4 2.6L2.6 4L0 1.4L-2.6 4L-4 2.6L-1.4 0z",
    "M0 -4.6L1.1 -1.5L4.4 -1.4L1.8 0.6L2.7 3.7L0 1.9L-2.7 3.7L-1.8 0.6L-4.4 -1.4L-1.1 -1.5z",
    "M-3.6-4h7.2L-3.6 4h7.2z",
)
#: The hues of Okabe and Ito without black, which is the baselines', told apart best first.
HUES = 7
DASHES = 4

#: What a line joins over IPCs: one method, distilled for one modality with one architecture.
Series = tuple[str, str, str]


def series_of(board: Board) -> list[Series]:
    """The series of each row."""
    columns = (board.rows[name].astype(str) for name in ("method", "modality", "distilled_with"))
    return list(zip(*columns, strict=True))


@dataclass(frozen=True)
class Mark:
    """Numbers of a colour (0: that of baselines and upper bounds), a marker and a dash (0: none)."""

    colour: int
    marker: int
    dash: int

    def swatch(self) -> str:
        """The marker alone, as an image in a line of text."""
        return f'<svg class="swatch c{self.colour}" viewBox="-6 -6 12 12" aria-hidden="true">{self.use()}</svg>'

    def use(self, x: float = 0.0, y: float = 0.0) -> str:
        """The marker at a place in an image."""
        place = f' x="{x:.1f}" y="{y:.1f}"' if x or y else ""
        return f'<use href="#m{self.marker}"{place}/>'


@dataclass(frozen=True)
class Marks:
    """The marks of all series of a page: a method keeps its own on every board."""

    methods: Mapping[str, tuple[int, int]]
    dashes: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, boards: Sequence[Board]) -> Marks:
        """The marks for all rows of some boards."""
        roles: dict[str, bool] = {}
        kinds: set[tuple[str, str]] = set()
        for board in boards:
            for (method, *kind), role in zip(series_of(board), board.rows["role"], strict=True):
                roles[method] = role == "method"
                kinds.add((kind[0], kind[1]))
        # By name, so that another board or row moves few of them.
        own = sorted(method for method, is_method in roles.items() if is_method)
        bounds = sorted(method for method, is_method in roles.items() if not is_method)
        methods = {method: (1 + i % HUES, (i + i // HUES) % len(MARKERS)) for i, method in enumerate(own)}
        methods |= {method: (0, len(MARKERS) + i % len(BOUNDS)) for i, method in enumerate(bounds)}
        return cls(methods, {kind: i % DASHES for i, kind in enumerate(sorted(kinds, key=_usual_first))})

    def __getitem__(self, series: Series) -> Mark:
        method, modality, distilled_with = series
        return Mark(*self.methods[method], self.dashes[modality, distilled_with])

    def symbols(self) -> str:
        """The markers, which every image of the page uses."""
        shapes = "".join(f'<path id="m{i}" d="{outline}"/>' for i, outline in enumerate(MARKERS + BOUNDS))
        return f'<svg class="symbols" aria-hidden="true"><defs>{shapes}</defs></svg>'


def _usual_first(kind: tuple[str, str]) -> tuple[bool, tuple[str, str]]:
    return kind[0] != "av", kind
