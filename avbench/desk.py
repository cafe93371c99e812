"""The desk at which a worker does its tasks: specification, stores, events, records, and the loop over steps.

The loop is here once for all kinds of work: progress, checkpoints, resume, time and the refusal of values that are
not finite are the runner's, never a plugin's.
"""

from __future__ import annotations

import json
import math
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from avbench.cells import Cell
from avbench.checkpoint import load_checkpoint, save_checkpoint
from avbench.data.samples import TrainSet
from avbench.data.store import Store, open_store
from avbench.environment import environment, peak_memory_mib
from avbench.errors import AvbenchError, StoreError
from avbench.hooks import Hooks
from avbench.jobs import (
    DistilTask,
    Engine,
    EvaluateTask,
    PrerequisiteTask,
    ShardTask,
    Task,
    default_micro_batch,
    task_from_json,
)
from avbench.plugin import Setting
from avbench.precision import dtype_name, lowered
from avbench.randomness import STREAM_SCHEME, Streams
from avbench.results import RunDirectory
from avbench.work import Work

_EVENT_EVERY_S = 0.25


class TaskError(AvbenchError):
    """A task failed: with the phase it was in."""

    def __init__(self, phase: str, message: str) -> None:
        super().__init__(message)
        self.phase = phase


@dataclass(frozen=True)
class Spec:
    """What a worker is told."""

    tasks: tuple[Task, ...]
    out: Path
    data: Path
    engine: Engine
    argv: tuple[str, ...]
    hooks: tuple[str, ...]

    @classmethod
    def read(cls, folder: Path) -> Spec:
        values = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
        return cls(
            tuple(task_from_json(task) for task in values["tasks"]),
            Path(values["out"]),
            Path(values["data"]),
            Engine(**values["engine"]),
            tuple(values["argv"]),
            tuple(values["hooks"]),
        )


class Desk:
    """What the tasks of one job have in common: the store, the run directory, events, hooks and the loop."""

    def __init__(self, spec: Spec, events: Path) -> None:
        self.spec = spec
        self.directory = RunDirectory(spec.out)
        self.device = torch.device(spec.engine.device)
        self._events = events.open("a", encoding="utf-8", buffering=1)
        self.hooks = Hooks(spec.hooks, self._tell_of_hook)
        self._told: dict[str, float] = {}
        self._stores: dict[str, Store] = {}
        self._train: dict[tuple[str, torch.dtype], TrainSet] = {}
        self.failures = 0

    def tell(self, **event: Any) -> None:
        """Write an event for whoever watches."""
        self._events.write(json.dumps({"time": time.time(), **event}) + "\n")

    def _tell_of_hook(self, name: str, problem: str) -> None:
        """Have the coordinator say what a hook did: a worker's stderr is its log."""
        self.tell(event="hook", task="", hook=name, reason=problem)

    def store(self, cell: Cell) -> Store:
        """The cell's store; refused when its fingerprint is not the planned one."""
        if cell.dataset not in self._stores:
            self._stores[cell.dataset] = open_store(self.spec.data, cell.dataset)
        found = self._stores[cell.dataset]
        if found.info.fingerprint != cell.fingerprint:
            raise StoreError(
                f"store {cell.dataset!r} has fingerprint {found.info.fingerprint[:12]}, the plan was made with "
                f"{cell.fingerprint[:12]}: run the command again."
            )
        return found

    def train_set(self, cell: Cell) -> TrainSet:
        key = (cell.dataset, dtype_of(cell))
        if key not in self._train:
            self._train[key] = TrainSet(self.store(cell), self.device, dtype_of(cell))
        return self._train[key]

    def setting(self, cell: Cell) -> Setting:
        return Setting(self.store(cell).info, cell.ipc, cell.modality, cell.preset)

    def micro_batch(self, cell: Cell) -> int:
        return self.spec.engine.micro_batch or default_micro_batch(self.store(cell).info)

    def streams(self, cell: Cell) -> Streams:
        return Streams(cell.seed)

    def checkpoint(self, task: Task, key: str) -> Path:
        return self.directory.folder(task.kind, key) / "checkpoint.safetensors"

    def enter(self, task: Task, phase: str) -> None:
        """Tell the phase that a task enters: should the worker be killed there, the record says so."""
        self.tell(event="phase", task=task.key, phase=phase)

    def succeed(self, task: Task, key: str, spent_s: float, record: Mapping[str, Any]) -> None:
        """Write the record of a finished task, and tidy up."""
        self.directory.write_record(task.kind, key, {"status": "done", **self._common(task, spent_s), **record})
        self.directory.tidy(task.kind, key)
        self.tell(event="done", task=task.key)

    def fail(self, task: Task, key: str, spent_s: float, error: BaseException) -> None:
        """Record a failure; other tasks go on."""
        self.failures += 1
        phase = getattr(error, "phase", "") or task.kind
        reason = f"{error}" if isinstance(error, AvbenchError) else f"{type(error).__name__}: {error}"
        cause = "out of memory" if out_of_memory(error) else "raised"
        if cause == "out of memory":
            reason += "; try fewer --jobs or a smaller --micro-batch"
        record = {
            "status": "failed",
            "error": {"phase": phase, "reason": reason, "type": type(error).__name__, "cause": cause},
            **self._common(task, spent_s),
        }
        self.directory.write_record(task.kind, key, record)
        self.tell(event="failed", task=task.key, reason=f"{reason} (in {phase})")
        if not isinstance(error, AvbenchError):
            traceback.print_exception(error)  # into the job's log, never onto the user's screen

    def _common(self, task: Task, spent_s: float) -> dict[str, Any]:
        return {
            **describe_task(task),
            "argv": list(self.spec.argv),
            "engine": asdict(self.spec.engine),
            "environment": environment(),
            "threads": torch.get_num_threads(),
            "duration_s": round(spent_s, 3),
            "peak_memory_mib": peak_memory_mib(self.device),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }

    def step(self, task: Task, work: Work, k: int, curve: Callable[[Mapping[str, float]], None] | None) -> None:
        """Make one step of a task: check what it returns, tell it, give it to the hooks."""
        began = time.monotonic()
        with lowered(_steps_in(task), self.device.type):
            metrics = {name: float(value) for name, value in work.step(k).items()}
        wrong = {name: value for name, value in metrics.items() if not math.isfinite(value)}
        if wrong:
            raise TaskError(f"step {k}", f"not finite: {wrong}; lower the learning rate or look at the data.")
        if curve is not None and metrics:
            curve(metrics)
        if self.hooks.names:
            self.hooks.fire("step", task=task.key, step=k, metrics=metrics)
        now = time.monotonic()
        if now - self._told.get(task.key, 0.0) >= _EVENT_EVERY_S or k + 1 == work.steps:
            self._told[task.key] = now
            self.tell(event="step", task=task.key, done=k + 1, steps=work.steps, step_s=now - began)

    def drive(self, task: Task, key: str, work: Work) -> float:
        """All steps of one task, from its checkpoint on, saving a new one every ``checkpoint_s`` seconds.

        Returns the seconds that processes before this one spent on it.
        """
        path = self.checkpoint(task, key)
        found = load_checkpoint(path, self.device)
        start, before_s = 0, 0.0
        if found is not None:
            start, state = found
            work.load_state(state["work"])
            before_s = state["spent_s"]
        began = saved = time.monotonic()
        for k in range(start, work.steps):
            self.step(task, work, k, None)
            now = time.monotonic()
            if now - saved >= self.spec.engine.checkpoint_s:
                state = {"work": work.state(), "spent_s": before_s + now - began}
                save_checkpoint(path, k + 1, state, self.device)
                saved = now
        self.enter(task, "writing")
        return before_s


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on the machine or on the GPU."""
    # torch's allocator for the processor raises a plain RuntimeError.
    allocator = isinstance(error, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(error)
    return allocator or isinstance(error, MemoryError | torch.OutOfMemoryError)


def dtype_of(cell: Cell) -> torch.dtype:
    """The torch dtype of what a cell of this precision holds."""
    return {"float32": torch.float32, "float64": torch.float64}[dtype_name(cell.precision)]


def _steps_in(task: Task) -> str:
    """The precision of a task's steps: what is trained for others, or judged, is never lowered."""
    return task.cell.precision if isinstance(task, DistilTask | ShardTask) else ""


