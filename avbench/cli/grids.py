"""What ``avbench run`` runs: the command line's own options, or a grid file that they narrow. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from avbench.blocks import Block, Grid, narrowed
from avbench.cli import parsing, running
from avbench.cli.starting import start_from
from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.grid import Planned, Request, expand
from avbench.gridfile import read_grid
from avbench.jobs import EvaluateTask
from avbench.plan import plan_cells
from avbench.presets import preset
from avbench.results import RunDirectory


@dataclass(frozen=True)
class Asked:
    """What the user asked for: a grid's name or path, or none, and the other options."""

    grid: str
    given: Block
    seeds: int | None = None
    networks: int | None = None
    retry_failed: bool = False


def run(asked: Asked, how: running.How, dry_run: bool) -> int:
    """Plan all blocks as one, carry them out or show them; returns the exit status.

    Raises:
        RequestError: a block that can't work, or a dataset that is not prepared.
    """
    grid = _grid(asked)
    blocks = _with_weights(narrowed(grid.blocks, asked.given) if asked.grid else grid.blocks)
    names = tuple(dict.fromkeys(name for block in blocks for name in block.datasets))
    infos = {info.name: info for info in parsing.prepared(names, how.data, grid.prepare)}
    requests = [_request(block, infos, grid, asked) for block in _shared_out(blocks, infos)]
    requests = [
        start_from(request, block.init_weights, request.modalities, None if dry_run else how.out)
        for request, block in zip(requests, blocks, strict=True)
    ]
    if asked.grid:
        _tell(grid)
    if len(requests) == 1:
        return running.plan_run(requests[0], how, dry_run)
    return _run_together(requests, infos, how, dry_run)


def _grid(asked: Asked) -> Grid:
    if asked.grid:
        return _counted(read_grid(asked.grid), asked)
    given = asked.given
    wanted = {"--method": given.methods, "--dataset": given.datasets, "--ipc": given.ipcs}
    missing = [flag for flag, values in wanted.items() if not values]
    if missing:
        raise RequestError(f"{', '.join(missing)} missing: say what to run, or --grid NAME for a table of the paper.")
    return _counted(Grid("", "", (given,)), asked)


def _counted(grid: Grid, asked: Asked) -> Grid:
    """The grid with the numbers of seeds and networks that the command line gives."""
    return replace(grid, seeds=asked.seeds or grid.seeds, networks=asked.networks or grid.networks)


def _with_weights(blocks: Sequence[Block]) -> list[Block]:
    """Without the blocks whose networks start from weights that were not given."""
    kept = [block for block in blocks if block.init_weights or not block.needs_weights]
    if not kept:
        raise RequestError("--grid: all of it starts from given weights; add --init-weights FILE.")
    if len(kept) < len(blocks):
        print("note: what starts from given weights is left out; --init-weights FILE adds it.", file=sys.stderr)
    return kept


def _shared_out(blocks: Sequence[Block], infos: Mapping[str, StoreInfo]) -> list[Block]:
    """Each setting to the blocks that use its plugin; one that nobody uses to all, where it is refused."""
    if len(blocks) == 1:
        return list(blocks)
    used = [_plugins(block, infos) for block in blocks]
    everywhere = set().union(*used)
    return [
        replace(block, settings={n: v for n, v in block.settings.items() if n in names or n not in everywhere})
        for block, names in zip(blocks, used, strict=True)
    ]


def _plugins(block: Block, infos: Mapping[str, StoreInfo]) -> set[str]:
    """The names, in all spellings, of the plugins that a block uses."""
    variants = [*block.methods, *block.architectures, *block.fusions, *block.protocols]
    variants += [block.distil_architecture] if block.distil_architecture else []
    presets = [preset(block.preset or infos[name].preset) for name in block.datasets]
    names = {v.name for v in variants} | {v.plain for v in variants}
    names |= {name for each in presets for name in (each.protocol, each.architecture, each.fusion)}
    return names | {name.partition("/")[0] for name in names}


def _request(block: Block, infos: Mapping[str, StoreInfo], grid: Grid, asked: Asked) -> Request:
    return Request(
        methods=block.methods,
        datasets=tuple(infos[name] for name in block.datasets),
        ipcs=block.ipcs,
        seeds=grid.seeds,
        networks=grid.networks,
        architectures=block.architectures,
        distil_architecture=block.distil_architecture,
        fusions=block.fusions,
        protocols=block.protocols,
        modalities=block.modalities or ("av",),
        settings=block.settings,
        preset=block.preset,
        precision=block.precision or "float32",
        retry_failed=asked.retry_failed,
        snapshots=block.snapshots,
        controls=block.controls,
        equal_storage=block.equal_storage,
        tunes=block.tunes,
    )


def _tell(grid: Grid) -> None:
    print(f"grid: {grid.title}", file=sys.stderr)
    for name, text in (("all of it needs", grid.needs), ("all of it takes", grid.cost)):
        if text:
            print(f"{name}: {text}", file=sys.stderr)


def _run_together(requests: Sequence[Request], infos: Mapping[str, StoreInfo], how: running.How, dry_run: bool) -> int:
    """Several blocks as one plan, so that what they share is done once and one set of boards shows all."""
    if any(request.tunes for request in requests):
        raise RequestError(
            "--tune: values are chosen for a grid of one block; narrow it to one, or run each by itself."
        )
    expansions = [expand(request) for request in requests]
    planned = union(cell for expansion in expansions for cell in expansion.planned)
    plan = plan_cells(planned, RunDirectory(how.out), infos.values(), requests[0].retry_failed)
    plan = replace(plan, notes=tuple(dict.fromkeys(note for each in expansions for note in each.notes)))
    if dry_run:
        running.show_whole(plan, how)
        return 0
    return running.carry_out(plan, how)


def union(planned: Iterable[Planned]) -> list[Planned]:
    """Cells by key: one that several blocks have is distilled once and judged in all their ways."""
    found: dict[str, Planned] = {}
    for each in planned:
        known = found.get(each.cell.key)
        found[each.cell.key] = each if known is None else _joined(known, each)
    return list(found.values())


def _joined(first: Planned, second: Planned) -> Planned:
    by_key: dict[str, EvaluateTask] = {task.key: task for task in (*first.evaluations, *second.evaluations)}
    snapshots = tuple(sorted({*first.snapshots, *second.snapshots}))
    return replace(first, evaluations=tuple(by_key.values()), snapshots=snapshots)
