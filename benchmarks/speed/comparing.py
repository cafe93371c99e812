"""Two or more ways of doing the same work, in one process, in turn: times, ratios, and how they are told.

Every script that compares has one form: ``measure(run)`` gives a :class:`Report`, and :func:`main` reads the command
line, takes over a worker's surroundings, and prints the report as text or, with ``--json``, as JSON. Times of one CPU
thread are those of the processor, which others on the machine do not lengthen; otherwise those of the clock.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

#: glibc: how workers keep freed memory (avbench/executors/local.py); a process must be started with it.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 46)}
#: How far apart two ways may end, relative to the way they went, by size and precision. At 224 × 224 so many ReLUs
#: round to the other side that a float32 gradient of noise is 0.5 to 1.3 % from that in float64, whoever computes it.
#: bfloat16's is 83 % from float32's there; unrelated ones would be 141 % apart.
ROUNDING = {
    ("paper", "float32"): 0.03,
    ("paper", "bfloat16"): 1.1,
    ("small", "float32"): 0.001,
    ("small", "bfloat16"): 1.1,
}


@dataclass(frozen=True)
class Run:
    """How to measure.

    Attributes:
        size: ``paper``: the paper's shapes; ``small``: seconds, to see that a script works.
        rounds: timed turns of each way, after one that warms up.
        precision: of avbench; the plain readings are always in float32.
    """

    size: str = "paper"
    device: str = "cpu"
    threads: int = 1
    rounds: int = 3
    precision: str = "float32"

    @property
    def at(self) -> torch.device:
        """The device as torch's."""
        return torch.device(self.device)

    def computing(self) -> AbstractContextManager[Any]:
        """In which avbench's steps are made."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.at.type, getattr(torch, self.precision))


@dataclass(frozen=True)
class Figure:
    """One number, with what was asked of it: at least, or at most, ``bound``."""

    what: str
    value: float
    unit: str
    bound: float | None = None
    at_least: bool = True
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool | None:
        """Whether it is what was asked; ``None`` where nothing was."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    @property
    def asked(self) -> str:
        """The bound in words."""
        return "" if self.bound is None else f"{'≥' if self.at_least else '≤'} {self.bound:g}"


