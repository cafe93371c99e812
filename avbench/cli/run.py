"""``avbench run``: methods × datasets × IPCs × seeds, distilled, evaluated, and put on a board."""

from __future__ import annotations

from pathlib import Path

import typer

from avbench.cli.places import DATA
from avbench.cli.stopping import stoppable

_GRID, _JUDGE, _PLACE, _ENGINE = "The grid", "Distilling and judging", "Where", "How"


def run(
    method: str = typer.Option("", help="Methods: dm,'dm\\[lr=4.2,init=herding]',avdd.", rich_help_panel=_GRID),
    dataset: str = typer.Option("", help="Datasets: avdigits or any prepared store.", rich_help_panel=_GRID),
    ipc: str = typer.Option("", help="Stored items per class: 1,10,20.", rich_help_panel=_GRID),
    grid: str = typer.Option(
        "",
        help="A table of the paper, or FILE.toml: table3. Other options narrow or override it.",
        rich_help_panel=_GRID,
    ),
    seeds: int | None = typer.Option(
        None, min=1, help="Distillation seeds a cell. Default: 3 (quick and paper).", rich_help_panel=_GRID
    ),
    networks: int | None = typer.Option(
        None,
        min=1,
        help="Evaluation networks per distilled set. Default: 3 (quick), 5 (paper).",
        rich_help_panel=_GRID,
    ),
    modality: str = typer.Option(
        "", help="What is distilled and evaluated: a, v, av. Default: av.", rich_help_panel=_GRID
    ),
    arch: str = typer.Option(
        "",
        help="Architectures to evaluate with. Default: convnet, 128 wide (paper) or 16 (quick).",
        rich_help_panel=_JUDGE,
    ),
    distil_arch: str = typer.Option("", help="Architecture to distil with. Default: convnet.", rich_help_panel=_JUDGE),
    fusion: str = typer.Option("", help="Fusions. Default: ensemble.", rich_help_panel=_JUDGE),
    protocol: str = typer.Option(
        "",
        help="Protocols. Default: recognition-code (paper), recognition-quick (quick).",
        rich_help_panel=_JUDGE,
    ),
    snapshots: str = typer.Option(
        "", help="Judge sets as they were after these steps too: 0,50,150.", rich_help_panel=_JUDGE
    ),
    init_weights: Path | None = typer.Option(
        None, help="Weights that evaluation networks start from.", rich_help_panel=_JUDGE
    ),
    controls: bool = typer.Option(
        False, help="Add the control variants that the methods declare.", rich_help_panel=_GRID
    ),
    equal_storage: bool = typer.Option(
        False, help="Add the baseline at the IPCs that store as many bytes as learned sets.", rich_help_panel=_GRID
    ),
    tune: list[str] = typer.Option(
        [], help="METHOD.OPTION=V1,V2: choose a value on the validation split.", rich_help_panel=_JUDGE
    ),
    settings: list[str] = typer.Option(
        [], "--set", help="PLUGIN.OPTION=VALUE for every variant; may be repeated.", rich_help_panel=_JUDGE
    ),
    preset: str | None = typer.Option(None, help="quick or paper. Default: the dataset's own.", rich_help_panel=_JUDGE),
    precision: str = typer.Option(
        "", help="float32, float64, bfloat16 or tf32. Default: float32.", rich_help_panel=_JUDGE
    ),
    out: Path = typer.Option(Path("runs"), help="Run directory: records and artefacts.", rich_help_panel=_PLACE),
    data: Path = DATA,
    device: str = typer.Option("auto", help="auto, cpu or cuda.", rich_help_panel=_ENGINE),
    executor: str = typer.Option("local", help="Where jobs run.", rich_help_panel=_ENGINE),
    jobs: int | None = typer.Option(
        None, min=1, help="Jobs at once. Default: a core each, or one on a GPU.", rich_help_panel=_ENGINE
    ),
    threads: int = typer.Option(1, min=1, help="CPU threads of each job.", rich_help_panel=_ENGINE),
    micro_batch: int | None = typer.Option(
        None,
        min=1,
        help="Most samples sent through a network at once. Default: 256, 64 at 224 × 224.",
        rich_help_panel=_ENGINE,
    ),
    timeout_s: float | None = typer.Option(
        None, min=0.1, help="Seconds that a job may run. Default: no limit.", rich_help_panel=_ENGINE
    ),
    memory_mib: float | None = typer.Option(
        None, min=1.0, help="Memory that a job may take, in MiB. Default: no limit.", rich_help_panel=_ENGINE
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
        from avbench.blocks import Block
        from avbench.cli import grids, parsing, running
        from avbench.grammar import parse_settings
        from avbench.gridfile import dataset_names
        from avbench.jobs import Engine
        from avbench.tuning import parse_tunes

        given = Block(
            methods=parsing.variants(method, "--method"),
            datasets=dataset_names(dataset, "--dataset") if dataset else (),
            ipcs=parsing.parse_ipcs(ipc) if ipc else (),
            modalities=parsing.parse_modalities(modality) if modality else (),
            architectures=parsing.variants(arch, "--arch"),
            distil_architecture=parsing.single(parsing.variants(distil_arch, "--distil-arch"), "--distil-arch"),
            fusions=parsing.variants(fusion, "--fusion"),
            protocols=parsing.variants(protocol, "--protocol"),
            settings=parse_settings(settings),
            preset=preset,
            precision=parsing.parse_precision(precision) if precision else None,
            snapshots=parsing.parse_snapshots(snapshots),
            controls=controls,
            equal_storage=equal_storage,
            tunes=parse_tunes(tune),
            init_weights=init_weights,
        )
        engine = Engine(parsing.resolve_device(device), threads, micro_batch, checkpoint_s)
        limits = running.Limits(timeout_s, memory_mib)
        how = running.How(engine, out, data, executor, jobs, limits, tuple(hook), as_json)
        asked = grids.Asked(grid, given, seeds, networks, retry_failed)
        raise typer.Exit(grids.run(asked, how, dry_run))
