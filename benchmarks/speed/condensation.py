"""A step of dc and of dsa: avbench against a plain reading that keeps the graphs of all classes.

Command: ``python benchmarks/speed/condensation.py [--device cuda]``. Both make the same steps in turn, with the same
networks, real batches, ops and trainings; before a time counts, what the first did to the items is compared. Shapes are
the paper's. On a CPU, cells are smaller, as CASES says: one outer step as at IPC 1, and one cell with trainings of the
network between outer steps as at higher IPCs. Memory is measured by gradient_matching.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peak
import torch
from comparing import Figure, Report, Run, against_hardware, agreed, apart, in_turn, main, ratio, seconds_figure
from plain.condensation import Condensation, CondensationDraws, Omega, Rows
from plain.network import form_of, matched_flop, training_flop
from torch import Tensor
from workload import WIDTHS, context_of, in_memory, items_of, method_of, store_of

from avbench.api import Augmentation, Classifier, Context, GradientDraws, Store
from avbench_methods.dc import DCConfig


@dataclass(frozen=True)
class Case:
    """A cell, its loops, and how many rows of each class its store has."""

    method: str
    ipc: int
    classes: int
    batch_real: int
    outer: int
    inner: int
    rows: int


CASES: Mapping[tuple[str, str], tuple[Case, ...]] = {
    ("paper", "cpu"): (Case("dc", 1, 4, 4, 1, 0, 6), Case("dsa", 1, 4, 4, 1, 0, 6), Case("dsa", 1, 2, 4, 2, 1, 6)),
    ("paper", "cuda"): tuple(Case(name, 1, 10, 256, 1, 0, 300) for name in ("dc", "dsa")),
    ("small", "cpu"): (Case("dc", 2, 2, 4, 2, 2, 6), Case("dsa", 2, 2, 4, 2, 2, 6)),
    ("small", "cuda"): (Case("dc", 2, 2, 4, 2, 2, 6), Case("dsa", 2, 2, 4, 2, 2, 6)),
}
#: How many times as fast was asked for.
ASKED = 3.0


def draws_of(context: Context, config: DCConfig) -> CondensationDraws:
    """avbench's draws as the plain reading takes them; networks of all steps are drawn before any is timed."""
    augmentation, count = Augmentation(config.augment), len(context.labels)
    of_class = GradientDraws(context, config.batch_real, augmentation, config.omega_per_class)
    known: dict[tuple[str, int], list[Tensor]] = {}
    for name in context.setting.modality:
        network = Classifier(context.architecture, context.setting.dataset, name)
        for k in range(config.steps):
            known[name, k] = list(network.draw(context.streams, "matching network", k).values())

    def omega(k: int, outer: int, cls: int) -> Omega:
        transform = of_class.siamese(k, outer, cls)
        return transform.op, transform.units

    def epoch(k: int, outer: int, inner: int) -> Sequence[tuple[Rows, Omega]]:
        rng, found = of_class.epoch(k, outer, inner), []
        order = rng.permutation(count)
        for rows in np.split(order, range(config.batch_train, count, config.batch_train)):
            transform = augmentation.per_sample(rng, len(rows))
            found.append((rows, (transform.op, transform.units)))
        return found

    return CondensationDraws(lambda name, k: known[name, k], of_class.real_rows, omega, epoch)


def flop_of(case: Case, plain: Condensation) -> float:
    """Operations of the convolutions that a step cannot do without."""
    forms, trainings = plain.forms.values(), (case.outer - 1) * case.inner
    matched = sum(case.batch_real * training_flop(form) + case.ipc * matched_flop(form) for form in forms)
    trained = sum(case.ipc * training_flop(form) for form in forms)
    return case.classes * (case.outer * matched + trainings * trained)


def compare(case: Case, run: Run, store: Store, limit: float) -> tuple[list[Figure], str]:
    """Figures of one case, and a sentence on its floating-point operations; ``limit`` in GFLOP/s."""
    loops = {"outer": case.outer, "inner": case.inner, "steps": run.rounds + 1}
    context = context_of(store, run, case.ipc)
    ours = method_of(case.method, context, batch_real=case.batch_real, **loops)
    config = ours.config
    start = items_of(ours)
    items = {name: x.clone().requires_grad_(True) for name, x in start.items()}
    plain = Condensation(
        forms={name: form_of(store.info, name, WIDTHS[run.size]) for name in start},
        data=in_memory(store, context.setting.modality),
        items=items,
        draws=draws_of(context, config),
        classes=case.classes,
        ipc=case.ipc,
        outer=case.outer,
        inner=case.inner,
        lr_net=config.lr_net,
        device=run.at,
    )
    optimiser = torch.optim.SGD(list(items.values()), lr=config.lr, momentum=config.momentum)

    first: dict[str, dict[str, Tensor]] = {}

    def step(k: int) -> None:
        with run.computing():
            ours.step(k)
        if k == 0:
            first["avbench"] = {name: x.clone() for name, x in items_of(ours).items()}

    def by_plain(k: int) -> None:
        plain.step(k, optimiser)
        if k == 0:
            first["plain"] = {name: x.detach().clone() for name, x in items.items()}

    times = in_turn({"avbench": step, "plain": by_plain}, run)
    name = f"{case.method}, {case.classes} classes, {case.batch_real} real a class, IPC {case.ipc}, {case.outer} outer"
    bound, note = against_hardware(name, times, "plain", flop_of(case, plain), limit, run)
    figures = [
        agreed(f"{name}: apart after the first step", apart(first["avbench"], first["plain"], start), run, case.outer),
        *(seconds_figure(f"{name}: {way}", times[way], run) for way in times),
        ratio(
            f"{name}: plain / avbench", times["plain"], times["avbench"], run, ASKED if run.size == "paper" else None
        ),
        bound,
    ]
    return figures, note


def measure(run: Run) -> Report:
    """All cases of a size."""
    figures, notes = [], []
    limit = peak.limit(run)
    for case in CASES[run.size, run.device]:
        with tempfile.TemporaryDirectory() as folder:
            found, note = compare(case, run, store_of(Path(folder), run, case.classes, case.rows), limit)
        figures += found
        notes.append(note)
    return Report("A step of gradient matching", tuple(figures), tuple(notes))


if __name__ == "__main__":
    main(measure, __doc__)
