"""The plots of a board: each score against IPC, and what ranks against the bytes that must be stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, log10
from typing import Any

from avbench.report.board import Board
from avbench.report.html import esc
from avbench.report.page.choices import MODALITIES, row_facts
from avbench.report.page.marks import Marks, Series, series_of
from avbench.report.page.scale import Scale, log_ticks, reach, ticks
from avbench.report.render import header, ranks_by_share

_WIDTH, _HEIGHT = 280, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 274, 8, 182
#: Pixels left free beside the first and the last IPC, and between the labels of two ticks.
_MARGIN, _LABEL = 26, 24


@dataclass(frozen=True)
class Point:
    """A row of the board in a plot.

    Attributes:
        x: IPC or bytes.
        std: half the error bar; NaN: it has none.
    """

    number: int
    series: Series
    ipc: int
    x: float
    mean: float
    std: float


@dataclass(frozen=True)
class Ruler:
    """The horizontal axis: a place for every x, and the ticks with their labels."""

    at: Mapping[float, float]
    ticks: Sequence[tuple[float, str]]
    label: str


def plots(board: Board, marks: Marks) -> str:
    """All plots of a board with one legend; nothing where nothing was scored."""
    rows = list(zip(series_of(board), board.rows.to_dict("records"), strict=True))
    figures = []
    for part in board.parts:
        if part not in board.secondary:
            points = _points(rows, "ipc", f"{part}_mean", f"{part}_std")
            scale = 1 if part in board.plain else 100
            figures.append(_figure(f"{header(board, part)} against IPC", points, _ipc_ruler(points), marks, scale))
    points = [point for point in _points(rows, "bytes", "score", "") if point.x > 0]
    title = f"{_score_title(board)} against stored bytes"
    scale = 100 if ranks_by_share(board) else 1
    figures.append(_figure(title, points, _bytes_ruler(points), marks, scale))
    shown = [figure for figure in figures if figure]
    if not shown:
        return ""
    return f'<div class="plots">{"".join(shown)}</div>{_legend(board, marks)}'


def _score_title(board: Board) -> str:
    """What ranks: the part that was distilled, or the mean of all."""
    distilled = set(board.rows["modality"])
    if len(distilled) == 1 and distilled.issubset(board.parts):
        return header(board, *distilled)
    return "Ranking score" + (" %" if ranks_by_share(board) else "")


def _points(rows: Iterable[tuple[Series, Mapping[Any, Any]]], x: str, mean: str, std: str) -> list[Point]:
    """The rows that were scored; the error bar of the score is that of the part that it is."""
    found = []
    for number, (series, row) in enumerate(rows):
        own = std or f"{row['modality']}_std"
        if not isnan(row[mean]) and not isnan(_float(row[x])):
            found.append(Point(number, series, int(row["ipc"]), float(row[x]), float(row[mean]), _float(row.get(own))))
    return found


def _float(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _ipc_ruler(points: Sequence[Point]) -> Ruler:
    """IPCs at equal distances, so that those near each other can be told apart; the whole data (0) comes last."""
    ipcs = sorted({point.x for point in points}, key=lambda ipc: (ipc == 0, ipc))
    scale = Scale(0, len(ipcs) - 1, _LEFT + _MARGIN, _RIGHT - _MARGIN)
    at = {ipc: scale.at(place) for place, ipc in enumerate(ipcs)}
    return Ruler(at, _legible([(place, f"{ipc:g}" if ipc else "all") for ipc, place in at.items()]), "IPC")


def _bytes_ruler(points: Sequence[Point]) -> Ruler:
    low, high = reach(point.x for point in points) if points else (1.0, 1.0)
    marked = log_ticks(low, high)
    scale = Scale(marked[0], marked[-1], _LEFT + 12, _RIGHT - 12, logarithmic=True)
    at = {point.x: scale.at(point.x) for point in points}
    return Ruler(at, _legible([(scale.at(value), _round_size(value)) for value in marked], 34), "bytes")


def _round_size(count: float) -> str:
    """The size at a tick, which is a round number of its unit."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:g} {unit}"
    return f"{count:g} B"


def _legible(labels: Sequence[tuple[float, str]], apart: float = _LABEL) -> list[tuple[float, str]]:
    """All ticks; labels that would run into the one before are left blank."""
    shown: list[tuple[float, str]] = []
    last = float("-inf")
    for place, text in labels:
        fits = place - last >= apart or text == "all"
        shown.append((place, text if fits else ""))
        last = place if fits else last
    return shown


