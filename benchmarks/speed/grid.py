"""A grid of dm and avdd at IPC 1, 10 and 20 as one job, against its dearest cell alone.

Command: ``python benchmarks/speed/grid.py [--device cuda] [--rounds 1]``. The six cells make their steps in lock-step
with what they share, as a worker drives them; the dearest cell is avdd at IPC 20. At the paper's size on a CPU there is
one class with the published 128 real samples: all parts of a step grow with classes, so the ratio is that of ten.
"""

from __future__ import annotations

import tempfile
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from comparing import Report, Run, agreed, apart, in_turn, main, ratio, seconds_figure
from workload import context_of, items_of, method_of, store_of

from avbench.api import Method, Store

METHODS = ("dm", "avdd")


@dataclass(frozen=True)
class Grid:
    """The cells, by IPC and method, and how large the real side is."""

    ipcs: tuple[int, ...]
    classes: int
    batch_real: int
    rows: int


GRIDS: Mapping[tuple[str, str], Grid] = {
    ("paper", "cpu"): Grid((1, 10, 20), 1, 128, 140),
    ("paper", "cuda"): Grid((1, 10, 20), 10, 128, 256),
    ("small", "cpu"): Grid((1, 2), 2, 4, 8),
    ("small", "cuda"): Grid((1, 2), 2, 4, 8),
}
ASKED = 1.7


def cells(store: Store, run: Run, grid: Grid, wanted: tuple[tuple[str, int], ...]) -> dict[tuple[str, int], Method]:
    """Cells of one job: they share what they may."""
    shared: dict[Hashable, Any] = {}
    return {
        (name, ipc): method_of(name, replace(context_of(store, run, ipc), shared=shared), batch_real=grid.batch_real)
        for name, ipc in wanted
    }


def measure(run: Run) -> Report:
    """The job and the cell in turn."""
    grid = GRIDS[run.size, run.device]
    dearest = (METHODS[-1], max(grid.ipcs))
    with tempfile.TemporaryDirectory() as folder:
        store = store_of(Path(folder), run, grid.classes, grid.rows)
        job = cells(store, run, grid, tuple((name, ipc) for ipc in grid.ipcs for name in METHODS))
        alone = cells(store, run, grid, (dearest,))
        start = items_of(alone[dearest])

        def step(k: int, of: Mapping[tuple[str, int], Method]) -> None:
            with run.computing():
                for method in of.values():
                    method.step(k)

        ways = {"job": lambda k: step(k, job), "dearest": lambda k: step(k, alone)}
        times = in_turn(ways, run)
        # Cells of a job have the bits that they have alone.
        difference = apart(items_of(job[dearest]), items_of(alone[dearest]), start)
    what = f"{' and '.join(METHODS)} at IPC {', '.join(map(str, grid.ipcs))}, {grid.batch_real} real a class"
    bound = ASKED if run.size == "paper" else None
    figures = (
        agreed(f"{what}: {dearest[0]} at IPC {dearest[1]} in the job and alone apart", difference, run),
        seconds_figure(f"{what}: a step of the job", times["job"], run),
        seconds_figure(f"{what}: a step of the dearest cell", times["dearest"], run),
        ratio(f"{what}: job / dearest cell", times["job"], times["dearest"], run, bound, at_least=False),
    )
    return Report("A grid as one job", figures)


if __name__ == "__main__":
    main(measure, __doc__)
