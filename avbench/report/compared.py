"""What a grid measured beside what a paper reports: cell by cell, by configuration and never by spelling.

Every cell of the grid has a row for each number that its table prints, whether it was measured or not. A difference is
given only where both sides did the same: the plain protocol that the source names, the grid's own preset, nothing set
besides, and a store of the dataset that was reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from math import nan
from statistics import fmean, pstdev
from typing import Any

from avbench.blocks import Block, Grid
from avbench.configure import configure, configure_networks
from avbench.data.store import StoreInfo
from avbench.grammar import Variant
from avbench.plugin import Setting
from avbench.presets import PRESETS, Preset, preset
from avbench.report.measured import Measured, Score, Wanted
from avbench.report.numbers import Figure, Number, figures_of, numbers_of, source_of
from avbench.report.reported import Reported, standard_errors
from avbench.results import RunDirectory

#: The whole data comes after every IPC.
_LAST = 1 << 30
_NOTHING = Reported("", nan, nan, 0, 0, "")


@dataclass(frozen=True)
class Row:
    """A number of a cell: measured, reported, or both. Shares of one, but a median rank is a rank; NaN: there is none.

    Attributes:
        stands_for: how the figures call the method, where that is not its own label.
        store, weights: the fingerprint, and the key of given weights, where something was measured.
        n: how many networks were judged; ``seeds`` of ``seeds_planned`` × ``networks`` of ``networks_planned``.
        status: ``"done"``, ``"incomplete"``, ``"failed"`` or ``"missing"``.
        dash: why the paper has a dash here; "" where it has none.
        difference, standard_errors: measured − reported.
        note: why nothing reported stands beside it, or why it failed.
    """

    table: str
    dataset: str
    ipc: int
    method: str
    stands_for: str
    modality: str
    preset: str
    protocol: str
    architecture: str
    fusion: str
    metric: str
    part: str
    share: bool
    store: str
    weights: str
    measured_mean: float
    measured_std: float
    n: int
    seeds: int
    seeds_planned: int
    networks: int
    networks_planned: int
    status: str
    reported_mean: float
    reported_std: float
    dash: str
    difference: float
    standard_errors: float
    note: str


@dataclass(frozen=True)
class Comparison:
    """A grid's rows in its own order, the papers that they stand beside, and what else lies in the directories."""

    title: str
    rows: tuple[Row, ...]
    papers: tuple[str, ...]
    notes: tuple[str, ...]


def compare_grid(grid: Grid, blocks: Sequence[Block], directories: Sequence[RunDirectory]) -> Comparison:
    """Every cell of a grid's blocks, as the command line narrowed them, beside its reported number.

    Raises:
        RequestError: an option of the grid that can't be, or a source of figures that does not come with avbench.
        PluginError: a plugin of the grid can't be loaded.
    """
    measured = Measured(directories)
    rows: list[Row] = []
    papers: dict[str, None] = {}
    for block in blocks:
        one = _Block(grid, block, measured)
        rows += sorted(one.rows(), key=lambda row: (block.datasets.index(row.dataset), row.ipc or _LAST))
        papers |= {one.source.source: None} if one.source else {}
    left = [f"{count} judged cells of {label} are not of this grid" for label, count in sorted(measured.left().items())]
    return Comparison(grid.title, tuple(rows), tuple(papers), tuple(left))


def _assumed(name: str, plugin: str) -> StoreInfo:
    """A store as far as defaults of plugins ask for it: records hold its name and plugin, the sizes are the paper's."""
    return StoreInfo(
        name=name,
        dataset=plugin or name,
        dataset_version=1,
        classes=("class",),
        counts={"train": (1,), "test": (1,)},
        audio_shape=(1, 128, 56),
        frame_shape=(3, 224, 224),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.0, 0.0, 0.0),
        frame_std=(1.0, 1.0, 1.0),
        visual_depth=5,
        audio_depth=3,
        grid=(7, 7),
        preset="paper",
        sample_rate_hz=11_000,
        audio_transform={},
        licence="",
        citation="",
    )


@dataclass(frozen=True)
class _Cell:
    """A cell of a block and how it is judged, resolved.

    Attributes:
        plugin: what prepared the store; "" where nobody says.
        protocol, architecture, fusion: as they are spelled.
    """

    setting: Setting
    variant: Variant
    wanted: Wanted
    plugin: str
    method: str
    protocol: str
    architecture: str
    fusion: str


