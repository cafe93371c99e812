"""``avbench env``: what is here, and whether it fits together."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from avbench.cli.places import DATA


def env(
    out: Path = typer.Option(Path("runs"), help="The run directory whose disk to look at."),
    data: Path = DATA,
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Report versions, driver, devices, plugins and disk, and what to install where they don't fit (status 3)."""
    from avbench.diagnosis import cores, gather, problems

    facts = gather((out, data))
    wrong = problems(facts)
    if as_json:
        typer.echo(json.dumps({**asdict(facts), "cores": cores(), "problems": wrong}, indent=2))
    else:
        typer.echo(f"Python {facts.python}, {cores()} cores")
        for name, found in facts.packages.items():
            typer.echo(f"{name} {found or 'absent'}")
        typer.echo(f"CUDA of torch {facts.cuda or 'none'}, driver {facts.driver or 'none'}")
        for device in facts.devices:
            capability = ".".join(map(str, device.capability))
            typer.echo(f"{device.name}: capability {capability}, {device.memory_mib} MiB")
        if not facts.devices:
            typer.echo("no GPU: everything runs on the CPU")
        typer.echo(f"{facts.plugins} plugins load")
        for folder, free in facts.disk_free_bytes.items():
            typer.echo(f"{free / 1e9:.0f} GB free under {folder}")
        for text in wrong:
            typer.echo(f"problem: {text}")
        typer.echo("all fits" if not wrong else f"{len(wrong)} problems")
    if wrong:
        raise typer.Exit(3)