def describe_task(task: Task) -> dict[str, Any]:
    """What a record says of its task, besides the result: also used for a worker that was killed."""
    cell = task.owner if isinstance(task, PrerequisiteTask) else task.cell
    described: dict[str, Any] = {
        "dataset": {"name": cell.dataset, "fingerprint": cell.fingerprint, "plugin": cell.dataset_plugin},
        "seed": cell.seed,
        "modality": cell.modality,
        "precision": dtype_name(cell.precision) if isinstance(task, PrerequisiteTask) else cell.precision,
        "preset": cell.preset,
        "streams": STREAM_SCHEME,
        "planned_seeds": cell.planned_seeds,
        "planned_networks": cell.planned_networks,
    }
    if isinstance(task, PrerequisiteTask):
        # Of its owner only what it depends on: the rest is shared, and would name whoever came first.
        own = {"seed", "modality"}.intersection(task.depends_on)
        described = {
            name: value for name, value in described.items() if name not in ("seed", "modality") or name in own
        }
        training = {part: ref for part, ref in asdict(cell.training).items() if part in task.depends_on}
        return {**described, "name": task.name, "training": training, "depends_on": list(task.depends_on)}
    described |= {
        "method": asdict(cell.method),
        "role": cell.role,
        "ipc": cell.ipc,
        "architecture": asdict(cell.training.architecture),
        "prerequisites": dict(cell.prerequisites),
    }
    if isinstance(task, ShardTask):
        described |= {"distil_key": cell.key, "classes": asdict(task.classes)}
    if isinstance(task, EvaluateTask):
        described |= {
            "distil_key": cell.key,
            "protocol": asdict(task.judged_by.protocol),
            "evaluated_architecture": asdict(task.judged_by.architecture),
            "fusion": asdict(task.judged_by.fusion),
            **({} if task.split == "test" else {"split": task.split}),
        }
    return described