def _figure(title: str, points: Sequence[Point], ruler: Ruler, marks: Marks, factor: float) -> str:
    if not points:
        return ""
    ends = [factor * end for p in points for end in (p.mean, p.mean - p.std, p.mean + p.std) if not isnan(end)]
    low, high = reach(ends)
    marked = ticks(low, high)
    vertical = Scale(marked[0], marked[-1], _BOTTOM, _TOP)
    lines: dict[Series, list[tuple[Point, float, float]]] = {}
    shift = _dodge(points, ruler)
    for point in sorted(points, key=lambda point: point.ipc):
        place = ruler.at[point.x] + shift[point.series], vertical.at(factor * point.mean)
        lines.setdefault(point.series, []).append((point, *place))
    drawn = [_line(places, marks, vertical, factor) for places in lines.values()]
    return f"""<figure class="plot"><figcaption>{esc(title)}</figcaption>
<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{esc(title)}: {len(points)} points, in the table above">
{_grid(ruler, vertical, marked)}
{"".join(drawn)}
</svg></figure>"""


def _dodge(points: Sequence[Point], ruler: Ruler) -> dict[Series, float]:
    """Pixels by which the series stand apart, so that error bars at one IPC do not cover each other."""
    names = sorted({point.series for point in points})
    if ruler.label != "IPC":
        return dict.fromkeys(names, 0.0)
    # The whole data stands alone in its place: only its own series need room there.
    spread = [name for name in names if any(point.series == name and point.ipc for point in points)]
    places = sorted(ruler.at.values())
    gap = places[1] - places[0] if len(places) > 1 else 120.0
    step = min(7.0, 0.7 * gap / max(1, len(spread)))
    shifts = {name: step * (i - (len(spread) - 1) / 2) for i, name in enumerate(spread)}
    return {name: shifts.get(name, 0.0) for name in names}


def _line(places: Sequence[tuple[Point, float, float]], marks: Marks, vertical: Scale, factor: float) -> str:
    """One series: the line over its IPCs, then each point with its error bar.

    The whole data is no point of such a line: its mean is drawn across the plot, as the bound that it is.
    """
    series = places[0][0].series
    mark = marks[series]
    joined = [(x, y) for point, x, y in places if point.ipc]
    rows = ",".join(str(point.number) for point, *_ in places if point.ipc)
    parts = []
    if len(joined) > 1:
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in joined)
        parts.append(f'<polyline class="d{mark.dash}" data-rows="{rows}" points="{corners}"/>')
    for point, x, y in places:
        facts = f'data-row="{point.number}" {row_facts(point.ipc, point.series[1])}'
        bound = "" if point.ipc else f'<path class="bound" d="M{_LEFT} {y:.1f}H{_RIGHT}"/>'
        if isnan(point.std):
            spread = f"{factor * point.mean:.1f}"
            bar = ""
        else:
            spread = f"{factor * point.mean:.1f} ± {factor * point.std:.1f}"
            top, bottom = (vertical.at(factor * (point.mean + sign * point.std)) for sign in (1, -1))
            bar = f'<path class="error" d="M{x:.1f} {top:.1f}V{bottom:.1f}"/>'
        ipc = f"IPC {point.ipc}" if point.ipc else "whole data"
        title = f"<title>{esc(series[0])}, {ipc}: {spread}</title>"
        parts.append(f'<g class="point" {facts}>{title}{bound}{bar}{mark.use(x, y)}</g>')
    return f'<g class="c{mark.colour}">{"".join(parts)}</g>'


def _grid(ruler: Ruler, vertical: Scale, marked: Sequence[float]) -> str:
    decimals = max(0, -int(log10(marked[1] - marked[0]) // 1)) if marked[1] > marked[0] else 1
    parts = []
    for value in marked:
        y = vertical.at(value)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}"/>')
        parts.append(f'<text class="y" x="{_LEFT - 6}" y="{y + 3.5:.1f}">{value:.{decimals}f}</text>')
    for place, text in ruler.ticks:
        parts.append(f'<path d="M{place:.1f} {_BOTTOM}v4"/>')
        parts.append(f'<text x="{place:.1f}" y="{_BOTTOM + 15}">{esc(text)}</text>' if text else "")
    middle = (_LEFT + _RIGHT) / 2
    parts.append(f'<text class="label" x="{middle:g}" y="{_HEIGHT - 5}">{esc(ruler.label)}</text>')
    return f'<g class="grid">{"".join(parts)}</g>'


def _legend(board: Board, marks: Marks) -> str:
    """Every series once, in the order of the rows, with what tells it from its namesakes."""
    several = {name: board.rows[name].nunique() > 1 for name in ("modality", "distilled_with")}
    items = []
    for number, series in enumerate(dict.fromkeys(series_of(board))):
        method, modality, distilled_with = series
        more = [MODALITIES.get(modality, modality)] if several["modality"] and modality != "av" else []
        more += [f"with {distilled_with}"] if several["distilled_with"] else []
        text = esc(method) + (f" <small>{esc(', '.join(more))}</small>" if more else "")
        mark = marks[series]
        line = f'<path class="d{mark.dash}" d="M-13 0H13"/>{mark.use()}'
        key = f'<svg class="key c{mark.colour}" viewBox="-13 -6 26 12" aria-hidden="true">{line}</svg>'
        items.append(f'<li data-series="{number}">{key}{text}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'
