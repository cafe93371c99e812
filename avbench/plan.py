"""From a request to a graph of jobs: the grid's cells, what they require, how they are judged, what is done already.

The graph depends on the request and the stores alone; what the run directory holds only decides which of its tasks
remain.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from math import prod

from avbench.configure import Configured, check_architecture, check_method, configure, configure_networks
from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.grammar import Variant
from avbench.jobs import (
    Cell,
    DistilTask,
    EvaluateTask,
    Job,
    Networks,
    PrerequisiteTask,
    Task,
    prerequisite_key,
)
from avbench.plugin import Setting
from avbench.presets import Preset, preset
from avbench.results import RunDirectory

MODALITIES = ("a", "v", "av")


@dataclass(frozen=True)
class Request:
    """What the user asked for. ``None`` or empty: the preset's default."""

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


@dataclass(frozen=True)
class Plan:
    """The graph.

    Attributes:
        cells, evaluations: the whole grid, done or not.
        jobs: what remains, in an order in which every need comes before who needs it.
        done: keys of tasks that are done already.
        failed: tasks that failed before and are not to be retried.
        retried: how many tasks of ``jobs`` failed before.
        stranded: tasks that can't run because something they need failed before.
        disk_bytes: an estimate of what the remaining tasks will write.
    """

    cells: tuple[Cell, ...]
    evaluations: tuple[EvaluateTask, ...]
    jobs: tuple[Job, ...]
    done: frozenset[str]
    failed: tuple[Task, ...]
    stranded: tuple[Task, ...]
    retried: int
    disk_bytes: int


@dataclass(frozen=True)
class _Planned:
    """A cell with what the plan needs of its plugin."""

    cell: Cell
    shares: Hashable
    light: bool
    bundle: int
    prerequisites: tuple[PrerequisiteTask, ...]
    evaluations: tuple[EvaluateTask, ...]


def make_plan(request: Request, directory: RunDirectory) -> Plan:
    """Expand a request and compare it with what is done.

    Raises:
        RequestError: an option, IPC or combination that can't work; nothing has been started then.
        PluginError: a plugin of this request can't be loaded.
    """
    planned = _unique(_expand(request))
    _check_settings(request, planned)
    state = _State(directory, request.retry_failed)
    jobs = [
        *_prerequisite_jobs(planned, state),
        *_distil_jobs(planned, state),
        *_evaluate_jobs(planned, state),
    ]
    return Plan(
        cells=tuple(p.cell for p in planned),
        evaluations=tuple(task for p in planned for task in p.evaluations),
        jobs=tuple(jobs),
        done=frozenset(state.done),
        failed=tuple(state.failed),
        stranded=tuple(state.stranded),
        retried=state.retried,
        disk_bytes=sum(_disk_bytes(task, request) for job in jobs for task in job.tasks),
    )


# --- the grid -----------------------------------------------------------------------------------------------------


def _expand(request: Request) -> Iterator[_Planned]:
    for info, variant, modality in product(request.datasets, request.methods, request.modalities):
        chosen = preset(request.preset or info.preset)
        uses_ipc = configure("methods", variant, {}, Setting(info, 1, modality, chosen.name)).target.uses_ipc
        for ipc in request.ipcs if uses_ipc else (0,):
            setting = Setting(info, ipc, modality, chosen.name)
            method = configure("methods", variant, request.settings, setting)
            check_method(method, setting)
            training, judges = _networks(request, chosen, setting)
            for seed in range(request.seeds or chosen.seeds):
                yield _cell(request, chosen, setting, method, training, judges, seed)


def _networks(request: Request, chosen: Preset, setting: Setting) -> tuple[Networks, list[Networks]]:
    """How prerequisites are trained, and all the ways in which sets are judged; each network tried for size."""
    standard = Variant(chosen.architecture)
    training = configure_networks(
        Variant(chosen.protocol),
        request.distil_architecture or standard,
        Variant(chosen.fusion),
        request.settings,
        setting,
    )
    judges = [
        configure_networks(protocol, architecture, fusion, request.settings, setting)
        for protocol, architecture, fusion in product(
            request.protocols or (Variant(chosen.protocol),),
            request.architectures or (standard,),
            request.fusions or (Variant(chosen.fusion),),
        )
    ]
    for networks in (training, *judges):
        check_architecture(networks.architecture, setting)
    return training, judges


def _cell(
    request: Request,
    chosen: Preset,
    setting: Setting,
    method: Configured,
    training: Networks,
    judges: list[Networks],
    seed: int,
) -> _Planned:
    info = setting.dataset
    cell = Cell(
        dataset=info.name,
        fingerprint=info.fingerprint,
        method=method.ref,
        role=method.target.role,
        ipc=setting.ipc,
        seed=seed,
        modality=setting.modality,
        preset=chosen.name,
        precision=request.precision,
        training=training,
        planned_seeds=request.seeds or chosen.seeds,
        planned_networks=request.networks or chosen.networks,
    )
    required = {
        name: prerequisite_key(need.identity(), info.fingerprint, seed, setting.modality, request.precision, training)
        for name, need in method.target.requires(method.config, setting).items()
    }
    cell = replace(cell, prerequisites=required)
    return _Planned(
        cell,
        method.target.shares(method.config),
        method.target.selects or not method.target.uses_ipc,
        chosen.bundle if method.target.uses_ipc else 1,
        tuple(PrerequisiteTask(cell, name, key) for name, key in required.items()),
        tuple(EvaluateTask(cell, judge, cell.planned_networks) for judge in judges),
    )


