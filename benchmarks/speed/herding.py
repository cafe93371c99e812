"""Herding as many features as VGGSound has, 165,000 × 12,544, against the loop that compares every candidate's mean.

Command: ``python benchmarks/speed/herding.py``. Herding goes class by class; a class of VGGSound has 534 clips, and
avdd at IPC 20 takes 80 of them. Both choices are compared before a time counts. The time of all 309 classes is that of
one times 309, embedding not included. *Quadratic*: at each turn the mean that each free candidate would give is made
and compared, as published loops do, a candidate at a time.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from comparing import Figure, Report, Run, in_turn, main, ratio, seconds, seconds_figure
from torch import Tensor

from avbench.api import herd


@dataclass(frozen=True)
class Case:
    """Samples of a class, their features, how many are chosen by avbench, how many by the loop, classes in all."""

    samples: int
    features: int
    chosen: int
    by_loop: int
    classes: int


CASES: Mapping[str, Case] = {"paper": Case(534, 12_544, 80, 8, 309), "small": Case(20, 16, 8, 8, 3)}
#: Minutes.
ASKED_S = 600.0


def by_loop(features: Tensor, count: int) -> list[int]:
    """The same choice, candidate by candidate; features (N, D)."""
    mean, chosen = features.double().mean(dim=0), list[int]()
    for turn in range(count):
        distances = []
        for row in range(len(features)):
            if row in chosen:
                distances.append(float("inf"))
                continue
            of_these = features[[*chosen, row]].double().sum(dim=0)  # (D,)
            distances.append(float(torch.norm(mean * (turn + 1) - of_these)))
        chosen.append(min(range(len(features)), key=distances.__getitem__))
    return chosen


def measure(run: Run) -> Report:
    """One class both ways; the whole by multiplication."""
    case = CASES[run.size]
    features = torch.randn(case.samples, case.features, generator=torch.Generator().manual_seed(0))
    if herd(features, case.by_loop) != by_loop(features, case.by_loop):
        raise SystemExit("herding: the ways choose differently: this is not the same work.")
    ways = {
        "all of them": lambda k: herd(features, case.chosen),
        "a few": lambda k: herd(features, case.by_loop),
        "a few by the loop": lambda k: by_loop(features, case.by_loop),
    }
    times = in_turn(ways, run)
    whole = case.classes * statistics.median(seconds(times["all of them"], run))
    name = f"{case.chosen} of {case.samples} × {case.features:,}"
    moved = case.chosen * features.numel() * 8 / statistics.median(seconds(times["all of them"], run)) / 1e9
    figures = (
        seconds_figure(f"{name}: one class", times["all of them"], run),
        Figure(f"{name}: {case.classes} classes", whole, "s", ASKED_S if run.size == "paper" else None, at_least=False),
        ratio(f"{case.by_loop} of {case.samples}: loop / avbench", times["a few by the loop"], times["a few"], run),
    )
    return Report("Herding", figures, (f"Features are read at {moved:.1f} GB/s, counted once a choice in float64.",))


if __name__ == "__main__":
    main(measure, __doc__)
