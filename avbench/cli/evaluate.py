"""``avbench evaluate``: judge distilled sets, also those that avbench did not make."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.cli.places import DATA
from avbench.cli.stopping import stoppable

_SETS, _JUDGE, _ENGINE = "The sets", "Judging", "Where and how"


def evaluate(
    path: Path | None = typer.Argument(
        None, help="A distilled set: avbench's or the AVDD authors' folder, .npz, .safetensors."
    ),
    dataset: str = typer.Option("", help="The prepared store that it is judged on.", rich_help_panel=_SETS),
    grid: str = typer.Option(
        "", help="Instead of PATH: a release beside its reported numbers: authors_release.", rich_help_panel=_SETS
    ),
    source: Path | None = typer.Option(None, help="The folder of that release.", rich_help_panel=_SETS),
    name: str = typer.Option("", help="What the board calls it. Default: its own name.", rich_help_panel=_SETS),
    format: str = typer.Option("auto", help="The layout, where it can't be told.", rich_help_panel=_SETS),
    factor: int | None = typer.Option(
        None, min=1, help="l: each item packs l × l samples. Default: 1, the authors' 2.", rich_help_panel=_SETS
    ),
    frames: str = typer.Option("auto", help="What frames hold: auto, network or pixels.", rich_help_panel=_SETS),
    audio: str = typer.Option("network", help="What audio holds: network or raw (dB).", rich_help_panel=_SETS),
    iteration: int | None = typer.Option(None, help="Of several kept ones. Default: the last.", rich_help_panel=_SETS),
    seed: int = typer.Option(0, min=0, help="Seed of the first set.", rich_help_panel=_SETS),
    arch: str = typer.Option("", help="Architectures. Default: the preset's.", rich_help_panel=_JUDGE),
    fusion: str = typer.Option("", help="Fusions. Default: ensemble.", rich_help_panel=_JUDGE),
    protocol: str = typer.Option("", help="Protocols. Default: the preset's.", rich_help_panel=_JUDGE),
    networks: int | None = typer.Option(None, min=1, help="Networks a set.", rich_help_panel=_JUDGE),
    init_weights: Path | None = typer.Option(None, help="Weights that networks start from.", rich_help_panel=_JUDGE),
    settings: list[str] = typer.Option([], "--set", help="PLUGIN.OPTION=VALUE.", rich_help_panel=_JUDGE),
    preset: str | None = typer.Option(None, help="quick or paper. Default: the dataset's own.", rich_help_panel=_JUDGE),
    precision: str = typer.Option("float32", help="float32 or float64.", rich_help_panel=_JUDGE),
    out: Path = typer.Option(Path("runs"), help="Run directory.", rich_help_panel=_ENGINE),
    data: Path = DATA,
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_ENGINE),
    jobs: int | None = typer.Option(None, min=1, help="Jobs at once.", rich_help_panel=_ENGINE),
    retry_failed: bool = typer.Option(False, help="Try again what failed before.", rich_help_panel=_ENGINE),
    as_json: bool = typer.Option(False, "--json", help="Print results as JSON.", rich_help_panel=_ENGINE),
) -> None:
    """Judge a distilled set by the same protocols as any other; it joins the run directory and its boards."""
    with stoppable():
        from avbench.cli import judging, parsing, running
        from avbench.errors import RequestError
        from avbench.formats import Reading
        from avbench.grammar import parse_settings
        from avbench.grid import Request
        from avbench.jobs import Engine

        request = Request(
            methods=(),
            datasets=(),
            ipcs=(),
            networks=networks,
            architectures=parsing.variants(arch, "--arch"),
            fusions=parsing.variants(fusion, "--fusion"),
            protocols=parsing.variants(protocol, "--protocol"),
            settings=parse_settings(settings),
            preset=preset,
            precision=parsing.parse_precision(precision, ("float32", "float64")),
            retry_failed=retry_failed,
        )
        reading = Reading(factor, parsing.frame_space(frames), parsing.audio_space(audio), iteration, seed)
        how = running.How(Engine(parsing.resolve_device(device)), out, data, jobs=jobs, as_json=as_json)
        asked = judging.Asked(request, reading, how, name, format, init_weights)
        if grid and source and path is None and not dataset:
            raise typer.Exit(judging.judge_release(grid, source, asked))
        if path and dataset and not grid and source is None:
            raise typer.Exit(judging.judge(path, dataset, asked))
        raise RequestError("give either PATH and --dataset, for one set, or --grid and --source, for a release.")
