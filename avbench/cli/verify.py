"""``avbench verify``: are results whole, and do recorded sets score what is recorded?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.stopping import stoppable

if TYPE_CHECKING:
    from avbench.verification.agreement import Verdict
    from avbench.verification.integrity import Results
    from avbench.verification.reevaluation import Bench

_AGAIN = "Judging again"


def verify(
    directory: Path = typer.Argument(help="A run directory, or a submission: its folder or .tar.gz."),
    data: Path | None = typer.Option(
        None, help="Judge recorded sets again on the stores under this folder.", rich_help_panel=_AGAIN
    ),
    networks: int | None = typer.Option(None, min=1, help="The first so many of each.", rich_help_panel=_AGAIN),
    only: str = typer.Option("", help="Keys of evaluations or of cells. Default: all.", rich_help_panel=_AGAIN),
    sample: int | None = typer.Option(None, min=1, help="So many evaluations, drawn.", rich_help_panel=_AGAIN),
    seed: int = typer.Option(0, min=0, help="Seed of that draw.", rich_help_panel=_AGAIN),
    out: Path | None = typer.Option(
        None, help="Keep what is judged again in this run directory, and go on there.", rich_help_panel=_AGAIN
    ),
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_AGAIN),
    threads: int = typer.Option(1, min=1, help="CPU threads of each job.", rich_help_panel=_AGAIN),
    jobs: int | None = typer.Option(None, min=1, help="Jobs at once.", rich_help_panel=_AGAIN),
    write: bool = typer.Option(False, help="Write verification.json, which boards show."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
) -> None:
    """Check records and artefacts against each other; with --data judge sets again. Exit status 3: a check failed."""
    with stoppable():
        from tempfile import TemporaryDirectory

        from avbench.errors import RequestError
        from avbench.verification.archive import unpacked
        from avbench.verification.integrity import check_integrity
        from avbench.verification.reevaluation import Wanted, reevaluate
        from avbench.verification.tiers import write_verification

        if data is None and (networks or only or sample or out):
            raise RequestError("--networks, --only, --sample and --out are for judging again: give --data DIR too.")
        if write and not directory.is_dir():
            raise RequestError("--write: verification.json is written into a folder; unpack the archive first.")
        with unpacked(directory) as root, TemporaryDirectory(prefix="avbench-verify-") as temporary:
            results = check_integrity(root)
            verdicts: list[Verdict] = []
            if data is not None:
                chosen = tuple(key.strip() for key in only.split(",") if key.strip())
                bench = _bench(data, out or Path(temporary) / "runs", device, threads, jobs)
                verdicts = reevaluate(results, Wanted(chosen, sample, seed, networks), bench)
            _show(results, verdicts, as_json)
            if write:
                write_verification(results, verdicts)
        raise typer.Exit(3 if results.findings.problems else 0)


def _bench(data: Path, scratch: Path, device: str, threads: int, jobs: int | None) -> Bench:
    import sys

    from avbench.cli.parsing import resolve_device
    from avbench.cli.progress import watching
    from avbench.diagnosis import cores
    from avbench.jobs import Engine
    from avbench.verification.reevaluation import Bench

    engine = Engine(resolve_device(device), threads)
    slots = jobs or (1 if engine.device == "cuda" else max(1, cores() // threads))
    return Bench(data, scratch, engine, slots, ("avbench", *sys.argv[1:]), watching)


def _show(results: Results, verdicts: list[Verdict], as_json: bool) -> None:
    import json
    import sys
    from collections import Counter
    from dataclasses import asdict

    from avbench.cli.tables import print_table
    from avbench.verification.findings import CHECKS
    from avbench.verification.tiers import REEVALUATED, tier

    findings = results.findings
    again = {verdict.key for verdict in verdicts}
    levels = {key: tier(results, "evaluate", key) for key, r in results.evaluate.items() if r["status"] == "done"}
    levels |= {key: REEVALUATED for key in again if levels[key] != "failed"}
    if as_json:
        plain = {
            "checks": {check: {"looked": findings.looked[check], "failed": findings.failed(check)} for check in CHECKS},
            "problems": [asdict(problem) for problem in findings.problems],
            "notes": findings.notes,
            "artefacts_not_here": sorted(findings.absent),
            "evaluations": [asdict(verdict) for verdict in verdicts],
            "tiers": levels,
        }
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    seen = [check for check in CHECKS if findings.looked[check] or findings.failed(check)]
    rows = [(check, str(findings.looked[check]), str(findings.failed(check) or "–")) for check in seen]
    print_table(("check", "looked at", "failed"), rows)
    for problem in findings.problems:
        typer.echo(f"failed: {problem.check}: {problem.where}: {problem.text}")
    if verdicts:
        print_table(
            ("evaluation", "networks", "recorded %", "here %", "agreement"),
            [(v.key, str(v.networks), *(f"{100 * score:.2f}" for score in v.shown), v.verdict) for v in verdicts],
        )
    counted = ", ".join(f"{count} {name}" for name, count in sorted(Counter(levels.values()).items()))
    typer.echo(f"evaluations: {counted or 'none'}")
    if findings.absent:
        print(f"note: the artefacts of {len(findings.absent)} cells are not here.", file=sys.stderr)
    for note in findings.notes:
        print(f"note: {note}", file=sys.stderr)
