"""Starting up: ``avbench --help`` and ``avbench list``, and planning 10,000 jobs of which none, then all, are done.

Command: ``python benchmarks/speed/start_up.py``. The verbs are processes of their own, in turn; the first start of each
is left out. Planning is that of planning.py, imports aside. What is asked: ``--help`` in 0.5 s, planning in 5 s,
recognising a finished grid in 10 s. Verbs are timed by the clock and by the processor; on a busy machine the latter
holds, and it is what is held against the bound.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

import planning
from comparing import Figure, Report, Run, main

START = "import sys; from avbench.cli import main; sys.exit(main())"
#: Arguments, and the most seconds that were asked for.
VERBS: tuple[tuple[tuple[str, ...], float | None], ...] = ((("--help",), 0.5), (("list",), None))
#: Variants, IPCs and seeds of the planned grid; each cell is judged once.
GRIDS = {"paper": (50, 20, 5), "small": (4, 3, 2)}
PLANNED_S, RECOGNISED_S = 5.0, 10.0


def started(arguments: Sequence[str]) -> tuple[float, float]:
    """Seconds of one process: on the clock, and of the processor."""
    command = [sys.executable, "-c", START, *arguments]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"avbench {' '.join(arguments)} ended with exit status {process.returncode}.")
    return time.perf_counter() - began, used.ru_utime + used.ru_stime


def measure(run: Run) -> Report:
    """Medians of the verbs, and one plan each way."""
    found: dict[tuple[str, ...], list[tuple[float, float]]] = {verb: [] for verb, _ in VERBS}
    for k in range(run.rounds + 1):
        for verb, times in found.items():
            one = started(verb)
            if k:
                times.append(one)
    figures = []
    for verb, bound in VERBS:
        by_clock, by_processor = (list(values) for values in zip(*found[verb], strict=True))
        name = f"avbench {' '.join(verb)}"
        median, bounded = statistics.median(by_processor), bound if run.size == "paper" else None
        spread = min(by_processor), max(by_processor)
        figures.append(Figure(f"{name}: by the processor", median, "s", bounded, False, *spread))
        median, spread = statistics.median(by_clock), (min(by_clock), max(by_clock))
        figures.append(Figure(f"{name}: on the clock", median, "s", None, False, *spread))
    none, all_ = planning.both(*GRIDS[run.size])
    bounds = (PLANNED_S, RECOGNISED_S) if run.size == "paper" else (None, None)
    figures += [
        Figure(f"planning {none.tasks} tasks, none done", none.seconds, "s", bounds[0], at_least=False),
        Figure(f"planning {all_.tasks} tasks, {all_.done} done", all_.seconds, "s", bounds[1], at_least=False),
    ]
    return Report("Starting up", tuple(figures))


if __name__ == "__main__":
    main(measure, __doc__)
