"""``avbench compare``: a grid's measured results beside the paper's, from records alone."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

from avbench.cli.places import write_output

FORMATS = ("md", "csv", "json")


def compare(
    grid: str = typer.Argument(help="A table of the paper, or FILE.toml: table3."),
    directories: list[Path] = typer.Argument(None, help="Run directories. Default: runs.", show_default=False),
    dataset: str = typer.Option("", help="Only these datasets; or others than the grid's."),
    ipc: str = typer.Option("", help="Only these stored items per class."),
    method: str = typer.Option("", help="Only these methods."),
    arch: str = typer.Option("", help="Only these architectures."),
    fusion: str = typer.Option("", help="Only these fusions."),
    protocol: str = typer.Option("", help="Another protocol: recognition-paper."),
    preset: str | None = typer.Option(None, help="Another preset; nothing reported stands beside it."),
    settings: list[str] = typer.Option([], "--set", help="PLUGIN.OPTION=VALUE, as the run had it."),
    format: str = typer.Option("md", help="md, csv or json."),
    output: Path | None = typer.Option(None, "-o", "--output", help="Write here instead of to stdout."),
) -> None:
    """Set what was measured of a grid beside what the paper reports, with differences and standard errors."""
    from avbench.blocks import Block, narrowed
    from avbench.cli import parsing
    from avbench.errors import RequestError, nearest
    from avbench.grammar import parse_settings
    from avbench.gridfile import dataset_names, read_grid
    from avbench.presets import preset as known_preset
    from avbench.report.compared import compare_grid
    from avbench.report.compared_text import render_comparison
    from avbench.results import RunDirectory

    if format not in FORMATS:
        raise RequestError(f"--format {format!r}: {nearest(format, FORMATS)}")
    found = read_grid(grid)
    given = Block(
        methods=parsing.variants(method, "--method"),
        datasets=dataset_names(dataset, "--dataset") if dataset else (),
        ipcs=parsing.parse_ipcs(ipc) if ipc else (),
        architectures=parsing.variants(arch, "--arch"),
        fusions=parsing.variants(fusion, "--fusion"),
        protocols=parsing.variants(protocol, "--protocol"),
        settings=parse_settings(settings),
        preset=known_preset(preset).name if preset else None,
    )
    places = directories or [Path("runs")]
    for place in places:
        if not place.is_dir():
            raise RequestError(f"{place} is not a run directory: avbench run --grid {grid} --out {place} makes one.")
    compared = compare_grid(found, narrowed(found.blocks, given), [RunDirectory(place) for place in places])
    for note in compared.notes:
        print(f"note: {note}", file=sys.stderr)
    write_output(render_comparison(compared, format), output)
