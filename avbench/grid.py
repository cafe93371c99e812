"""The grid of a request: its cells, what they require and how each is judged. What is done already plays no part."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product

from avbench.cells import Cell, Networks, PluginRef
from avbench.configure import check_architecture, check_protocol, configure_networks
from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.grammar import Variant
from avbench.jobs import DistilTask, EvaluateTask, PrerequisiteTask, prerequisite_key
from avbench.plugin import Setting
from avbench.plugins import guard
from avbench.points import Point, Tune, equal_configuration, points_of
from avbench.presets import Preset

MODALITIES = ("a", "v", "av")


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``None`` or empty: the preset's default.

    Attributes:
        controls, equal_storage: what fairness adds, see :mod:`avbench.points`.
        tunes: options whose values are chosen on the validation split.
        choices: the values that were chosen, by :attr:`Point.place`.
    """

    methods: tuple[Variant, ...]
    datasets: tuple[StoreInfo, ...]
    ipcs: tuple[int, ...]
    seeds: int | None = None
    networks: int | None = None
    architectures: tuple[Variant, ...] = ()
    distil_architecture: Variant | None = None
    fusions: tuple[Variant, ...] = ()
    protocols: tuple[Variant, ...] = ()
    modalities: tuple[str, ...] = ("av",)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    preset: str | None = None
    precision: str = "float32"
    retry_failed: bool = False
    snapshots: tuple[int, ...] = ()
    controls: bool = False
    equal_storage: bool = False
    tunes: tuple[Tune, ...] = ()
    choices: Mapping[tuple[str, int, str, str], str] = field(default_factory=dict)


@dataclass(frozen=True)
class Planned:
    """A cell with what the plan needs of its plugin."""

    cell: Cell
    shares: Hashable
    light: bool
    bundle: int
    prerequisites: tuple[PrerequisiteTask, ...]
    evaluations: tuple[EvaluateTask, ...]
    snapshots: tuple[int, ...] = ()

    @property
    def task(self) -> DistilTask:
        return DistilTask(self.cell, self.snapshots)


@dataclass(frozen=True)
class Expansion:
    """All cells of a request, and what its user should know of them."""

    planned: list[Planned]
    notes: tuple[str, ...] = ()


def expand(request: Request) -> Expansion:
    """All cells of a request whose values are all chosen.

    Raises:
        RequestError: an option, IPC or combination that can't work.
        PluginError: a plugin of this request can't be loaded, or fails.
    """
    found = points_of(request)
    still = [point.variant.label for point in found.all if point.tune]
    if still:
        raise ValueError(f"values of {still} are still to be chosen: see avbench.tuning")
    planned = _unique(_all_cells(request, found.all))
    _check_settings(request, planned)
    return Expansion(planned, found.notes)


def check_before_tuning(request: Request, points: Iterable[Point]) -> None:
    """Refuse what would be refused after the values are chosen, before hours go into choosing them.

    Raises:
        RequestError: an option or a combination that can't work.
    """
    _check_settings(request, list(_all_cells(request, points)))


def _all_cells(request: Request, points: Iterable[Point]) -> Iterator[Planned]:
    ways = _Judging(request)
    for point in points:
        yield from _cells(request, point, ways)


def cells_of(request: Request, point: Point) -> list[Planned]:
    """The cells of all seeds at one point."""
    return list(_cells(request, point, _Judging(request)))


def judging(request: Request, chosen: Preset, setting: Setting) -> tuple[Networks, list[Networks]]:
    """How prerequisites are trained in a setting, and all the ways in which the request's sets are judged.

    Raises:
        RequestError: an option or a combination that can't work.
    """
    return _Judging(request).networks(chosen, setting)