@dataclass(frozen=True)
class Series:
    """What was measured as one thing grew: ``values`` over ``at``."""

    name: str
    of: str
    unit: str
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class Report:
    """What a script found; ``notes`` are whole sentences, ``series`` what is plotted."""

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    series: tuple[Series, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values, verdicts included."""
        figures = [{**asdict(f), "asked": f.asked, "reached": f.reached} for f in self.figures]
        return {
            "title": self.title,
            "figures": figures,
            "notes": list(self.notes),
            "series": [asdict(s) for s in self.series],
        }


@dataclass(frozen=True)
class Spent:
    """Seconds of a call: on the clock, and of the processor over all threads."""

    clock_s: float
    processor_s: float


def spent(act: Callable[[], object], device: torch.device) -> Spent:
    """How long a call takes, what it started on a GPU included."""
    clock, processor = time.perf_counter(), time.process_time()
    act()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return Spent(time.perf_counter() - clock, time.process_time() - processor)


def in_turn(ways: Mapping[str, Callable[[int], object]], run: Run) -> dict[str, list[Spent]]:
    """Times of each way in each round; way(k) does round ``k``, of which 0 warms up and is left out."""
    found: dict[str, list[Spent]] = {name: [] for name in ways}
    for k in range(run.rounds + 1):
        for name, way in ways.items():
            one = spent(lambda way=way, k=k: way(k), run.at)  # type: ignore[misc]
            if k:
                found[name].append(one)
            print(f"  round {k} of {run.rounds}: {name} {one.clock_s:.2f} s", file=sys.stderr, flush=True)
    return found


def seconds(times: Sequence[Spent], run: Run) -> list[float]:
    """The times that count."""
    of_processor = run.device == "cpu" and run.threads == 1
    return [t.processor_s if of_processor else t.clock_s for t in times]


def seconds_figure(what: str, times: Sequence[Spent], run: Run) -> Figure:
    """The median, the least and the most."""
    found = seconds(times, run)
    return Figure(what, statistics.median(found), "s", least=min(found), most=max(found))


def ratio(
    what: str,
    slow: Sequence[Spent],
    fast: Sequence[Spent],
    run: Run,
    bound: float | None = None,
    at_least: bool = True,
) -> Figure:
    """How many times ``fast`` ``slow`` takes: the median, least and most over the rounds."""
    found = [s / f for s, f in zip(seconds(slow, run), seconds(fast, run), strict=True)]
    return Figure(what, statistics.median(found), "×", bound, at_least, min(found), max(found))


def against_hardware(
    name: str, times: Mapping[str, Sequence[Spent]], slow: str, flop: float, limit: float, run: Run
) -> tuple[Figure, str]:
    """How many times as fast as ``slow`` the necessary convolutions alone could be, and what each way achieves.

    Args:
        flop: of the convolutions that neither way can do without.
        limit: GFLOP/s that the hardware was seen to give.
    """
    work = flop / 1e9
    median = {way: statistics.median(seconds(of, run)) for way, of in times.items()}
    rates = ", ".join(f"{way} {work / s:.0f}" for way, s in median.items())
    return (
        Figure(f"{name}: {slow} / convolutions at the hardware's rate", median[slow] * limit / work, "×"),
        f"{name}: GFLOP/s of convolutions: {rates}; the hardware's {limit:.0f}.",
    )


def apart(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> float:
    """How far two ways end from each other, as a share of how far they went."""
    gap = sum(float((ours[n].detach().double().cpu() - theirs[n].detach().double().cpu()).square().sum()) for n in ours)
    way = sum(float((theirs[n].detach().double().cpu() - start[n].double().cpu()).square().sum()) for n in ours)
    return float((gap / way) ** 0.5) if way else float("inf")


def agreed(what: str, difference: float, run: Run, times: float = 1.0) -> Figure:
    """The difference as a figure; it may be ``times`` as large as rounding is where something enlarges that.

    Raises:
        SystemExit: it is beyond rounding: the ways do not do the same work, and their times say nothing.
    """
    within = times * ROUNDING[run.size, run.precision]
    if not difference <= within:
        sys.exit(f"{what}: {difference:.1e} of the way, beyond {within:g}: this is not the same work.")
    return Figure(what, difference, "", within, at_least=False)


def as_text(report: Report) -> str:
    """A line for each figure."""
    lines = [report.title]
    for f in report.figures:
        spread = "" if f.least is None else f" ({f.least:.3g} to {f.most:.3g})"
        asked = "" if f.bound is None else f"   asked {f.asked}: {'reached' if f.reached else 'NOT REACHED'}"
        lines.append(f"  {f.what}: {f.value:.4g} {f.unit}{spread}{asked}".rstrip())
    return "\n".join([*lines, *(f"  {note}" for note in report.notes)])


def as_a_worker(run: Run) -> None:
    """Threads and determinism as in avbench/worker.py."""
    torch.set_num_threads(run.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def main(measure: Callable[[Run], Report], doc: str | None, argv: Sequence[str] | None = None) -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="paper", choices=["paper", "small"])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1, help="of torch; a worker gets 1 unless told otherwise")
    parser.add_argument("--rounds", type=int, default=3, help="timed turns of each way")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of avbench")
    parser.add_argument("--json", action="store_true", help="print JSON, on one line")
    given = parser.parse_args(argv)
    if given.rounds < 1 or given.threads < 1:
        parser.error("--rounds and --threads are at least 1")
    if given.device == "cpu" and any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ALLOCATOR})
    run = Run(given.size, given.device, given.threads, given.rounds, given.precision)
    as_a_worker(run)
    report = measure(run)
    print(json.dumps(report.to_json()) if given.json else as_text(report), flush=True)
