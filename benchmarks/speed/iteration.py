"""One iteration of dm and of avdd: avbench against plain readings of both published scripts.

Command: ``python benchmarks/speed/iteration.py [--device cuda]``. *Joint*: the script that loops over classes and steps
one optimiser over all items once a class. *Class-wise*: fresh networks and saved real means for each class; one step
of both its passes. All do the same iterations in turn, with the same networks, real batches and ops. Before a time
counts, what the first iteration did to the items is compared; later ones enlarge what rounding left.

Shapes are the paper's. On a CPU a class has 4 real samples a step and few items, as CASES says; on a GPU 128 real
samples and the published IPCs. FLOP/s count the convolutions that a step cannot do without, not what is done again. *At
the hardware's rate*: those convolutions alone, at the best float32 rate that peak.py finds. No ratio can be larger than
that where both ways compute them in float32 and directly.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import peak
import torch
from comparing import Figure, Report, Run, against_hardware, agreed, apart, in_turn, main, ratio, seconds_figure
from plain.matching import ClassWise, Joint
from torch import Tensor
from workload import context_of, flop_of_step, items_of, method_of, plain_cell, store_of


@dataclass(frozen=True)
class Case:
    """A cell to iterate, and how many rows of each class its store has."""

    method: str
    ipc: int
    classes: int
    batch_real: int
    rows: int


CASES: Mapping[tuple[str, str], tuple[Case, ...]] = {
    ("paper", "cpu"): (Case("dm", 1, 10, 4, 8), Case("avdd", 1, 10, 4, 8), Case("dm", 10, 2, 16, 20)),
    ("paper", "cuda"): tuple(Case(name, ipc, 10, 128, 256) for name in ("dm", "avdd") for ipc in (1, 10, 20)),
    ("small", "cpu"): (Case("dm", 2, 3, 4, 8), Case("avdd", 2, 3, 4, 8)),
    ("small", "cuda"): (Case("dm", 2, 3, 4, 8), Case("avdd", 2, 3, 4, 8)),
}
#: How many times as fast was asked for, by size and device.
ASKED: Mapping[tuple[str, str], float] = {("paper", "cpu"): 3.0, ("paper", "cuda"): 5.0}


def compare(case: Case, run: Run, folder: Path, limit: float) -> tuple[list[Figure], str]:
    """Figures of one case, and a sentence on its floating-point operations; ``limit`` in GFLOP/s."""
    store = store_of(folder / "store", run, case.classes, case.rows)
    ours = method_of(case.method, context_of(store, run, case.ipc), batch_real=case.batch_real)
    cell = plain_cell(store, ours, run, run.rounds + 1)
    joint, class_wise = Joint(cell), ClassWise(cell, folder)
    first: dict[str, dict[str, Tensor]] = {}

    def step(k: int) -> None:
        with run.computing():
            ours.step(k)
        if k == 0:
            first["avbench"] = {name: x.clone() for name, x in items_of(ours).items()}

    def iterate(k: int) -> None:
        joint.iteration(k)
        if k == 0:
            first["joint"] = {name: g.clone() for name, g in joint.gradients.items()}

    def follow(k: int) -> None:
        class_wise.iteration(k)
        if k == 0:
            first["class-wise"] = class_wise.whole()

    times = in_turn({"avbench": step, "joint": iterate, "class-wise": follow}, run)
    start = {name: x.to(run.at) for name, x in cell.start.items()}
    # Without momentum of steps before, the first step is the gradient times the rate.
    moved = {name: start[name] - cell.lr * gradient for name, gradient in first["joint"].items()}
    name = f"{case.method}, {case.classes} classes, {case.batch_real} real a class, IPC {case.ipc}"
    figures = [
        agreed(f"{name}: joint apart after the first step", apart(first["avbench"], moved, start), run),
        agreed(
            f"{name}: class-wise apart after the first step", apart(first["avbench"], first["class-wise"], start), run
        ),
        *(seconds_figure(f"{name}: {way}", times[way], run) for way in times),
        *(
            ratio(f"{name}: {way} / avbench", times[way], times["avbench"], run, ASKED.get((run.size, run.device)))
            for way in ("joint", "class-wise")
        ),
    ]
    bound, note = against_hardware(name, times, "joint", flop_of_step(cell), limit, run)
    return [*figures, bound], note


def measure(run: Run) -> Report:
    """All cases of a size."""
    figures, notes = [], []
    limit = peak.limit(run)
    for case in CASES[run.size, run.device]:
        with tempfile.TemporaryDirectory() as folder:
            found, note = compare(case, run, Path(folder), limit)
        figures += found
        notes.append(note)
        if run.device == "cuda":
            torch.cuda.empty_cache()
    return Report("One iteration of distribution matching", tuple(figures), tuple(notes))


if __name__ == "__main__":
    main(measure, __doc__)
