"""All that avbench costs, with one command: every script in turn, then one dated table.

Command: ``python benchmarks/speed/all.py [--quick] [--device cuda] [--out FILE]``. Each script is a process of its own,
whose highest resident memory is noted. The table, its figures as JSON and the plot of growth are written to
benchmarks/speed/results, named by date and device, or beside FILE. ``--quick`` takes small sizes, to see that all
works: nothing is asked of its times. ``--only`` runs some of the scripts. The exit status is 1 where a script failed; a
figure that falls short of what was asked is marked and is no failure.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from growth import draw
from machine import commit, machine
from tabulate import tabulate

HERE = Path(__file__).parent
#: In this order; the number of timed rounds on a CPU at the paper's sizes.
SCRIPTS: Mapping[str, int] = {
    "peak": 5,
    "iteration": 3,
    "grid": 1,
    "evaluation": 3,
    "condensation": 3,
    "unrolling": 3,
    "herding": 3,
    "process": 1,
    "growth": 1,
    "start_up": 5,
}


@dataclass(frozen=True)
class Outcome:
    """A script that was run: its report, or why there is none; its seconds and highest resident memory."""

    script: str
    report: Mapping[str, Any] | None
    reason: str
    seconds: float
    resident_mib: float

    def to_json(self) -> dict[str, Any]:
        """As JSON-able values."""
        resident = {"seconds": self.seconds, "resident_mib": self.resident_mib}
        return {"script": self.script, "report": self.report, "reason": self.reason, **resident}


def outcome(script: str, options: Sequence[str]) -> Outcome:
    """Run one script."""
    command = [sys.executable, str(HERE / f"{script}.py"), "--json", *options]
    print(f"{script} …", file=sys.stderr, flush=True)
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    text = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    spent_s, resident_mib = time.perf_counter() - began, used.ru_maxrss / 1024
    if process.returncode:
        return Outcome(script, None, f"exit status {process.returncode}", spent_s, resident_mib)
    return Outcome(script, json.loads(text.splitlines()[-1]), "", spent_s, resident_mib)


def shown(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def rows_of(report: Mapping[str, Any]) -> list[list[str]]:
    """A row for each figure."""
    rows = []
    for f in report["figures"]:
        spread = "" if f["least"] is None else f"{shown(f['least'])} to {shown(f['most'])}"
        verdict = {True: "reached", False: "**NO**", None: ""}[f["reached"]]
        rows.append([f["what"], f"{shown(f['value'])} {f['unit']}".strip(), spread, f["asked"], verdict])
    return rows


def page(outcomes: Sequence[Outcome], about: Mapping[str, str], plot: str) -> str:
    """The table as Markdown."""
    lines = [f"# What avbench costs: {about['date']}", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += [
        "Medians, with the least and most of the rounds. Ratios are of the same round. A difference between ways is a "
        "share of the way that both went. Each script says in its head what it does.",
        "",
    ]
    for each in outcomes:
        title = each.report["title"] if each.report else each.script
        lines += [f"## {title}", ""]
        if each.report is None:
            lines += [f"`{each.script}.py` failed: {each.reason}.", ""]
            continue
        headers = ["", "figure", "spread", "asked", ""]
        lines += [tabulate(rows_of(each.report), headers, tablefmt="pipe", disable_numparse=True), ""]
        lines += [f"{note}\n" for note in each.report["notes"]]
        if each.report["series"] and plot:
            lines += [f"![time and memory as classes, IPC, clips and steps grow]({plot})", ""]
        lines += [f"`{each.script}.py`: {each.seconds:.0f} s, at most {each.resident_mib:,.0f} MiB resident.", ""]
    return "\n".join(lines)


def write(outcomes: Sequence[Outcome], about: Mapping[str, str], out: Path) -> None:
    """The table, the figures and the plot."""
    out.parent.mkdir(parents=True, exist_ok=True)
    plot = ""
    for each in outcomes:
        if each.report is not None and each.report["series"]:
            plot = f"{out.stem}-{each.script}.svg"
            draw(each.report["series"], out.with_name(plot))
    out.write_text(page(outcomes, about, plot), encoding="utf-8")
    values = {"about": dict(about), "scripts": [each.to_json() for each in outcomes]}
    out.with_suffix(".json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the scripts and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, help="timed rounds of every script, in place of its own")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16"], help="of avbench")
    parser.add_argument("--only", help="names of scripts, separated by commas")
    parser.add_argument("--out", type=Path, help="where the table goes; by default results/DATE-DEVICE.md")
    given = parser.parse_args(argv)
    wanted = given.only.split(",") if given.only else list(SCRIPTS)
    unknown = [name for name in wanted if name not in SCRIPTS]
    if unknown:
        parser.error(f"--only: {', '.join(unknown)} is not one of {', '.join(SCRIPTS)}")
    size = "small" if given.quick else "paper"
    common = ["--size", size, "--device", given.device, "--threads", str(given.threads)]
    common += ["--precision", given.precision]
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    about = {
        "date": date,
        "machine": machine(given.device),
        "commit": commit(),
        "threads": str(given.threads),
        "sizes": size,
        "precision of avbench": f"{given.precision}; the plain readings are in float32",
    }
    rounds = {name: given.rounds or (1 if given.quick else SCRIPTS[name]) for name in wanted}
    outcomes = [outcome(name, [*common, "--rounds", str(rounds[name])]) for name in wanted]
    out = given.out or HERE / "results" / f"{date}-{given.device}{'-quick' if given.quick else ''}.md"
    write(outcomes, about, out)
    print(out.read_text(encoding="utf-8"))
    return 1 if any(each.report is None for each in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