class _Block:
    """The rows of one block."""

    def __init__(self, grid: Grid, block: Block, measured: Measured) -> None:
        self.grid, self.block, self.measured = grid, block, measured
        self.source = source_of(block.reported)
        self.figures = figures_of(self.source.name) if self.source else {}
        self.numbers = numbers_of(self.figures, block.reported.table)
        self.own_presets = {each.preset for each in grid.blocks}

    def rows(self) -> Iterator[Row]:
        block = self.block
        for dataset, modality in product(block.datasets, block.modalities or ("av",)):
            seen = sorted(self.measured.presets.get(dataset, {"paper"}))
            for chosen in map(preset, [block.preset] if block.preset else seen):
                for variant in block.methods:
                    anywhere = Setting(_assumed(dataset, ""), 1, modality, chosen.name)
                    uses_ipc = configure("methods", variant, {}, anywhere).target.uses_ipc
                    for ipc in block.ipcs if uses_ipc else (0,):
                        yield from self._judged(dataset, ipc, modality, variant, chosen)

    def _judged(self, dataset: str, ipc: int, modality: str, variant: Variant, chosen: Preset) -> Iterator[Row]:
        """A row for each way of judging, number and store that was measured; where none was, one that says so."""
        block = self.block
        stores = self.measured.stores.get(dataset) or {"": ""}
        ways = product(
            block.protocols or (Variant(chosen.protocol),),
            block.architectures or (Variant(chosen.architecture),),
            block.fusions or (Variant(chosen.fusion),),
        )
        for way in ways:
            cells = [
                self._resolved(Setting(_assumed(dataset, plugin), ipc, modality, chosen.name), store, variant, way)
                for store, plugin in stores.items()
            ]
            found: list[tuple[_Cell, Score | None]] = [(c, s) for c in cells for s in self.measured.find(c.wanted)]
            for number, (cell, score) in product(self.numbers, found or [(cells[0], None)]):
                failure = next(filter(None, (self.measured.failure(each.wanted) for each in cells)), "")
                yield self._row(cell, number, score, failure)

    def _resolved(self, setting: Setting, store: str, variant: Variant, way: tuple[Variant, Variant, Variant]) -> _Cell:
        block, info = self.block, setting.dataset
        method = configure("methods", variant, block.settings, setting).ref
        by = configure_networks(*way, block.settings, setting)
        distils = block.distil_architecture or Variant(preset(setting.preset).architecture)
        wanted = Wanted(
            dataset=info.name,
            fingerprint=store,
            ipc=setting.ipc,
            modality=setting.modality,
            precision=block.precision or "float32",
            method=asdict(method),
            training=asdict(configure("architectures", distils, block.settings, setting).ref),
            protocol=asdict(by.protocol),
            architecture=asdict(by.architecture),
            fusion=asdict(by.fusion),
            weights=bool(block.needs_weights or block.init_weights),
        )
        # An assumed store that names no plugin is called one after itself.
        plugin = self.measured.stores.get(info.name, {}).get(store, "")
        labels = (method.label, by.protocol.label, by.architecture.label, by.fusion.label)
        return _Cell(setting, variant, wanted, plugin, *labels)

    def _row(self, cell: _Cell, number: Number, score: Score | None, failure: str) -> Row:
        values = score.values(number.metric, number.part) if score else []
        mean, std = (fmean(values), pstdev(values)) if values else (nan, nan)
        obstacle = self._obstacle(cell)
        figure = self._figure(cell, number)
        reported = _NOTHING if figure is None or obstacle else figure.number
        return Row(
            **self._names(cell, number),
            **self._counts(cell, score, bool(values), failure),
            measured_mean=mean,
            measured_std=std,
            n=len(values),
            reported_mean=reported.mean,
            reported_std=reported.std,
            dash=figure.dash if figure and not obstacle else "",
            difference=mean - reported.mean,
            standard_errors=standard_errors(mean, std, len(values), reported),
            note="; ".join(filter(None, [obstacle, "" if values else failure])),
        )

    def _names(self, cell: _Cell, number: Number) -> dict[str, Any]:
        named = self.block.reported.of(cell.variant) if self.source else None
        return {
            "table": self.block.reported.table,
            "dataset": cell.setting.dataset.name,
            "ipc": cell.setting.ipc,
            "method": cell.method,
            "stands_for": f"{named[0]}: {named[1]}" if named and named[1] else "",
            "modality": cell.setting.modality,
            "preset": cell.setting.preset,
            "protocol": cell.protocol,
            "architecture": cell.architecture,
            "fusion": cell.fusion,
            "metric": number.metric,
            "part": number.part,
            "share": number.share,
        }

    def _counts(self, cell: _Cell, score: Score | None, scored: bool, failure: str) -> dict[str, Any]:
        chosen = PRESETS[cell.setting.preset]
        planned = (self.grid.seeds or chosen.seeds, self.grid.networks or chosen.networks)
        counts = (len(score.networks), score.per_set) if score else (0, 0)
        whole = counts[0] >= planned[0] and counts[1] >= planned[1]
        return {
            "store": cell.wanted.fingerprint if scored else "",
            "weights": score.weights if score else "",
            "seeds": counts[0],
            "seeds_planned": planned[0],
            "networks": counts[1],
            "networks_planned": planned[1],
            "status": ("done" if whole else "incomplete") if scored else ("failed" if failure else "missing"),
        }

    def _figure(self, cell: _Cell, number: Number) -> Figure | None:
        named = self.block.reported.of(cell.variant)
        if named is None:
            return None
        where = (self.block.reported.table, cell.setting.dataset.name, cell.setting.ipc)
        return self.figures.get((*where, *named, cell.architecture, cell.fusion if number.fused else "", number))

    def _obstacle(self, cell: _Cell) -> str:
        """Why no reported number can stand beside this cell; "" where one can."""
        if not self.source:
            return ""
        block, setting = self.block, cell.setting
        reasons = {
            f"preset {setting.preset} is not the grid's": setting.preset not in self.own_presets,
            f"{cell.protocol} is not what was reported": cell.protocol not in self.source.protocols,
            f"{cell.method} has other options": cell.method != cell.variant.label,
            "distilled with another network": block.distil_architecture is not None,
            f"{block.precision} is not what was reported": block.precision not in (None, "float32"),
            f"only {setting.modality} was distilled": setting.modality != "av",
            f"the store was prepared by {cell.plugin}": not setting.dataset.name.startswith(cell.plugin),
        }
        return "; ".join(reason for reason, holds in reasons.items() if holds)
