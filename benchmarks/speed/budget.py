"""Peak memory and hours of the paper's full grid: four datasets × IPC 1, 10, 20 × dc, dsa, mtt, dm, avdd at 224 × 224.

Command: ``python benchmarks/speed/budget.py``; ``--device cuda`` measures on a GPU, ``--micro-batch N`` shows another
one than the default, ``--check`` compares predictions with whole steps, ``--pieces FILE`` keeps what was measured and
reads it again, ``--json`` prints everything as JSON.

No cell is run. Its pieces are measured (budget_pieces.py) and added up with the published loops and batches, which come
from the methods' own defaults (budget_cells.py):

peak    what is held of the items, a store that is resident, and the worst phase's piece at its micro-batch
hours   how often each piece is done × its seconds, by modality one after the other

On a CPU the pieces are a CPU's: the peaks then estimate what a GPU would take, the hours are those of one core.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from budget_cells import CARD, DATASETS, GIB, IPCS, METHODS, Cell, Pieces, cell, described, evaluation, grid, together
from budget_check import compare
from budget_pieces import measure, pieces_from
from machine import commit, machine
from tabulate import tabulate

from avbench.grammar import Variant
from avbench.jobs import DistilTask
from avbench.plan import Request, make_plan
from avbench.results import RunDirectory

#: Micro-batches at which pieces are measured.
SIZES = {"cpu": (2, 4), "cuda": (16, 64)}
MIB = 2**20
#: Predictions are to be this close to what is measured.
WITHIN = 0.25


def known_pieces(given: argparse.Namespace) -> dict[str, Any]:
    """The pieces with where they were measured: read where they are kept, else measured now."""
    if given.pieces and given.pieces.is_file():
        found: dict[str, Any] = json.loads(given.pieces.read_text(encoding="utf-8"))
        return found
    with tempfile.TemporaryDirectory() as folder:
        pieces = measure(Path(folder), SIZES[given.device], given.device)
    as_json = {m: {name: asdict(piece) for name, piece in of.items()} for m, of in pieces.items()}
    found = {"device": given.device, "machine": machine(given.device), "commit": commit(), "pieces": as_json}
    if given.pieces:
        given.pieces.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return found


def verdict(peaks: dict[str, float]) -> str:
    """Whether all peaks fit the card."""
    over = [name for name, peak in peaks.items() if peak >= CARD]
    return f"**NO: {', '.join(over)}**" if over else "yes"


def hours(seconds: float) -> str:
    """Hours, with as many digits as are worth reading."""
    value = seconds / 3600
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def show(title: str, headers: list[str], rows: list[list[Any]]) -> None:
    """A Markdown table under a title; numbers with one decimal."""
    text = [[f"{value:.1f}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    print(f"\n{title}\n")
    aligned = ("left", *("right",) * (len(headers) - 1))
    print(tabulate(text, headers, tablefmt="pipe", colalign=aligned, disable_numparse=True))


def show_pieces(pieces: Pieces) -> None:
    """What was measured."""
    rows = [
        [m, name, round(p.slope / MIB), round(p.fixed / MIB), f"{p.seconds:.3f}"]
        for m, of in pieces.items()
        for name, p in of.items()
    ]
    show("Pieces", ["", "piece", "MiB a sample", "MiB beside", "s a sample"], rows)


def show_cells(cells: list[Cell], device: str) -> None:
    """Peaks and hours, a row for each dataset and IPC."""
    peaks, times, largest = [], [], max(cells, key=lambda c: c.peak)
    for start in range(0, len(cells), len(METHODS)):
        row = cells[start : start + len(METHODS)]
        place = [row[0].info.name, row[0].ipc]
        found = {c.method: c.peak for c in row}
        peaks.append(
            [*place, row[0].store / GIB, row[0].held / GIB, *(p / GIB for p in found.values()), verdict(found)]
        )
        times.append([*place, *(hours(c.seconds()) for c in row)])
    show(
        f"Peak of a cell with both modalities, GiB (micro-batch {largest.micro_batch})",
        ["dataset", "IPC", "store", "items", *METHODS, "under 24 GiB"],
        peaks,
    )
    print(f"\nLargest: {largest.method} on {largest.info.name} at IPC {largest.ipc}, phase {largest.worst!r}.")
    whose = "of this GPU" if device == "cuda" else "of one CPU core"
    show(f"Hours of a cell with both modalities, {whose}, one seed", ["dataset", "IPC", *METHODS], times)


def show_prerequisites(cells: list[Cell], device: str) -> None:
    """What cells require: made once a dataset."""
    rows = [
        [c.info.name, c.method, len(c.prerequisites()), c.prerequisite_peak() / GIB, hours(c.prerequisite_seconds())]
        for c in cells
        if c.ipc == IPCS[-1] and c.prerequisites()
    ]
    whose = "GPU" if device == "cuda" else "CPU core"
    show("Prerequisites", ["dataset", "for", "jobs", "peak GiB", f"hours of one {whose}, all jobs"], rows)


def shared_jobs(cells: list[Cell]) -> dict[str, list[Cell]]:
    """By name, the cells of each job that one command for all of them plans (avbench/plan.py)."""
    made = {(c.method, c.ipc): c for c in cells}
    methods = tuple(Variant(method) for method in dict.fromkeys(c.method for c in cells))
    with tempfile.TemporaryDirectory() as folder:
        request = Request(methods, (cells[0].info,), IPCS, seeds=1)
        jobs = [job for job in make_plan(request, RunDirectory(Path(folder))).jobs if job.kind == "distil"]
    found = {}
    for job in jobs:
        of = [made[t.cell.method.label, t.cell.ipc] for t in job.tasks if isinstance(t, DistilTask)]
        found["one job: " + ", ".join(f"{c.method} {c.ipc}" for c in of)] = of
    return found


def beyond_cells(pieces: Pieces, micro_batch: int | None) -> list[list[Any]]:
    """Peaks in GiB of what is not one cell: cells that share a job, and evaluations."""
    rows: list[list[Any]] = []
    for facts in DATASETS:
        info = described(*facts)
        of = {m: [cell(m, info, ipc, pieces, micro_batch) for ipc in IPCS] for m in ("dm", "avdd")}
        peaks = {
            name: together(group)
            for cells in (of["dm"], of["avdd"], of["dm"] + of["avdd"])
            for name, group in shared_jobs(cells).items()
        }
        for method, cells in of.items():
            largest = cells[-1]
            peaks |= {f"judging {method} {largest.ipc}: {what}": peak for what, peak in evaluation(largest).items()}
        rows += [[info.name, what, peak / GIB, "yes" if peak < CARD else "**NO**"] for what, peak in peaks.items()]
    return rows


def show_check(found: list[dict[str, Any]]) -> None:
    """Predictions against whole steps."""
    rows = []
    for trial in found:
        ratio = trial["predicted"] / trial["measured"]
        near = "yes" if abs(ratio - 1) <= WITHIN else "**NO**"
        about = [trial[name] for name in ("method", "width", "ipc", "micro_batch")]
        rows.append([*about, round(trial["predicted"] / MIB), round(trial["measured"] / MIB), f"{ratio:.2f}", near])
    headers = ["method", "width", "IPC", "micro-batch", "predicted MiB", "measured MiB", "ratio", "within 25 %"]
    show("Predicted and measured peaks of whole steps (2 classes, a CPU)", headers, rows)


def main() -> None:
    """Measure, add up, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--micro-batch", type=int, help="by default the dataset's own")
    parser.add_argument("--pieces", type=Path, metavar="FILE", help="read measured pieces, or keep them there")
    parser.add_argument("--check", action="store_true", help="compare with whole steps, on a CPU")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = known_pieces(given)
    pieces = pieces_from(found["pieces"])
    cells = list(grid(pieces, given.micro_batch))
    beyond = beyond_cells(pieces, given.micro_batch)
    if given.json:
        of_cells = [
            {"method": c.method, "dataset": c.info.name, "ipc": c.ipc, "peak_bytes": c.peak,
             "phases": c.phases(), "held_bytes": c.held, "seconds": c.seconds(),
             "prerequisite_seconds": c.prerequisite_seconds(), "fits": c.peak < CARD}
            for c in cells
        ]  # fmt: skip
        checked = compare(pieces) if given.check else None
        print(json.dumps({**found, "cells": of_cells, "beyond": beyond, "check": checked}, indent=2))
        return
    print(f"Measured on {found['machine']}; commit {found['commit']}.")
    show_pieces(pieces)
    show_cells(cells, found["device"])
    show_prerequisites(cells, found["device"])
    show("Beyond single cells", ["dataset", "what", "peak GiB", "under 24 GiB"], beyond)
    if given.check:
        show_check(compare(pieces))
    over = [f"{c.method} on {c.info.name} at IPC {c.ipc}" for c in cells if c.peak >= CARD]
    over += [f"{row[1]} on {row[0]}" for row in beyond if row[2] * GIB >= CARD]
    print(f"\nOVER 24 GiB: {'; '.join(over)}" if over else "\nEverything is under 24 GiB.")


if __name__ == "__main__":
    main()
