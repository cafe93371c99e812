"""From a request to a graph of jobs: the grid's tasks compared with what is done already.

The graph depends on the request and the stores alone; what the run directory holds only decides which of its tasks
remain.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from avbench.cells import Cell
from avbench.data.store import StoreInfo
from avbench.grid import Planned, Request, expand
from avbench.jobs import DistilTask, EvaluateTask, Job, PrerequisiteTask, ShardTask, Task
from avbench.results import RunDirectory, has_snapshots, hash_in, is_beyond

#: Items of cells that share a job, in float32. Each takes three times that with momentum and gradient, and a GPU of
#: 24 GiB is to hold them beside a network and a micro-batch (docs/budget.md).
_JOB_ITEM_BYTES = 4 << 30

__all__ = ["Plan", "Request", "make_plan"]


@dataclass(frozen=True)
class Plan:
    """The graph.

    Attributes:
        cells, evaluations: the whole grid, done or not.
        prerequisites: those that the grid's cells need or were made with, done or not.
        jobs: what remains, in an order in which every need comes before who needs it.
        done: keys of tasks that are done already.
        failed: tasks that failed before and are not to be retried.
        retried: how many tasks of ``jobs`` failed before.
        stranded: tasks that can't run because something they need failed before.
        disk_bytes: an estimate of what the remaining tasks will write.
        notes: what the user should know of the grid.
        shards: the parts of cells that are cut by class, done or not; see :mod:`avbench.shards`.
        planned, infos, retry_failed: what it was made from.
    """

    cells: tuple[Cell, ...]
    evaluations: tuple[EvaluateTask, ...]
    prerequisites: tuple[PrerequisiteTask, ...]
    jobs: tuple[Job, ...]
    done: frozenset[str]
    failed: tuple[Task, ...]
    stranded: tuple[Task, ...]
    retried: int
    disk_bytes: int
    notes: tuple[str, ...] = ()
    shards: tuple[ShardTask, ...] = ()
    planned: tuple[Planned, ...] = ()
    infos: Mapping[str, StoreInfo] = field(default_factory=dict)
    retry_failed: bool = False


def make_plan(request: Request, directory: RunDirectory) -> Plan:
    """Expand a request and compare it with what is done.

    Raises:
        RequestError: an option, IPC or combination that can't work; nothing has been started then.
        PluginError: a plugin of this request can't be loaded.
    """
    found = expand(request)
    plan = plan_cells(found.planned, directory, request.datasets, request.retry_failed)
    return replace(plan, notes=found.notes)


def plan_cells(
    planned: list[Planned], directory: RunDirectory, datasets: Iterable[StoreInfo], retry_failed: bool
) -> Plan:
    """Compare cells with what is done."""
    state = Standing(directory, retry_failed)
    infos = {info.name: info for info in datasets}
    jobs = [
        *_prerequisite_jobs(planned, state),
        *_distil_jobs(planned, state, infos),
        *_evaluate_jobs(planned, state),
    ]
    return Plan(
        cells=tuple(p.cell for p in planned),
        evaluations=tuple(task for p in planned for task in p.evaluations),
        prerequisites=tuple({task.key: task for p in planned for task in p.prerequisites}.values()),
        jobs=tuple(jobs),
        done=frozenset(state.done),
        failed=tuple(state.failed),
        stranded=tuple(state.stranded),
        retried=state.retried,
        disk_bytes=sum(disk_bytes(task, infos) for job in jobs for task in job.tasks),
        planned=tuple(planned),
        infos=infos,
        retry_failed=retry_failed,
    )


# --- what remains ---------------------------------------------------------------------------------------------------


class Standing:
    """What the run directory says of each task, asked once a task."""

    def __init__(self, directory: RunDirectory, retry_failed: bool) -> None:
        self.directory, self.retry_failed = directory, retry_failed
        self.done: set[str] = set()
        self.failed: list[Task] = []
        self.stranded: list[Task] = []
        self.retried = 0
        self._hopeless: set[str] = set()
        self._records: dict[tuple[str, str], Mapping[str, Any] | None] = {}

    def record(self, kind: str, key: str) -> Mapping[str, Any] | None:
        """A record, read once."""
        if (kind, key) not in self._records:
            self._records[kind, key] = self.directory.record(kind, key)
        return self._records[kind, key]

    def is_done(self, kind: str, key: str) -> bool:
        found = self.record(kind, key)
        return found is not None and found["status"] == "done"

    def set_hash(self, task: EvaluateTask) -> str | None:
        """The content hash of what a task judges, where it is done."""
        return hash_in(self.record("distil", task.cell.key), task.snapshot)

    def beyond(self, task: EvaluateTask) -> bool:
        """Whether a task judges a snapshot after more steps than the set turned out to have."""
        return is_beyond(self.record("distil", task.cell.key), task.snapshot)

    def remains(self, task: Task, record_key: str | None, needs: Iterable[str] = ()) -> bool:
        """Whether the task is to be run. ``record_key`` is ``None`` where it is not known yet."""
        record = self.record(task.kind, record_key) if record_key else None
        if isinstance(task, DistilTask | ShardTask) and record is not None and record["status"] == "done":
            record = record if has_snapshots(record, task.snapshots) else None  # made without: it is made again
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


def _prerequisite_jobs(planned: list[Planned], state: Standing) -> list[Job]:
    """A job for each distinct prerequisite that a remaining cell needs."""
    jobs, seen = [], set[str]()
    for p in planned:
        finished = has_snapshots(state.record("distil", p.cell.key), p.snapshots)
        for task in p.prerequisites:
            # What a finished cell was made with may have gone: then it is simply not listed.
            if task.key not in seen and (not finished or state.is_done(task.kind, task.key)):
                seen.add(task.key)
                if state.remains(task, task.key):
                    jobs.append(Job((task,)))
    return jobs


def _distil_jobs(planned: list[Planned], state: Standing, infos: Mapping[str, StoreInfo]) -> list[Job]:
    """Cells that share their steps run together, as far as their items fit; light ones are bundled."""
    groups: dict[Hashable, list[Planned]] = {}
    for index, p in enumerate(planned):
        cell = p.cell
        if p.light:
            group: Hashable = ("light", cell.method.label, cell.dataset, cell.modality, cell.precision)
        else:
            group = shared_steps(p) or index
        if state.remains(p.task, cell.key, cell.prerequisites.values()):
            groups.setdefault(group, []).append(p)
    jobs = []
    for members in groups.values():
        if members[0].light:
            size = members[0].bundle
            parts = [members[start : start + size] for start in range(0, len(members), size)]
        else:
            parts = within_memory(members, infos)
        for part in parts:
            needs = frozenset(key for p in part for key in p.cell.prerequisites.values()) - state.done
            jobs.append(Job(tuple(p.task for p in part), needs))
    return jobs


def shared_steps(p: Planned) -> Hashable:
    """What is equal for cells whose steps draw the same; ``None`` where a cell shares with no other."""
    cell = p.cell
    if p.shares is None:
        return None
    distils_with = str(sorted(cell.training.architecture.identity().items()))
    return (p.shares, cell.seed, distils_with, cell.dataset, cell.modality, cell.precision)


def within_memory(
    members: list[Planned], infos: Mapping[str, StoreInfo], classes: int | None = None
) -> list[list[Planned]]:
    """Divide cells among jobs whose items take at most :data:`_JOB_ITEM_BYTES`; a larger cell has a job of its own.

    Args:
        classes: how many classes a job has of each cell, where it has not all.
    """
    parts: list[list[Planned]] = []
    taken = 0
    for p in members:
        own = item_bytes(p.cell, infos, classes)
        if not parts or taken + own > _JOB_ITEM_BYTES:
            parts.append([])
            taken = 0
        parts[-1].append(p)
        taken += own
    return parts


def item_bytes(cell: Cell, infos: Mapping[str, StoreInfo], classes: int | None = None) -> int:
    """What the items of a cell take as float32; of so many of its classes, where a number is given."""
    info = infos[cell.dataset]
    count = len(info.classes) if classes is None else classes
    return sum(4 * prod(info.shape(name)) for name in cell.modality) * cell.ipc * count


def _evaluate_jobs(planned: list[Planned], state: Standing) -> list[Job]:
    """Evaluations of the cells of one distil job, by how they are judged, bundled by the preset."""
    groups: dict[Hashable, list[tuple[Planned, EvaluateTask]]] = {}
    required: dict[Hashable, set[str]] = defaultdict(set)
    for p in planned:
        required[p.cell.dataset, p.cell.seed].update(task.key for task in p.prerequisites)
    for p in planned:
        for task in p.evaluations:
            set_hash = state.set_hash(task)
            record_key = task.record_key(set_hash) if set_hash else None
            if not state.beyond(task) and state.remains(task, record_key, [p.cell.key]):
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
                needs |= required[part[0][0].cell.dataset, part[0][0].cell.seed]
            jobs.append(Job(tuple(task for _, task in part), frozenset(needs - state.done)))
    return jobs


def disk_bytes(task: Task, infos: Mapping[str, StoreInfo]) -> int:
    """About what a task writes: float32 items, a network of a few MiB, records of a few KiB."""
    record = 8 << 10
    if isinstance(task, EvaluateTask):
        return record
    if isinstance(task, PrerequisiteTask):
        return record + (8 << 20)  # a network; trajectories take several times as much
    if isinstance(task, DistilTask) and task.shards:
        return record + item_bytes(task.cell, infos)
    classes = len(task.classes.indices) if isinstance(task, ShardTask) else None
    # A checkpoint holds items and momentum beside the finished set.
    return record + 3 * item_bytes(task.cell, infos, classes)
