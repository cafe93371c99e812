"""Blocks of options for a run: what the command line says, or a grid file, or the file narrowed by the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from avbench.errors import RequestError
from avbench.grammar import Variant
from avbench.points import Tune

#: Lists of a block that the command line narrows or replaces.
_LISTS = ("methods", "datasets", "ipcs", "modalities", "architectures", "fusions", "protocols")
#: What it replaces.
_ONES = ("distil_architecture", "snapshots", "tunes", "preset", "precision")


@dataclass(frozen=True)
class Beside:
    """Beside which reported figures a block's cells stand; no table: none were reported.

    Attributes:
        source: a name in ``leaderboard/reported``; ``table``: which of its tables.
        method: what the figures call the methods in ``variants``; "": by their own name.
        variants: label of a method here → the figures' name of the variant.
    """

    source: str = ""
    table: str = ""
    method: str = ""
    variants: Mapping[str, str] = field(default_factory=dict)

    def of(self, variant: Variant) -> tuple[str, str] | None:
        """Method and variant as the figures name them; ``None`` for one that they do not have."""
        if variant.label in self.variants:
            return (self.method or variant.plain, self.variants[variant.label])
        return None if variant.options else (variant.plain, "")


@dataclass(frozen=True)
class Block:
    """Options of a run. Empty or ``None``: not said, so that the preset's default holds.

    Attributes:
        needs_weights: its evaluation networks start from the weights that ``--init-weights`` names.
    """

    methods: tuple[Variant, ...] = ()
    datasets: tuple[str, ...] = ()
    ipcs: tuple[int, ...] = ()
    modalities: tuple[str, ...] = ()
    architectures: tuple[Variant, ...] = ()
    distil_architecture: Variant | None = None
    fusions: tuple[Variant, ...] = ()
    protocols: tuple[Variant, ...] = ()
    snapshots: tuple[int, ...] = ()
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    tunes: tuple[Tune, ...] = ()
    preset: str | None = None
    precision: str | None = None
    controls: bool = False
    equal_storage: bool = False
    init_weights: Path | None = None
    needs_weights: bool = False
    reported: Beside = field(default_factory=Beside)


@dataclass(frozen=True)
class Grid:
    """A grid file.

    Attributes:
        prepare: for stores that are not named after their dataset, the command that makes them.
        seeds, networks: of all blocks; ``None``: the preset's.
    """

    name: str
    title: str
    blocks: tuple[Block, ...]
    cost: str = ""
    needs: str = ""
    prepare: Mapping[str, str] = field(default_factory=dict)
    seeds: int | None = None
    networks: int | None = None


def narrowed(blocks: Iterable[Block], given: Block) -> tuple[Block, ...]:
    """Blocks as the command line narrows or overrides them.

    A list of values that all stand somewhere in the grid narrows it: each block keeps those of its own, and one that
    keeps none is left out. A list with any other value replaces the list of every block. Single values replace,
    ``--set`` adds to the grid's, and weights go to the blocks that need them, or to all where none does.

    Raises:
        RequestError: nothing is left.
    """
    whole = found = list(blocks)
    for name in _LISTS:
        wanted: tuple[Any, ...] = getattr(given, name)
        listed = {value for block in whole for value in getattr(block, name)}
        if wanted and not listed.issuperset(wanted):
            found = [_with(block, name, wanted) for block in found]
        elif wanted:
            kept = [(block, tuple(v for v in getattr(block, name) if v in wanted)) for block in found]
            found = [_with(block, name, values) for block, values in kept if values]
    if not found:
        raise RequestError("--grid: no block has all of what the other options ask for; ask for less at a time.")
    return tuple(_overridden(block, given, any(each.needs_weights for each in found)) for block in found)


def _with(block: Block, name: str, values: tuple[Any, ...]) -> Block:
    changes: dict[str, Any] = {name: values}
    return replace(block, **changes)


def _overridden(block: Block, given: Block, some_need: bool) -> Block:
    names = (*block.settings, *(name for name in given.settings if name not in block.settings))
    settings = {name: {**block.settings.get(name, {}), **given.settings.get(name, {})} for name in names}
    weights = given.init_weights if block.needs_weights or not some_need else None
    ones: dict[str, Any] = {name: getattr(given, name) or getattr(block, name) for name in _ONES}
    return replace(
        block,
        settings=settings,
        controls=block.controls or given.controls,
        equal_storage=block.equal_storage or given.equal_storage,
        init_weights=weights or block.init_weights,
        **ones,
    )
