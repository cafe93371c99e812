"""Class shards: a distil job cut into jobs of some classes each, and the task that puts their sets together.

A cut changes who does what and no result, so it is no part of any key: the cell, its record and all that follows are
those of a run that does not cut. It is made on a finished plan.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch

from avbench.cells import Cell
from avbench.configure import reconstruct
from avbench.data.store import StoreInfo
from avbench.grid import Planned
from avbench.jobs import ClassRange, DistilTask, EvaluateTask, Job, ShardTask
from avbench.plan import Plan, Standing, disk_bytes, shared_steps, within_memory
from avbench.results import RunDirectory

__all__ = ["class_ranges", "cut"]


def class_ranges(classes: int, shards: int) -> tuple[ClassRange, ...]:
    """``classes`` in ``shards`` ranges whose lengths differ by at most one; no more ranges than there are classes."""
    count = min(shards, classes)
    edges = [index * classes // count for index in range(count + 1)]
    return tuple(ClassRange(first, stop) for first, stop in pairwise(edges))


def cut(plan: Plan, directory: RunDirectory, shards: int) -> Plan:
    """The plan with each distil job of separable cells cut into ``shards`` jobs; notes tell which cells stay whole.

    Shards that are done from an earlier run of the same cut are not done again. Those of another cut are not used:
    they are removed with the set's completion.
    """
    if shards == 1:
        return plan
    remaining = {task.key for job in plan.jobs if job.kind == "distil" for task in job.tasks}
    reasons = _Reasons(directory)
    groups: dict[Hashable, list[Planned]] = {}
    for index, p in enumerate(plan.planned):
        if p.cell.key in remaining and not reasons.stays_whole(p, plan.infos[p.cell.dataset]):
            groups.setdefault(shared_steps(p) or index, []).append(p)
    made = _Cut(plan, directory)
    for members in groups.values():
        ranges = class_ranges(len(plan.infos[members[0].cell.dataset].classes), shards)
        largest = max(len(each.indices) for each in ranges)
        for part in within_memory(members, plan.infos, largest):
            made.add(part, ranges)
    return replace(made.plan(), notes=(*plan.notes, *reasons.notes(shards)))


class _Reasons:
    """Why cells are left whole."""

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory
        self._per_sample: dict[str, bool] = {}
        self._labels: dict[str, list[str]] = {}

    def stays_whole(self, p: Planned, info: StoreInfo) -> bool:
        """Whether a cell can't be cut; it is remembered why."""
        why = self._why(p, info)
        if why and p.cell.method.label not in self._labels.setdefault(why, []):
            self._labels[why].append(p.cell.method.label)
        return bool(why)

    def _why(self, p: Planned, info: StoreInfo) -> str:
        if p.light:
            return "selecting takes no time that a cut could save"
        if not reconstruct("methods", p.cell.method).target.separable:
            return "the method does not say that its classes distil independently (separable)"
        if len(info.classes) == 1:
            return f"{info.name} has one class"
        if not self._treats_samples_alone(p.cell, info):
            label = p.cell.training.architecture.label
            return f"with {label} a sample's embedding depends on the others of its batch"
        if (self._directory.folder("distil", p.cell.key) / "checkpoint.safetensors").is_file():
            return "it was begun whole before, and goes on from its checkpoint"
        return ""

    def _treats_samples_alone(self, cell: Cell, info: StoreInfo) -> bool:
        """Whether the networks that distil a cell embed each sample by itself; built without memory for weights."""
        reference = cell.training.architecture
        what = f"{info.name} {cell.modality} {reference.identity()}"
        if what not in self._per_sample:
            architecture = reconstruct("architectures", reference).build()
            with torch.device("meta"):
                self._per_sample[what] = all(architecture.build(info, name).per_sample for name in cell.modality)
        return self._per_sample[what]

    def notes(self, shards: int) -> tuple[str, ...]:
        return tuple(
            f"--shards {shards}: {', '.join(labels)} left whole: {why}." for why, labels in self._labels.items()
        )


@dataclass
class _Cut:
    """A plan in the cutting: the jobs that make shards, and those that put them together."""

    whole: Plan
    directory: RunDirectory
    shards: list[ShardTask] = field(default_factory=list)
    making: list[Job] = field(default_factory=list)
    merging: list[Job] = field(default_factory=list)
    cells: set[str] = field(default_factory=set)
    standing: Standing = field(init=False)

    def __post_init__(self) -> None:
        self.standing = Standing(self.directory, self.whole.retry_failed)

    def add(self, part: Iterable[Planned], ranges: tuple[ClassRange, ...]) -> None:
        """Cut cells that share their steps together: a job makes the same shard of each."""
        tasks = [DistilTask(p.cell, p.snapshots, ranges) for p in part]
        self.cells.update(task.key for task in tasks)
        for shards in zip(*(task.parts for task in tasks), strict=True):
            self.shards += shards
            remaining = tuple(shard for shard in shards if self.standing.remains(shard, shard.key))
            if remaining:
                required = {key for shard in remaining for key in shard.cell.prerequisites.values()}
                self.making.append(Job(remaining, frozenset(required) - self.whole.done))
        # Its own record, if there is one, has been looked at by the plan.
        mergeable = [t for t in tasks if self.standing.remains(t, None, [shard.key for shard in t.parts])]
        if mergeable:
            needs = frozenset(shard.key for task in mergeable for shard in task.parts) - self.standing.done
            self.merging.append(Job(tuple(mergeable), needs))

    def plan(self) -> Plan:
        plan, stranded = self.whole, {task.key for task in self.standing.stranded}
        before = [job for job in plan.jobs if job.kind == "prerequisite"]
        uncut = [self._without(job, self.cells) for job in plan.jobs if job.kind == "distil"]
        after = [self._without(job, stranded) for job in plan.jobs if job.kind == "evaluate"]
        jobs = [*before, *self.making, *filter(None, uncut), *self.merging, *filter(None, after)]
        return replace(
            plan,
            jobs=tuple(jobs),
            done=plan.done | self.standing.done,
            failed=(*plan.failed, *self.standing.failed),
            stranded=(*plan.stranded, *self.standing.stranded, *self._unjudged(stranded)),
            retried=plan.retried + self.standing.retried,
            disk_bytes=sum(disk_bytes(task, plan.infos) for job in jobs for task in job.tasks),
            shards=tuple(self.shards),
        )

    def _without(self, job: Job, cells: set[str]) -> Job | None:
        """What is left of a job without the tasks of some cells; its needs are those that it still has."""
        kept = tuple(t for t in job.tasks if isinstance(t, DistilTask | EvaluateTask) and t.cell.key not in cells)
        return Job(kept, job.needs - cells) if kept else None

    def _unjudged(self, cells: set[str]) -> list[EvaluateTask]:
        """Evaluations of cells that can't be put together, because a shard failed before."""
        tasks = (task for job in self.whole.jobs for task in job.tasks)
        return [task for task in tasks if isinstance(task, EvaluateTask) and task.cell.key in cells]
