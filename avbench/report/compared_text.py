"""A comparison of a grid with a paper as Markdown, CSV or JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import isnan

import pandas as pd
from tabulate import tabulate

from avbench.report.compared import Comparison, Row
from avbench.report.render import escaped

#: Columns that are shown where rows differ in them.
_WHERE_THEY_DIFFER = ("table", "modality", "preset", "protocol", "architecture", "fusion", "weights")
_SPELLED = {"a": "audio", "v": "visual", "av": "AV"}
_LEFT = {"dataset", "method", "stands for", "scored", "note", *_WHERE_THEY_DIFFER}
_ABOUT_ERRORS = (
    "Differences are measured − reported. One standard error is √(std²/n + std²/n) of both sides, each over all its "
    "networks as if these were independent; networks that judge one set are not, so it is rather too small."
)


def render_comparison(found: Comparison, format: str) -> str:
    """Markdown in percent and percentage points; CSV and JSON as shares of one. A median rank is a rank in all."""
    if format == "json":
        rows = [{key: _plain(value) for key, value in asdict(row).items()} for row in found.rows]
        whole = {"grid": found.title, "papers": found.papers, "rows": rows}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"
    if format == "csv":
        return pd.DataFrame([asdict(row) for row in found.rows]).to_csv(index=False)
    return _markdown(found)


def _plain(value: object) -> object:
    return None if isinstance(value, float) and isnan(value) else value


def _markdown(found: Comparison) -> str:
    lines = [_line(row) for row in found.rows]
    differing = [name for name in _WHERE_THEY_DIFFER if len({getattr(row, name) for row in found.rows}) > 1]
    stores = {(row.dataset, row.store) for row in found.rows if row.store}
    several = len(stores) > len({dataset for dataset, _ in stores})
    hidden = {name for name in ("stands for", "note") if not any(line[name] for line in lines)}
    notes = {row.note for row in found.rows}
    same = notes.pop() if len(notes) == 1 and all(row.status != "failed" for row in found.rows) else ""
    hidden |= {"note"} if same else set()
    hidden |= {name for name in _WHERE_THEY_DIFFER if name not in differing} | (set() if several else {"store"})
    headers = [name for name in lines[0] if name not in hidden]
    table = tabulate(
        [[line[name] for name in headers] for line in lines],
        headers,
        tablefmt="pipe",
        colalign=["left" if name in _LEFT else "right" for name in headers],
        disable_numparse=True,
    )
    below = [f"Nothing that was reported stands beside these: {same}."] if same else []
    if any(row.dash or not isnan(row.reported_mean) for row in found.rows):
        below += [*(f"Reported: {' '.join(paper.split())}." for paper in found.papers), _ABOUT_ERRORS]
    return "\n\n".join([f"### {escaped(found.title)}", table, *below]) + "\n"


def _line(row: Row) -> Mapping[str, str]:
    """The columns of a row, in their order."""
    return {
        "table": row.table,
        "dataset": escaped(row.dataset),
        "ipc": str(row.ipc) if row.ipc else "all",
        "method": escaped(row.method),
        "stands for": escaped(row.stands_for) if row.stands_for else "",
        "modality": row.modality,
        "preset": row.preset,
        "protocol": escaped(row.protocol),
        "architecture": escaped(row.architecture),
        "fusion": escaped(row.fusion),
        "weights": row.weights[:8],
        "store": row.store[:8],
        "scored": f"{row.metric} {_SPELLED.get(row.part, row.part)}{' %' if row.share else ''}",
        "measured": row.status if isnan(row.measured_mean) else _spread(row, row.measured_mean, row.measured_std),
        "seeds × networks": _count(row),
        "paper": _paper(row),
        "difference": "–" if isnan(row.difference) else f"{_scale(row) * row.difference:+.2f}",
        "standard errors": "–" if isnan(row.standard_errors) else f"{row.standard_errors:+.1f}",
        "note": escaped(row.note) if row.note else "",
    }


def _scale(row: Row) -> float:
    return 100.0 if row.share else 1.0


def _spread(row: Row, mean: float, std: float) -> str:
    return f"{_scale(row) * mean:.2f} ± {_scale(row) * std:.2f}"


def _count(row: Row) -> str:
    if row.status == "incomplete":
        networks = f"{row.networks} of {row.networks_planned}"
        return f"incomplete: {row.seeds} of {row.seeds_planned} seeds × {networks} networks"
    return f"{row.seeds} × {row.networks}" if row.status == "done" else "–"


def _paper(row: Row) -> str:
    if row.dash:
        return f"– (paper: {row.dash})"
    return "none" if isnan(row.reported_mean) else _spread(row, row.reported_mean, row.reported_std)