def _unique(planned: Iterable[_Planned]) -> list[_Planned]:
    """Cells by key: two spellings of one configuration would be one cell under two labels."""
    found: dict[str, _Planned] = {}
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


def _check_settings(request: Request, planned: list[_Planned]) -> None:
    """Refuse a ``--set`` for a plugin that the grid does not use: it would silently do nothing."""
    used: set[str] = set()
    for p in planned:
        for networks in (p.cell.training, *(task.judged_by for task in p.evaluations)):
            used |= {networks.protocol.name, networks.architecture.name, networks.fusion.name}
        used.add(p.cell.method.name)
    used |= {name.rpartition(":")[2] for name in used}
    for name in request.settings:
        if name not in used:
            raise RequestError(f"--set {name}.…: the grid does not use {name!r}; {nearest(name, used)}")


# --- what remains ---------------------------------------------------------------------------------------------------


class _State:
    """What the run directory says of each task, asked once a task."""

    def __init__(self, directory: RunDirectory, retry_failed: bool) -> None:
        self.directory, self.retry_failed = directory, retry_failed
        self.done: set[str] = set()
        self.failed: list[Task] = []
        self.stranded: list[Task] = []
        self.retried = 0
        self._hopeless: set[str] = set()

    def remains(self, task: Task, record_key: str | None, needs: Iterable[str] = ()) -> bool:
        """Whether the task is to be run. ``record_key`` is ``None`` where it is not known yet."""
        record = self.directory.record(task.kind, record_key) if record_key else None
        if record is not None and record["status"] == "done":
            self.done.add(task.key)
            return False
        if record is not None and not self.retry_failed:
            self.failed.append(task)
        elif self._hopeless.intersection(needs):
            self.stranded.append(task)
        else:
            self.retried += record is not None
            return True
        self._hopeless.add(task.key)
        return False


def _prerequisite_jobs(planned: list[_Planned], state: _State) -> list[Job]:
    """A job for each distinct prerequisite that a remaining cell needs."""
    jobs, seen = [], set[str]()
    for p in planned:
        if state.directory.done("distil", p.cell.key):
            continue
        for task in p.prerequisites:
            if task.key not in seen:
                seen.add(task.key)
                if state.remains(task, task.key):
                    jobs.append(Job((task,)))
    return jobs


def _distil_jobs(planned: list[_Planned], state: _State) -> list[Job]:
    """Cells that share their steps run together; light ones (mere selections) are bundled."""
    groups: dict[Hashable, list[_Planned]] = {}
    for index, p in enumerate(planned):
        cell = p.cell
        same_data = (cell.dataset, cell.modality, cell.precision)
        if p.light:
            group: Hashable = ("light", cell.method.label, *same_data)
        elif p.shares is not None:
            distils_with = str(sorted(cell.training.architecture.identity().items()))
            group = (p.shares, cell.seed, distils_with, *same_data)
        else:
            group = index
        if state.remains(DistilTask(cell), cell.key, cell.prerequisites.values()):
            groups.setdefault(group, []).append(p)
    jobs = []
    for members in groups.values():
        size = members[0].bundle if members[0].light else len(members)
        for start in range(0, len(members), size):
            part = members[start : start + size]
            needs = frozenset(key for p in part for key in p.cell.prerequisites.values()) - state.done
            jobs.append(Job(tuple(DistilTask(p.cell) for p in part), needs))
    return jobs


def _evaluate_jobs(planned: list[_Planned], state: _State) -> list[Job]:
    """Evaluations of the cells of one distil job, by how they are judged, bundled by the preset."""
    groups: dict[Hashable, list[tuple[_Planned, EvaluateTask]]] = {}
    for p in planned:
        for task in p.evaluations:
            set_hash = state.directory.set_hash(p.cell.key)
            record_key = task.record_key(set_hash) if set_hash else None
            if state.remains(task, record_key, [p.cell.key]):
                by = str(task.judged_by.identity())
                seed = None if p.light else p.cell.seed
                group = (p.light and p.cell.method.label, seed, by, p.cell.dataset, p.cell.modality)
                groups.setdefault(group, []).append((p, task))
    jobs = []
    for members in groups.values():
        size = members[0][0].bundle
        for start in range(0, len(members), size):
            part = members[start : start + size]
            needs = {p.cell.key for p, _ in part}
            if not part[0][0].cell.ipc:  # the whole data: its networks may be somebody's prerequisite
                needs |= _prerequisites_on(planned, part[0][0].cell)
            jobs.append(Job(tuple(task for _, task in part), frozenset(needs - state.done)))
    return jobs


def _prerequisites_on(planned: list[_Planned], cell: Cell) -> set[str]:
    return {
        task.key
        for p in planned
        for task in p.prerequisites
        if p.cell.dataset == cell.dataset and p.cell.seed == cell.seed
    }


def _disk_bytes(task: Task, request: Request) -> int:
    """About what a task writes: float32 items, a network of a few MiB, records of a few KiB."""
    record = 8 << 10
    if isinstance(task, EvaluateTask):
        return record
    if isinstance(task, PrerequisiteTask):
        return record + (8 << 20)
    info = next(i for i in request.datasets if i.name == task.cell.dataset)
    item = sum(4 * prod(info.shape(name)) for name in task.cell.modality)
    # A checkpoint holds items and momentum beside the finished set.
    return record + 3 * item * task.cell.ipc * len(info.classes)
