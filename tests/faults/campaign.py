"""The fault campaign: make things go wrong at seeded moments, run the same command again, count what holds.

    python tests/faults/campaign.py                            # 100 kills and ten of each other fault
    python tests/faults/campaign.py --moments 10 --others 1 --brief    # the short form, which the tests run
    python tests/faults/campaign.py --faults disk-full,clock-back --seed 7 --out faults.json

docs/faults.md says what each fault is and what is held after it. Some need root
(a small file system, another user): where they can't be made the table says so. Exit status 3 where something does
not hold.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

# Before NumPy and torch are imported: this process is forked.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from faults.scene import KINDS, Scene, Trial
from faults.trials import FAULTS, KILLS, Impossible

_NEEDED = ("avbench.cli.running", "avbench.cli.status_text", "avbench.cli.progress", "avbench.cli.stopping")
_NEEDED += ("avbench.data.making", "avbench.executors.local", "avbench.tuning", "avbench_methods.dm")
_NEEDED += ("avbench_datasets.video_folder", "avbench.environment")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    asked = _parser().parse_args(arguments)
    names = asked.faults.split(",") if asked.faults else list(FAULTS)
    if unknown := set(names) - FAULTS.keys():
        print(f"unknown faults: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}", file=sys.stderr)
        return 2
    _import_all()
    trials: list[Trial] = []
    impossible: dict[str, str] = {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="faults-") as root:
        Path(root).chmod(0o755)  # another user works below it
        scene = Scene(Path(root), random.Random(asked.seed), KINDS[-1:] if asked.brief else KINDS)
        for name in _order(names, asked.moments, asked.others, scene.rng):
            if asked.longest_s and time.monotonic() - began > asked.longest_s:
                break
            try:
                trials.append(_one(name, scene))
            except Impossible as error:
                impossible[name] = str(error)
            except OSError as error:  # the machine did not let us: no trial of avbench
                print(f"{name} could not be made: {error}", file=sys.stderr, flush=True)
    duration_s = round(time.monotonic() - began)
    if asked.out is not None:
        about = {"date": time.strftime("%Y-%m-%d"), "machine": _machine(), "seed": asked.seed, "duration_s": duration_s}
        found = {**about, "impossible": impossible, "trials": [asdict(trial) for trial in trials]}
        asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(trials, impossible))
    print(f"{len(trials)} faults in {duration_s} s, seed {asked.seed}, on {_machine()}")
    return 3 if any(trial.problems for trial in trials) else 0


def _machine() -> str:
    return f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", help=f"names, separated by commas; default all: {', '.join(FAULTS)}")
    parser.add_argument("--moments", type=int, default=100, help="kills, over the three kinds of process")
    parser.add_argument("--others", type=int, default=10, help="how often each other fault is made to happen")
    parser.add_argument("--brief", action="store_true", help="make the other faults happen in evaluations alone")
    parser.add_argument("--longest-s", type=float, help="seconds after which no further fault is begun")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--out", type=Path, help="a file for the results, JSON")
    return parser


def _order(names: list[str], moments: int, others: int, rng: random.Random) -> list[str]:
    """Which faults happen, in which order; the kills shared out among the kinds that are asked for."""
    kills = [name for name in KILLS if name in names]
    found = [kills[number % len(kills)] for number in range(moments)] if kills else []
    found += [name for name in names if name not in KILLS for _ in range(others)]
    rng.shuffle(found)  # a campaign that is cut short has met them all
    return found


def _one(name: str, scene: Scene) -> Trial:
    began = time.monotonic()
    trial = FAULTS[name](scene)
    trial.duration_s = round(time.monotonic() - began, 1)
    held = "; ".join(trial.problems) or "holds"
    print(f"{name} at {trial.moment}, {trial.duration_s:.1f} s: {held}", file=sys.stderr, flush=True)
    return trial


def table(trials: list[Trial], impossible: dict[str, str]) -> str:
    """The counts, as markdown."""
    lines = [
        "| fault | times | rerun finished | records identical | nothing half read | other problems |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name in FAULTS:
        of = [trial for trial in trials if trial.fault == name]
        if name in impossible:
            lines.append(f"| {name} | not made: {impossible[name]} | | | | |")
        elif of:
            held = [sum(getattr(trial, what) for trial in of) for what in ("finished", "identical", "whole")]
            other = sum(bool(t.problems) and t.finished and t.identical and t.whole for t in of)
            lines.append(f"| {name} | {len(of)} | " + " | ".join(map(str, held)) + f" | {other} |")
    return "\n".join(lines)


def _import_all() -> None:
    """What a run and a preparation import, so that forked ones begin at once."""
    for name in _NEEDED:
        importlib.import_module(name)
    torch.set_num_threads(1)


if __name__ == "__main__":
    sys.exit(main())
