"""Time and memory of avdd as classes, IPC, clips and steps grow, one at a time.

Command: ``python benchmarks/speed/growth.py``; with ``--json`` also the points, which ``growth.py --draw FILE PLOT``
plots (matplotlib). Every point is a process of its own, forked before anything was computed: seconds of its processor
for all steps, and the peak of its anonymous memory above what was there before the method was built; on a GPU, torch's
count. The exponent is the slope over the last three points where both axes are logarithmic: 1 is linear, 0 does not
grow. By the mathematics time is linear in classes, IPC and steps and does not depend on clips; memory is items, linear
in classes and IPC, and a micro-batch. Steps begin at 64, since the allocator takes some dozens to come to rest.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from budget_pieces import PAPER, generated, sized
from comparing import Figure, Report, Run, Series, main
from memory import peak
from workload import context_of, method_of

from avbench.api import open_store

#: Smaller than the paper's, so that many points take minutes on a CPU.
SHAPES = replace(PAPER, audio_shape=(1, 64, 56), frame_shape=(3, 64, 64), visual_depth=3, audio_depth=3, grid=(8, 8))
BATCH_REAL, MICRO_BATCH, MIB = 8, 16, 2**20
#: Axis: the most that time's and memory's exponents may be.
LINEAR, FLAT = 1.15, 0.15
AXES: Mapping[str, tuple[float, float]] = {
    "classes": (LINEAR, LINEAR),
    "ipc": (LINEAR, LINEAR),
    "clips": (FLAT, FLAT),
    "steps": (LINEAR, FLAT),
}
POINTS: Mapping[str, Mapping[str, tuple[int, ...]]] = {
    "paper": {"classes": (2, 4, 8, 16), "ipc": (2, 4, 8, 16), "clips": (128, 512, 2048), "steps": (64, 256, 1024)},
    "small": {"classes": (1, 2, 4), "ipc": (1, 2, 4), "clips": (32, 64, 128), "steps": (1, 2, 4)},
}


@dataclass(frozen=True)
class Point:
    """A cell: ``clips`` is all training samples together."""

    classes: int = 4
    ipc: int = 4
    clips: int = 64
    steps: int = 3


def spent_by(folder: Path, point: Point, run: Run) -> tuple[float, float]:
    """Seconds of all steps, and peak memory in MiB, of a cell on the store ``paper`` in a folder."""
    store = open_store(folder, "paper")
    context = replace(context_of(store, replace(run, size="small"), point.ipc), micro_batch=MICRO_BATCH)
    clock = time.perf_counter if run.device == "cuda" else time.process_time
    if run.device == "cuda":
        torch.cuda.reset_peak_memory_stats(run.at)
    gc.collect()
    with peak() as found:
        method = method_of("avdd", context, batch_real=BATCH_REAL)
        began = clock()
        for k in range(point.steps):
            with run.computing():
                method.step(k)
        if run.device == "cuda":
            torch.cuda.synchronize(run.at)
        spent_s = clock() - began
    used = torch.cuda.max_memory_allocated(run.at) / MIB if run.device == "cuda" else found[1] - found[0]
    return spent_s, used


def in_a_fork(act: Callable[[], Sequence[float]]) -> list[float]:
    """What a call gives in a copy of this process, whose memory is its own from here on."""
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(readable)
        status = 1
        try:
            os.write(writable, json.dumps(list(act())).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        text = pipe.read()
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise SystemExit("a point could not be measured: its process failed, as it says above.")
    found: list[float] = json.loads(text)
    return found


def measured(point: Point, run: Run) -> tuple[float, float]:
    """A point, on a store of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        per_class = point.clips // point.classes
        generated(folder, sized(SHAPES, (per_class,) * point.classes))
        if run.device == "cuda":
            return spent_by(folder, point, run)
        seconds, mib = in_a_fork(lambda: spent_by(folder, point, run))
        return seconds, mib


def exponent(at: Sequence[float], values: Sequence[float]) -> float:
    """The slope over the last three points, both logarithmic; below 1 of a unit is taken as 1, which is no growth."""
    logs = np.log(np.asarray(at[-3:])), np.log(np.maximum(values[-3:], 1e-3))
    return float(np.polyfit(*logs, 1)[0])


def measure(run: Run) -> Report:
    """All points of all axes."""
    figures, series = [], []
    for axis, bounds in AXES.items():
        at = POINTS[run.size][axis]
        found = []
        for value in at:
            # As many clips as a real batch of each class needs, unless clips are what grows.
            point = replace(Point(clips=16 * max(4, value)) if axis == "classes" else Point(), **{axis: value})
            found.append(measured(replace(point, clips=max(point.clips, 16 * point.classes)), run))
            print(f"  {axis} {value}: {found[-1][0]:.2f} s, {found[-1][1]:.0f} MiB", file=sys.stderr, flush=True)
        for name, unit, values, bound in zip(
            ("time", "memory"), ("s", "MiB"), zip(*found, strict=True), bounds, strict=True
        ):
            asked = bound if run.size == "paper" else None
            figures.append(Figure(f"{name} over {axis}: exponent", exponent(at, values), "", asked, at_least=False))
            series.append(Series(axis, name, unit, tuple(float(x) for x in at), tuple(values)))
    return Report("Growth of avdd", tuple(figures), series=tuple(series))


def draw(series: Sequence[Mapping[str, object]], plot: Path) -> None:
    """A panel for each axis and quantity, both axes logarithmic, with a dashed line that is linear."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(str(each["name"]) for each in series))
    figure, panels = plt.subplots(2, len(names), figsize=(3.2 * len(names), 5.6), squeeze=False)
    for each in series:
        panel = panels[0 if each["of"] == "time" else 1][names.index(str(each["name"]))]
        at, values = np.asarray(each["at"], dtype=float), np.asarray(each["values"], dtype=float)
        panel.loglog(at, values, "o-")
        panel.loglog(at, values[-1] * at / at[-1], "--", color="grey", linewidth=1)
        panel.set_xlabel(str(each["name"]))
        panel.set_ylabel(f"{each['of']}, {each['unit']}")
    figure.tight_layout()
    figure.savefig(plot)
    plt.close(figure)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--draw"]:
        draw(json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))["series"], Path(sys.argv[3]))
    else:
        main(measure, __doc__)
