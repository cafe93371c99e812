"""An iteration of mtt: avbench's adjoint against a plain unroll that keeps every graph; time and memory.

Command: ``python benchmarks/speed/unrolling.py [--device cuda]``. Before a time counts, the gradients with respect to
items and step size are compared. Memory is the peak of one iteration above what lay in memory before it, of a process
of its own on a CPU (resident), torch's count on a GPU. Shapes are the paper's; on a CPU inner steps and batches are
fewer than Table 9's, as CASES says. trajectory.py measures the truncated form, too, and its error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from budget_pieces import in_a_process, peak_of
from comparing import Figure, Report, Run, agreed, as_a_worker, in_turn, main, ratio, seconds_figure
from plain.network import PlainNetwork, form_of
from plain.unrolling import unrolled
from torch import Tensor
from workload import SHAPES, WIDTHS

from avbench.api import Augmentation, Classifier, InnerStep, Streams, Student, inner_steps, match_trajectory
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig

OPS = "color_crop_cutout_flip_scale_rotate"
STEP_SIZE, MIB = 1e-3, 2**20


@dataclass(frozen=True)
class Case:
    """A modality, inner steps T, items of each."""

    modality: str
    steps: int
    batch: int


CASES: Mapping[tuple[str, str], tuple[Case, ...]] = {
    ("paper", "cpu"): (Case("a", 5, 4), Case("v", 3, 2)),
    ("paper", "cuda"): (Case("a", 10, 20), Case("v", 5, 5)),
    ("small", "cpu"): (Case("a", 3, 2), Case("v", 3, 2)),
    ("small", "cuda"): (Case("a", 3, 2), Case("v", 3, 2)),
}
#: The most that was asked for.
ASKED = 1.5
Gradients = dict[str, Tensor]


def ways_of(case: Case, run: Run) -> dict[str, Callable[[int], Gradients]]:
    """Both ways by name, on the same random items, parameters and training steps."""
    info = replace(SHAPES[run.size], classes=tuple("0123456789"))
    architecture = ConvNetArchitecture(ConvNetConfig(width=WIDTHS[run.size]))
    network = Classifier(architecture, info, case.modality).to(run.at)
    plain = PlainNetwork(form_of(info, case.modality, WIDTHS[run.size])).to(run.at)
    rng = torch.Generator().manual_seed(0)
    start = network.flatten(network.draw(Streams(0), "benchmark", step=0)).to(run.at)
    target = start + 0.01 * torch.randn(start.shape, generator=rng).to(run.at)
    items = torch.randn(case.batch, *info.shape(case.modality), generator=rng).to(run.at)
    labels = torch.arange(case.batch, device=run.at) % 10
    student = Student(network, labels, 1, 256)

    def steps_of(k: int) -> list[InnerStep]:
        return inner_steps(np.random.default_rng(k), case.steps, case.batch, case.batch, 1, Augmentation(OPS))

    def adjoint(k: int) -> Gradients:
        with run.computing():
            found = match_trajectory(student, items, STEP_SIZE, steps_of(k), start, target)
        return {"items": found.items, "step size": found.step_size}

    def unroll(k: int) -> Gradients:
        steps = [(torch.from_numpy(s.rows).to(run.at), s.transform.op, s.transform.units) for s in steps_of(k)]
        over_items, over_step = unrolled(plain, items, labels, STEP_SIZE, steps, start, target)
        return {"items": over_items, "step size": over_step}

    return {"adjoint": adjoint, "unrolled": unroll}


def peak_mib(case: Case, way: str, run: Run) -> float:
    """Peak memory of one iteration."""
    if run.device == "cuda":
        return peak_of(lambda: _once(case, way, run), run.at)[0] / MIB
    arguments = (case.modality, str(case.steps), str(case.batch), way, run.size)
    return float(in_a_process(__file__, "--peak", *arguments)["peak"]) / MIB


def _once(case: Case, way: str, run: Run) -> Callable[[], object]:
    act = ways_of(case, run)[way]
    return lambda: act(0)


def print_peak(arguments: list[str]) -> None:
    """In a process of its own: the peak of one iteration, in bytes, as JSON."""
    run = Run(size=arguments[4])
    case = Case(arguments[0], int(arguments[1]), int(arguments[2]))
    as_a_worker(run)
    _once(replace(case, steps=1, batch=1), arguments[3], replace(run, size="small"))()  # what torch sets up at first
    print(json.dumps({"peak": peak_of(lambda: _once(case, arguments[3], run), run.at)[0]}))


def compare(case: Case, run: Run) -> list[Figure]:
    """Figures of one case."""
    ways = ways_of(case, run)
    ours, theirs = ways["adjoint"](0), ways["unrolled"](0)
    name = f"mtt {case.modality}, T = {case.steps}, {case.batch} items a step"
    gaps = {n: float((ours[n] - theirs[n]).norm() / theirs[n].norm()) for n in theirs}
    times = in_turn(ways, run)
    peaks = {way: peak_mib(case, way, run) for way in ways}
    bound = ASKED if run.size == "paper" else None
    return [
        *(agreed(f"{name}: gradient of the {n}, relative difference", gap, run) for n, gap in gaps.items()),
        *(seconds_figure(f"{name}: {way}", times[way], run) for way in times),
        ratio(f"{name}: adjoint / unrolled, time", times["adjoint"], times["unrolled"], run, bound, at_least=False),
        *(Figure(f"{name}: {way}, peak", peak, "MiB") for way, peak in peaks.items()),
        Figure(f"{name}: adjoint / unrolled, memory", peaks["adjoint"] / peaks["unrolled"], "×"),
    ]


def measure(run: Run) -> Report:
    """All cases of a size."""
    figures = [figure for case in CASES[run.size, run.device] for figure in compare(case, run)]
    return Report("An iteration of trajectory matching", tuple(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print_peak(sys.argv[2:])
    else:
        main(measure, __doc__)
