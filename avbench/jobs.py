"""Tasks and jobs: what a plan is made of, their content keys, and their form as JSON.

A *task* makes one artefact or record and has a key: the hash of all that its result depends on. A *job* is one or
several tasks that one worker process does in turn. Device, threads and engine are recorded, not keyed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, Literal

from avbench.cells import Cell, Networks, PluginRef, content_key
from avbench.data.store import StoreInfo
from avbench.precision import dtype_name

_PAPER_FRAME = 3 * 224 * 224
#: What of a cell a prerequisite may depend on, besides its dataset and precision.
DEPENDENCIES = frozenset({"seed", "modality", "protocol", "architecture", "fusion"})


@dataclass(frozen=True)
class PrerequisiteTask:
    """Build the prerequisite ``name`` that ``owner`` requires, shared over whatever ``depends_on`` leaves out."""

    owner: Cell
    name: str
    key: str
    depends_on: tuple[str, ...] = tuple(sorted(DEPENDENCIES))

    kind = "prerequisite"

    @property
    def title(self) -> str:
        """Names of the owner's what the prerequisite depends on: the rest is shared."""
        owner = self.owner
        modality = f" {owner.modality}" if owner.modality != "av" and "modality" in self.depends_on else ""
        seed = f" seed {owner.seed}" if "seed" in self.depends_on else ""
        return f"{self.name} for {owner.dataset}{modality}{seed}"


@dataclass(frozen=True)
class ClassRange:
    """The classes from index ``first`` to before ``stop``."""

    first: int
    stop: int

    @property
    def indices(self) -> tuple[int, ...]:
        return tuple(range(self.first, self.stop))

    def __str__(self) -> str:
        last = self.stop - 1
        return f"class {self.first}" if self.first == last else f"classes {self.first}–{last}"


@dataclass(frozen=True)
class ShardTask:
    """Make the part of a distilled set that some of its classes are, with its snapshots.

    Its key is the cell's with the range: whose part it is can be told from the name of its folder.
    """

    cell: Cell
    classes: ClassRange
    snapshots: tuple[int, ...] = ()

    kind = "shard"

    @property
    def key(self) -> str:
        return f"{self.cell.key}-{self.classes.first}-{self.classes.stop}"

    @property
    def title(self) -> str:
        return f"{self.cell.name}, {self.classes}"


def cell_of_shard(key: str) -> str:
    """The key of the cell that the key of a shard belongs to."""
    return key.partition("-")[0]


@dataclass(frozen=True)
class DistilTask:
    """Make one distilled set, and keep what it was after the steps in ``snapshots``: not keyed, they change nothing.

    Where there are ``shards`` it is put together from them: not keyed either, the set is the same.
    """

    cell: Cell
    snapshots: tuple[int, ...] = ()
    shards: tuple[ClassRange, ...] = ()

    kind = "distil"

    @property
    def key(self) -> str:
        return self.cell.key

    @property
    def title(self) -> str:
        return self.cell.name

    @property
    def parts(self) -> tuple[ShardTask, ...]:
        """The tasks that make its shards."""
        return tuple(ShardTask(self.cell, classes, self.snapshots) for classes in self.shards)


@dataclass(frozen=True)
class EvaluateTask:
    """Judge one distilled set under one protocol, architecture and fusion; all its networks, all modalities.

    Its record's key holds the hash of the set, known only once it is made: see :meth:`record_key`. Until then
    ``key`` names the task. With ``snapshot`` it judges the set as it was after so many steps. With ``split`` ``"val"``
    it judges on the validation split, to choose a hyper-parameter: no board shows that.
    """

    cell: Cell
    judged_by: Networks
    networks: int
    snapshot: int | None = None
    split: Literal["test", "val"] = "test"

    kind = "evaluate"

    @property
    def key(self) -> str:
        facts = {"distil": self.cell.key, "by": self.judged_by.identity(), "networks": self.networks}
        at = {} if self.snapshot is None else {"snapshot": self.snapshot}
        return content_key("evaluate-task", facts | at | self._on())

    def _on(self) -> dict[str, str]:
        """The split as part of a key: only where it is not the usual one."""
        return {} if self.split == "test" else {"split": self.split}

    @property
    def title(self) -> str:
        """Names of how it is judged what differs from how the cell's prerequisites are trained."""
        judges, usual = self.judged_by, self.cell.training
        parts = [(judges.architecture, usual.architecture), (judges.fusion, usual.fusion)]
        labels = [given.label for given, plain in [*parts, (judges.protocol, usual.protocol)] if given != plain]
        by = f" by {', '.join(labels)}" if labels else ""
        at = "" if self.snapshot is None else f" after step {self.snapshot}"
        on = "" if self.split == "test" else " on the validation split"
        return f"evaluate {self.cell.name}{at}{by}{on}"

    def record_key(self, set_hash: str) -> str:
        """The key of the record, given the content hash of the distilled set."""
        facts = {
            "set": set_hash,
            "fingerprint": self.cell.fingerprint,
            "by": self.judged_by.identity(),
            "seed": self.cell.seed,
            "modality": self.cell.modality,
            "precision": self.cell.precision,
            "networks": self.networks,
        }
        return content_key("evaluate", facts | self._on())


