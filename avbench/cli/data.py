"""``avbench data``: what a prepared dataset is, and what may be wrong with it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from avbench.cli.places import DATA
from avbench.errors import StoreError

if TYPE_CHECKING:
    from avbench.data.audit import Audit, Finding
    from avbench.data.store import StoreInfo

FOUND_LEAKS = 3

app = typer.Typer(
    name="data", no_args_is_help=True, help="Look at a prepared dataset: what it is, and what may be wrong with it."
)


@app.command("info")
def info(
    name: str = typer.Argument(help="The store's name, as in avbench run --dataset."),
    data: Path = DATA,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Show classes, counts, sizes, fingerprint, licence, citation, options and notes of a prepared dataset."""
    from avbench.data.store import read_info

    _check_prepared(name, data)
    facts = read_info(data, name)
    disk_bytes = sum(path.stat().st_size for path in (data / name).rglob("*") if path.is_file())
    if as_json:
        plain = {
            **facts.as_json(),
            "lost": _lost(data / name),
            "path": str((data / name).resolve()),
            "disk_bytes": disk_bytes,
        }
        typer.echo(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    _tell(facts, data / name, disk_bytes)


@app.command("audit")
def audit_store(
    name: str = typer.Argument(help="The store's name, as in avbench run --dataset."),
    data: Path = DATA,
    strict: bool = typer.Option(
        False, "--strict", help="Exit with status 3 where splits leak into each other or the fingerprint differs."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Look for leaks between splits, repeated samples, samples without content and uneven classes; read every byte."""
    from avbench.cli.progress import preparation
    from avbench.cli.stopping import stoppable
    from avbench.data.audit import audit
    from avbench.data.store import open_store

    _check_prepared(name, data)
    with stoppable(), preparation() as progress:
        found = audit(open_store(data, name), progress)
    if as_json:
        leaks = sum(finding.count for finding in found.leaks)
        typer.echo(json.dumps({**asdict(found), "unchanged": found.unchanged, "leaks": leaks}, indent=2))
    else:
        _show(found)
    if strict and (found.leaks or not found.unchanged):
        raise typer.Exit(FOUND_LEAKS)


def _check_prepared(name: str, data: Path) -> None:
    """Say how to get a store that is not there; an embedded dataset is not built by looking at it.

    Raises:
        StoreError: there is no such store.
    """
    from avbench.data.store import available

    if name in available(data):
        return
    from avbench.data.prepare import current

    if current(name, data) is None:
        raise StoreError(f"dataset {name!r} is not prepared under {data}/: run avbench prepare {name} first.")


def _tell(facts: StoreInfo, folder: Path, disk_bytes: int) -> None:
    from avbench.cli.tables import print_table
    from avbench.data.report import REPORT_NAME

    audio, frames = ("x".join(map(str, shape)) for shape in (facts.audio_shape, facts.frame_shape))
    rows = {
        "dataset": f"{facts.dataset} (version {facts.dataset_version})",
        "samples": ", ".join(f"{facts.size(split)} {split}" for split in facts.counts),
        "sound": f"{audio} at {facts.sample_rate_hz} Hz: {_spell(facts.audio_transform)}",
        "frames": frames,
        "normalisation": f"sound {facts.audio_mean:g} ± {facts.audio_std:g} dB, frames "
        f"{_numbers(facts.frame_mean)} ± {_numbers(facts.frame_std)}",
        "networks": f"{facts.audio_depth} audio and {facts.visual_depth} visual blocks, "
        f"grid {facts.grid[0]}x{facts.grid[1]}",
        "preset": facts.preset,
        "options": _spell(facts.options) or "none",
        "sources": _spell(facts.sources) or "none",
        "licence": facts.licence or "not stated",
        "citation": facts.citation or "none",
        "fingerprint": facts.fingerprint,
        "on disk": f"{disk_bytes / 1e6:.1f} MB in {folder}",
    }
    typer.echo(f"{facts.name}: {len(facts.classes)} classes")
    for key, value in rows.items():
        typer.echo(f"{key:14} {value}")
    for note in facts.notes:
        typer.echo(f"note: {note}")
    lost = _lost(folder)
    if lost:
        typer.echo(f"lost in the preparation: {_spell(lost)} (the whole list: {folder / REPORT_NAME})")
    typer.echo("")
    held = zip(facts.classes, *facts.counts.values(), strict=True)
    print_table(("class", *facts.counts), [tuple(map(str, row)) for row in held])


def _lost(folder: Path) -> dict[str, int]:
    """How many samples the preparation lost for each reason; nothing where it kept no account of them."""
    from avbench.data.report import REPORT_NAME, read_report

    try:
        report = read_report(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{folder / REPORT_NAME} can't be read ({error}): remove it, or prepare again.") from None
    return report.reasons if report else {}


def _spell(values: Any) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)


def _show(found: Audit) -> None:
    from avbench.cli.tables import print_table
    from avbench.data.audit import SAME_VIDEO

    if found.unchanged:
        typer.echo(f"{found.store}: fingerprint {found.fingerprint[:12]} holds")
    else:
        typer.echo(
            f"{found.store}: FINGERPRINT DIFFERS: store.json says {found.fingerprint[:12]}, the files give "
            f"{found.recomputed[:12]}. They were changed after the preparation: prepare {found.store!r} again."
        )
    typer.echo("")
    shown = [finding for finding in found.findings if finding.count or finding.examples]
    rows = [_row(finding) for finding in sorted(shown, key=lambda finding: finding.count == 0)]
    print_table(("", "check", "splits", "found", "of", "such as"), rows)
    named = {finding.check for finding in shown}
    clean = dict.fromkeys(finding.check for finding in found.findings if finding.check not in named and finding.total)
    typer.echo(f"nothing found: {', '.join(clean) or 'by none of the other checks'}")
    leaks = found.leaks
    typer.echo("")
    if leaks:
        pairs = ", ".join(sorted({" and ".join(finding.splits) for finding in leaks}))
        typer.echo(f"leaks between {pairs}: scores may be too good; see docs/data.md")
    elif all(finding.total for finding in found.findings if finding.check == SAME_VIDEO):
        typer.echo("no leak between splits was found")
    else:
        typer.echo("no leak between splits was found by content; without video ids, one video in two can't be seen")


def _row(finding: Finding) -> tuple[str, ...]:
    mark = finding.level if finding.count else "ok"
    return (
        mark,
        finding.check,
        ", ".join(finding.splits),
        str(finding.count),
        f"{finding.total} {finding.unit}",
        "; ".join(finding.examples),
    )
