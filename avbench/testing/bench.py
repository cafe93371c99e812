"""The workbench: stores, plans and run directories in a temporary folder, worked by the runner's own code."""

from __future__ import annotations

import atexit
import itertools
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from avbench.data.store import read_info
from avbench.desk import Desk, Spec
from avbench.grammar import Variant
from avbench.grid import Planned, Request, expand
from avbench.jobs import DistilTask, Engine, EvaluateTask
from avbench.method import Context
from avbench.presets import preset
from avbench.tasks.distilling import context_of, distil
from avbench.tasks.evaluating import evaluate
from avbench.tasks.prerequisites import build_prerequisite
from avbench.testing.stores import PLAIN, STORES, write_store
from avbench.testing.watching import torch_restored, unwatched
from avbench.work import Work
from avbench.worker import settle_torch

PRESET = "quick"
#: Training in the kit shows that something runs, not how well.
_SHORT = {preset(PRESET).protocol: {"updates": "2", "epochs": "1"}}
#: Seeds of validation and test samples: both stores have the same training split.
_SECRETS = {"data": 1, "twin": 2}
#: Longer than any check.
_NEVER_S = 1e9


@dataclass(frozen=True)
class Scene:
    """Where a plugin is tried.

    Attributes:
        data: the folder of stores; ``"twin"``: one whose validation and test samples differ.
    """

    store: str = PLAIN
    ipc: int = 2
    modality: str = "av"
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"
    micro_batch: int | None = None
    data: str = "data"

    def __str__(self) -> str:
        return f"{self.store}, ipc {self.ipc}, modality {self.modality}, seed {self.seed}"


class Stopped(BaseException):
    """The kit interrupts a run, as Ctrl-C would."""


class StoppingDesk(Desk):
    """A desk that saves a checkpoint before step ``stop``, and is interrupted there; ``None``: never.

    It checkpoints only there: a checkpoint a step would take most of a check's time.
    """

    def __init__(self, spec: Spec, events: Path, stop: int | None = None) -> None:
        super().__init__(spec, events)
        self.stop = stop

    def step(self, task: Any, work: Work, k: int, curve: Any) -> None:
        """As the runner's, until it is time to stop."""
        if self.stop is not None and k >= self.stop:
            raise Stopped
        if self.stop is not None and k + 1 == self.stop:
            self.spec = replace(self.spec, engine=replace(self.spec.engine, checkpoint_s=0.0))
        super().step(task, work, k, curve)


def _remove(folder: Path) -> None:
    """Called when a bench is garbage, which may be while another plugin is watched."""
    with unwatched():
        shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """The temporary folder in which one subject is checked."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="avbench-check-"))
        weakref.finalize(self, _remove, self.root)
        self._count = itertools.count()

    def data(self, scene: Scene) -> Path:
        """The folder of stores."""
        return store_root() / scene.data

    def new_folder(self, what: str) -> Path:
        """A fresh, empty folder."""
        folder = self.root / f"{what}-{next(self._count)}"
        folder.mkdir()
        return folder

    @cached_property
    def runs(self) -> Path:
        """The run directory in which what methods require is kept from check to check."""
        return self.new_folder("runs")

    def planned(self, scene: Scene, parts: Mapping[str, Variant], networks: int = 1) -> Planned:
        """The cell of a scene, planned as ``avbench run`` does.

        Args:
            parts: ``method`` and, where it matters, ``architecture``, ``fusion`` and ``protocol``.

        Raises:
            RequestError: the plugin refuses this setting.
        """
        request = Request(
            methods=(parts["method"],),
            datasets=(read_info(self.data(scene), scene.store),),
            ipcs=(scene.ipc,),
            seeds=scene.seed + 1,
            networks=networks,
            architectures=_some(parts, "architecture"),
            fusions=_some(parts, "fusion"),
            protocols=_some(parts, "protocol"),
            modalities=(scene.modality,),
            settings=_SHORT,
            preset=PRESET,
            precision=scene.precision,
        )
        return next(p for p in expand(request).planned if p.cell.seed == scene.seed)

    def desk(self, scene: Scene, out: Path, stop: int | None = None) -> StoppingDesk:
        """A worker's desk, see :class:`StoppingDesk`."""
        engine = Engine(scene.device, 1, scene.micro_batch, _NEVER_S)
        events = out / f"events-{next(self._count)}.jsonl"
        return StoppingDesk(Spec((), out, self.data(scene), engine, ("avbench", "check"), ()), events, stop)

    def require(self, desk: Desk, planned: Planned) -> None:
        """Build what the cell requires, by the runner's own code."""
        for task in planned.prerequisites:
            build_prerequisite(desk, task)

    def context(self, desk: Desk, planned: Planned, classes: Sequence[int] | None = None) -> Context:
        """What a worker gives to the method of a cell; ``classes``: a shard."""
        whole = context_of(desk, planned.cell)
        return whole if classes is None else replace(whole, classes=tuple(classes))

    def distil(self, desk: Desk, planned: Sequence[Planned]) -> list[dict[str, Any]]:
        """Distil cells together and return their records."""
        distil(desk, [DistilTask(p.cell) for p in planned])
        found = [desk.directory.record("distil", p.cell.key) for p in planned]
        return [record or {"status": "failed", "error": {"phase": "", "reason": "no record"}} for record in found]

    def judge(self, desk: Desk, task: EvaluateTask) -> dict[str, Any]:
        """Judge a set that is distilled, and return the record."""
        evaluate(desk, task)
        set_hash = desk.directory.set_hash(task.cell.key)
        found = desk.directory.record("evaluate", task.record_key(set_hash)) if set_hash else None
        return found or {"status": "failed", "error": {"phase": "", "reason": "no record"}}


@contextmanager
def worker_settings() -> Iterator[None]:
    """The settings of torch under which a worker works, put back afterwards."""
    with torch_restored():
        settle_torch(1)
        yield


def _some(parts: Mapping[str, Variant], name: str) -> tuple[Variant, ...]:
    return (parts[name],) if name in parts else ()


@cache
def store_root() -> Path:
    """The folder of the stores, which are written once a process and removed at its end."""
    root = Path(tempfile.mkdtemp(prefix="avbench-stores-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for folder, secret in _SECRETS.items():
        for name in STORES:
            write_store(root / folder, name, secret=secret)
    return root
