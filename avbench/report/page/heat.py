"""Cross-architecture heat maps: methods × evaluated architectures, one table for each IPC.

They are tables, so they can be read, copied and sorted out without seeing their colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from avbench.report.board import Board
from avbench.report.html import esc
from avbench.report.page.choices import MODALITIES, facts, row_facts
from avbench.report.page.scale import Scale, reach
from avbench.report.render import ranks_by_share

#: Steps of colour, from the least to the greatest score of a map.
STEPS = 7
_SHARED = ("dataset", "fingerprint", "protocol", "protocol_version", "precision")


@dataclass(frozen=True)
class Heat:
    """One map.

    Attributes:
        columns: the boards by architecture, in the order of the page.
        values: by (method, distilling architecture), then by column: the row's score, deviation (or NaN) and whether
            it is complete.
    """

    ipc: int
    modality: str
    columns: tuple[Board, ...]
    values: Mapping[tuple[str, str], Mapping[int, tuple[float, float, bool]]]


def heat_maps(boards: Sequence[Board]) -> str:
    """A section for all boards that differ in architecture or fusion alone; nothing where there is but one."""
    groups: dict[tuple[Any, ...], list[Board]] = {}
    for board in boards:
        groups.setdefault(tuple(board.about[name] for name in _SHARED), []).append(board)
    maps = [_map(heat) for group in groups.values() if len(group) > 1 for heat in _heats(group)]
    if not maps:
        return ""
    return f"""<section id="across" aria-labelledby="title-across">
<h2 id="title-across">Across architectures</h2>
<p class="quiet">Each column is the network that is trained on the distilled set and judged on test.</p>
<div class="maps">{"".join(maps)}</div>
</section>"""


def _heats(group: Sequence[Board]) -> list[Heat]:
    found: dict[tuple[str, int], dict[tuple[str, str], dict[int, tuple[float, float, bool]]]] = {}
    for column, board in enumerate(group):
        for row in board.rows.to_dict("records"):
            if isnan(row["score"]):
                continue
            std = float(row.get(f"{row['modality']}_std", float("nan")))
            values = found.setdefault((str(row["modality"]), int(row["ipc"])), {})
            name = (str(row["method"]), str(row["distilled_with"]))
            values.setdefault(name, {})[column] = (float(row["score"]), std, bool(row["complete"]))
    keys = sorted(found, key=lambda key: (key[0], key[1] == 0, key[1]))
    # A method that one architecture alone has judged is no comparison, but where all are, no map is one.
    return [
        Heat(ipc, modality, tuple(group), found[modality, ipc])
        for modality, ipc in keys
        if any(len(cells) > 1 for cells in found[modality, ipc].values())
    ]


def _map(heat: Heat) -> str:
    about = heat.columns[0].about
    fusions = {board.about["fusion"] for board in heat.columns}
    heads = [
        f'<th scope="col">{esc(board.about["architecture"])}'
        + (f"<small>{esc(board.about['fusion'])}</small>" if len(fusions) > 1 else "")
        + "</th>"
        for board in heat.columns
    ]
    low, high = reach(mean for cells in heat.values.values() for mean, *_ in cells.values())
    several = len({distilled_with for _, distilled_with in heat.values}) > 1
    lines = [_line(name, cells, heat, Scale(low, high, 0, STEPS), several) for name, cells in heat.values.items()]
    ipc = f"IPC {heat.ipc}" if heat.ipc else "whole data"
    title = f"{about['dataset']} · {about['protocol']} v{about['protocol_version']} · {ipc}"
    if heat.modality != "av":
        title += f" · {MODALITIES.get(heat.modality, heat.modality)}"
    return f"""<div class="box map" tabindex="0" role="region" aria-label="Heat map: {esc(title)}"
 {facts(heat.columns[0], "dataset", "protocol")} {row_facts(heat.ipc, heat.modality)}>
<table class="heat"><caption>{esc(title)}</caption>
<thead><tr><th scope="col">method</th>{"".join(heads)}</tr></thead>
<tbody>{"".join(lines)}</tbody></table></div>"""


def _line(
    name: tuple[str, str], cells: Mapping[int, tuple[float, float, bool]], heat: Heat, scale: Scale, several: bool
) -> str:
    method, distilled_with = name
    more = f" <small>with {esc(distilled_with)}</small>" if several else ""
    shown = "".join(_cell(cells.get(column), board, scale) for column, board in enumerate(heat.columns))
    return f'<tr><th scope="row">{esc(method)}{more}</th>{shown}</tr>'


def _cell(value: tuple[float, float, bool] | None, board: Board, scale: Scale) -> str:
    if value is None:
        return "<td>–</td>"
    mean, std, complete = value
    factor = 100 if ranks_by_share(board) else 1
    spread = "" if isnan(std) else f" <i>± {factor * std:.1f}</i>"
    mark = "" if complete else '<abbr title="incomplete">*</abbr>'
    return f'<td class="h{min(STEPS - 1, int(scale.at(mean)))}">{factor * mean:.1f}{mark}{spread}</td>'
