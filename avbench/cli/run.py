"""``avbench run``: methods × datasets × IPCs × seeds, distilled, evaluated, and put on a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from avbench.cli.places import DATA
from avbench.cli.stopping import stoppable

if TYPE_CHECKING:
    from avbench.grammar import Variant

_GRID, _JUDGE, _PLACE, _ENGINE = "The grid", "Distilling and judging", "Where", "How"


def run(
    method: str = typer.Option(..., help="Methods: dm,'dm\\[lr=4.2,init=herding]',avdd.", rich_help_panel=_GRID),
    dataset: str = typer.Option(..., help="Datasets: avdigits or any prepared store.", rich_help_panel=_GRID),
    ipc: str = typer.Option(..., help="Stored items per class: 1,10,20.", rich_help_panel=_GRID),
    seeds: int | None = typer.Option(
        None, min=1, help="Distillation seeds a cell. Default: 3 (quick and paper).", rich_help_panel=_GRID
    ),
    networks: int | None = typer.Option(
        None,
        min=1,
        help="Evaluation networks per distilled set. Default: 3 (quick), 5 (paper).",
        rich_help_panel=_GRID,
    ),
    modality: str = typer.Option("av", help="What is distilled and evaluated: a, v, av.", rich_help_panel=_GRID),
    arch: str = typer.Option(
        "",
        help="Architectures to evaluate with. Default: convnet, 128 wide (paper) or 16 (quick).",
        rich_help_panel=_JUDGE,
    ),
    distil_arch: str = typer.Option("", help="Architecture to distil with. Default: convnet.", rich_help_panel=_JUDGE),
    fusion: str = typer.Option("", help="Fusions. Default: ensemble.", rich_help_panel=_JUDGE),
    protocol: str = typer.Option(
        "",
        help="Protocols. Default: recognition (paper), recognition-quick (quick).",
        rich_help_panel=_JUDGE,
    ),
    settings: list[str] = typer.Option(
        [], "--set", help="PLUGIN.OPTION=VALUE for every variant; may be repeated.", rich_help_panel=_JUDGE
    ),
    preset: str | None = typer.Option(None, help="quick or paper. Default: the dataset's own.", rich_help_panel=_JUDGE),
    precision: str = typer.Option("float32", help="float32 or float64.", rich_help_panel=_JUDGE),
    out: Path = typer.Option(Path("runs"), help="Run directory: records and artefacts.", rich_help_panel=_PLACE),
    data: Path = DATA,
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_ENGINE),
    executor: str = typer.Option("local", help="Where jobs run.", rich_help_panel=_ENGINE),
    jobs: int | None = typer.Option(
        None, min=1, help="Jobs at once. Default: a core each, or one on a GPU.", rich_help_panel=_ENGINE
    ),
    threads: int = typer.Option(1, min=1, help="CPU threads of each job.", rich_help_panel=_ENGINE),
    micro_batch: int = typer.Option(
        256, min=1, help="Most samples sent through a network at once.", rich_help_panel=_ENGINE
    ),
    checkpoint_s: float = typer.Option(60.0, min=0.0, help="Seconds between checkpoints.", rich_help_panel=_ENGINE),
    hook: list[str] = typer.Option([], help="Hook plugins; may be repeated.", rich_help_panel=_ENGINE),
    retry_failed: bool = typer.Option(False, help="Try again what failed before.", rich_help_panel=_ENGINE),
    dry_run: bool = typer.Option(
        False,
        help="Print the plan: what is cached, what remains, the disk it needs.",
        rich_help_panel=_ENGINE,
    ),
    as_json: bool = typer.Option(False, "--json", help="Print results as JSON.", rich_help_panel=_ENGINE),
) -> None:
    """Distil and evaluate a grid, then print its leaderboard. The same command again does only what is missing."""
    with stoppable():
        from avbench.cli import running
        from avbench.grammar import parse_settings
        from avbench.grid import Request
        from avbench.jobs import Engine

        request = Request(
            methods=_variants(method, "--method"),
            datasets=running.prepared(dataset, data),
            ipcs=running.parse_ipcs(ipc),
            seeds=seeds,
            networks=networks,
            architectures=_variants(arch, "--arch"),
            distil_architecture=running.single(_variants(distil_arch, "--distil-arch"), "--distil-arch"),
            fusions=_variants(fusion, "--fusion"),
            protocols=_variants(protocol, "--protocol"),
            modalities=running.parse_modalities(modality),
            settings=parse_settings(settings),
            preset=preset,
            precision=running.parse_precision(precision),
            retry_failed=retry_failed,
        )
        engine = Engine(running.resolve_device(device), threads, micro_batch, checkpoint_s)
        raise typer.Exit(running.carry_out(request, engine, out, data, executor, jobs, tuple(hook), dry_run, as_json))


def _variants(text: str, flag: str) -> tuple[Variant, ...]:
    from avbench.grammar import parse_variants

    return parse_variants(text, flag) if text else ()