class _Judging:
    """How prerequisites are trained and sets are judged, worked out once a setting for all methods."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._networks: dict[Hashable, tuple[Networks, list[Networks]]] = {}
        self._tried: set[str] = set()

    def networks(self, chosen: Preset, setting: Setting) -> tuple[Networks, list[Networks]]:
        """How prerequisites are trained, and all the ways in which sets are judged; each network tried for size."""
        at = (setting.dataset.name, setting.ipc, setting.modality)
        if at not in self._networks:
            training, judges = self._networks[at] = self._configure(chosen, setting)
            for networks in (training, *judges):
                self._try(networks.architecture, setting)
                check_protocol(networks.protocol, setting)
            _refuse_equal(judges)
        return self._networks[at]

    def _configure(self, chosen: Preset, setting: Setting) -> tuple[Networks, list[Networks]]:
        request, standard = self.request, Variant(chosen.architecture)
        plain = (Variant(chosen.protocol), request.distil_architecture or standard, Variant(chosen.fusion))
        ways = product(
            request.protocols or (Variant(chosen.protocol),),
            request.architectures or (standard,),
            request.fusions or (Variant(chosen.fusion),),
        )
        training = configure_networks(*plain, request.settings, setting)
        return training, [configure_networks(*way, request.settings, setting) for way in ways]

    def _try(self, architecture: PluginRef, setting: Setting) -> None:
        """Building takes long, and depends on neither method nor IPC: each configuration is tried once."""
        what = f"{setting.dataset.name} {setting.modality} {architecture.identity()}"
        if what not in self._tried:
            check_architecture(architecture, setting)
            self._tried.add(what)


def _refuse_equal(judges: list[Networks]) -> None:
    """Two spellings of one way to judge would do each evaluation twice."""
    known: dict[str, Networks] = {}
    for networks in judges:
        first = known.setdefault(str(networks.identity()), networks)
        if first is not networks:
            parts = ("protocol", "architecture", "fusion")
            labels = [[getattr(each, part).label for part in parts] for each in (first, networks)]
            raise RequestError(
                f"{' with '.join(labels[0])} and {' with '.join(labels[1])} are the same way to judge: "
                "keep one of them in --protocol, --arch and --fusion."
            )


def _cells(request: Request, point: Point, ways: _Judging) -> Iterator[Planned]:
    """The cells of all seeds of a method in a setting."""
    chosen, setting, method = point.preset, point.setting, point.method
    training, judges = ways.networks(chosen, setting)
    info, target = setting.dataset, method.target
    ref = replace(method.ref, equals=equal_configuration(method, setting))
    with guard(method.info, "requires"):
        needs = dict(target.requires(method.config, setting))
        identities = {name: need.identity() for name, need in needs.items()}
        json.dumps(identities)  # part of a key
    with guard(method.info, "shares"):
        shares = target.shares(method.config)
        hash(shares)
    # A selection makes no steps: it has nothing to show before its end.
    snapshots = () if target.selects or not target.uses_ipc else request.snapshots
    for seed in range(request.seeds or chosen.seeds):
        with guard(method.info, "requires"):
            same = (info.fingerprint, seed, setting.modality, request.precision, training)
            required = {
                name: prerequisite_key(identities[name], *same, need.depends_on) for name, need in needs.items()
            }
        cell = Cell(
            dataset=info.name,
            fingerprint=info.fingerprint,
            method=ref,
            role=target.role,
            ipc=setting.ipc,
            seed=seed,
            modality=setting.modality,
            preset=chosen.name,
            precision=request.precision,
            training=training,
            prerequisites=required,
            planned_seeds=request.seeds or chosen.seeds,
            planned_networks=request.networks or chosen.networks,
            dataset_plugin=info.dataset,
        )
        yield Planned(
            cell,
            shares,
            target.selects or not target.uses_ipc,
            chosen.bundle if target.uses_ipc else 1,
            tuple(
                PrerequisiteTask(cell, name, key, tuple(sorted(needs[name].depends_on)))
                for name, key in required.items()
            ),
            _evaluations(cell, judges, snapshots),
            snapshots,
        )


def _evaluations(cell: Cell, judges: Sequence[Networks], snapshots: Sequence[int]) -> tuple[EvaluateTask, ...]:
    """The finished set in every way; its snapshots too."""
    return tuple(EvaluateTask(cell, judge, cell.planned_networks, at) for at in (None, *snapshots) for judge in judges)


def _unique(planned: Iterable[Planned]) -> list[Planned]:
    """Cells by key: two spellings of one configuration would be one cell under two labels."""
    found: dict[str, Planned] = {}
    for p in planned:
        known = found.setdefault(p.cell.key, p)
        if known is not p:
            raise RequestError(
                f"{known.cell.method.label} and {p.cell.method.label} are the same configuration "
                f"on {p.cell.dataset} at ipc {p.cell.ipc}: keep one of them."
            )
    if not found:
        raise RequestError("the grid is empty: give at least one method, dataset and ipc.")
    return list(found.values())


def _check_settings(request: Request, planned: list[Planned]) -> None:
    """Refuse a ``--set`` for a plugin that the grid does not use: it would silently do nothing."""
    used: set[str] = set()
    for p in planned:
        for networks in (p.cell.training, *(task.judged_by for task in p.evaluations)):
            used |= {networks.protocol.name, networks.architecture.name, networks.fusion.name}
        used.add(p.cell.method.name)
    used |= {name.rpartition(":")[2] for name in used}
    used |= {name.partition("/")[0] for name in used}
    for name in request.settings:
        if name not in used:
            raise RequestError(f"--set {name}.…: the grid does not use {name!r}; {nearest(name, used)}")