Task = PrerequisiteTask | ShardTask | DistilTask | EvaluateTask


def in_lock_step(kind: str) -> bool:
    """Whether the tasks of a job of this kind make their steps together, and end together; others are done in turn."""
    return kind in (ShardTask.kind, DistilTask.kind)


def prerequisite_key(
    identity: Mapping[str, Any],
    fingerprint: str,
    seed: int,
    modality: str,
    precision: str,
    training: Networks,
    depends_on: frozenset[str] = DEPENDENCIES,
) -> str:
    """The key of a prerequisite: shared by whatever requires an equal one and agrees in all that it depends on.

    Raises:
        ValueError: ``depends_on`` names something that no prerequisite can depend on.
    """
    if not depends_on <= DEPENDENCIES:
        unknown = ", ".join(sorted(depends_on - DEPENDENCIES))
        raise ValueError(f"depends_on names {unknown}; known are {', '.join(sorted(DEPENDENCIES))}")
    own = {"seed": seed, "modality": modality}
    facts = {
        "identity": dict(identity),
        "fingerprint": fingerprint,
        "precision": dtype_name(precision),
        "training": {part: facts for part, facts in training.identity().items() if part in depends_on},
        **{name: value for name, value in own.items() if name in depends_on},
    }
    return content_key("prerequisite", facts)


def trained_network_key(task: EvaluateTask, identity: Mapping[str, Any], info: StoreInfo) -> str:
    """The key under which an evaluation of the whole data shares its trained networks with methods."""
    cell = task.cell
    return prerequisite_key(identity, info.fingerprint, cell.seed, cell.modality, cell.precision, task.judged_by)


@dataclass(frozen=True)
class Engine:
    """How a job is run; recorded, not keyed.

    Attributes:
        threads: threads of torch's CPU kernels, whatever the environment says.
        micro_batch: the most samples sent through a network at once; ``None``: what their size allows, see
            :func:`default_micro_batch`.
        checkpoint_s: seconds between checkpoints.
    """

    device: str = "cpu"
    threads: int = 1
    micro_batch: int | None = None
    checkpoint_s: float = 60.0


def default_micro_batch(info: StoreInfo) -> int:
    """How many of a dataset's samples to send through a network at once.

    256, and fewer of large ones: 64 at 224 × 224, where gradient matching at the paper's width then takes 7 GiB of a
    GPU's memory and 27 GiB otherwise (docs/methods/gradient-matching.md). It depends on the dataset alone, so that no
    other part of a command moves a rounding.
    """
    largest = max(prod(info.audio_shape), prod(info.frame_shape))
    return max(1, min(256, 64 * _PAPER_FRAME // largest))


@dataclass(frozen=True)
class Job:
    """Tasks of one kind for one worker process, and the keys of the tasks that must be done before."""

    tasks: tuple[Task, ...]
    needs: frozenset[str] = frozenset()

    @property
    def kind(self) -> str:
        return self.tasks[0].kind

    @property
    def id(self) -> str:
        keys = [task.key for task in self.tasks]
        return f"{self.kind}-{content_key('job', {'tasks': keys})[:12]}"


# --- JSON ---------------------------------------------------------------------------------------------------------


def _networks_from(values: Mapping[str, Any]) -> Networks:
    return Networks(**{part: PluginRef(**reference) for part, reference in values.items()})


def _cell_from(values: Mapping[str, Any]) -> Cell:
    plain = dict(values)
    plain["method"] = PluginRef(**plain["method"])
    plain["training"] = _networks_from(plain["training"])
    return Cell(**plain)


def task_to_json(task: Task) -> dict[str, Any]:
    """A task as JSON-able values."""
    return {"kind": task.kind, **asdict(task)}


def task_from_json(values: Mapping[str, Any]) -> Task:
    """The inverse of :func:`task_to_json`."""
    kind = values["kind"]
    if kind == "prerequisite":
        owner, depends_on = _cell_from(values["owner"]), tuple(values["depends_on"])
        return PrerequisiteTask(owner, values["name"], values["key"], depends_on)
    if kind == "shard":
        return ShardTask(_cell_from(values["cell"]), ClassRange(**values["classes"]), tuple(values["snapshots"]))
    if kind == "distil":
        shards = tuple(ClassRange(**each) for each in values.get("shards", ()))
        return DistilTask(_cell_from(values["cell"]), tuple(values["snapshots"]), shards)
    judged_by = _networks_from(values["judged_by"])
    cell = _cell_from(values["cell"])
    return EvaluateTask(cell, judged_by, values["networks"], values["snapshot"], values.get("split", "test"))
