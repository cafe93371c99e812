"""Memory of a whole process that distils, as the data set grows: avbench against the joint script of plain.matching.

Command: ``python benchmarks/speed/process.py``. Each way makes two steps of dm in a process of its own, imports, torch
and all, on stores of two sizes at the paper's shapes; its highest anonymous memory counts, since pages that are mapped
from a file go when others need the room. A straight line through both gives what a set of VGGSound's size would take.
Networks are 8 wide: what grows with clips is what is looked at. Writing and auditing stores is measured by memory.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from budget_pieces import generated, sized
from comparing import ALLOCATOR, Figure, Report, Run, as_a_worker, main
from memory import VGGSOUND_CLIPS, peak
from plain.matching import Joint
from workload import SHAPES, context_of, method_of, plain_cell

from avbench.api import open_store

#: Clips of both stores.
CLIPS: Mapping[str, tuple[int, int]] = {"paper": (500, 1500), "small": (40, 80)}
CLASSES, BATCH_REAL, STEPS = 10, 8, 2
ASKED_MIB = 2048.0


def print_peak(folder: Path, way: str, size: str, device: str) -> None:
    """In a process of its own: its highest anonymous memory in MiB, as JSON."""
    run = Run(size=size, device=device)
    as_a_worker(run)
    with peak() as found:
        store = open_store(folder, SHAPES[size].name)
        context = context_of(store, Run(size="small", device=device), 1)
        method = method_of("dm", context, batch_real=BATCH_REAL)
        if way == "avbench":
            for k in range(STEPS):
                method.step(k)
        else:
            joint = Joint(plain_cell(store, method, Run(size="small", device=device), STEPS))
            for k in range(STEPS):
                joint.iteration(k)
    print(json.dumps(found[1]))


def peak_mib(folder: Path, way: str, run: Run) -> float:
    """The same, from outside."""
    command = [sys.executable, __file__, "--peak", str(folder), way, run.size, run.device]
    done = subprocess.run(command, env={**os.environ, **ALLOCATOR}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{way}: {done.stderr.strip()[-2000:]}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def measure(run: Run) -> Report:
    """Both ways at both sizes."""
    found: dict[str, list[float]] = {"avbench": [], "joint": []}
    for clips in CLIPS[run.size]:
        with tempfile.TemporaryDirectory() as temporary:
            generated(Path(temporary), sized(SHAPES[run.size], (clips // CLASSES,) * CLASSES))
            for way, peaks in found.items():
                peaks.append(peak_mib(Path(temporary), way, run))
                print(f"  {clips} clips, {way}: {peaks[-1]:.0f} MiB", file=sys.stderr, flush=True)
    few, many = CLIPS[run.size]
    figures = []
    for way, (low, high) in found.items():
        slope = max(0.0, (high - low) / (many - few))
        whole = high + slope * (VGGSOUND_CLIPS - many)
        asked = ASKED_MIB if way == "avbench" and run.size == "paper" else None
        figures += [
            Figure(f"{way}: whole process, {many:,} clips", high, "MiB"),
            Figure(f"{way}: whole process, 1,000 clips more", 1000 * slope, "MiB"),
            Figure(f"{way}: whole process, expected at {VGGSOUND_CLIPS:,} clips", whole, "MiB", asked, at_least=False),
        ]
    return Report("Memory of a whole process", tuple(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--peak"]:
        print_peak(Path(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5])
    else:
        main(measure, __doc__)
