"""Building what methods require, and handing it over."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from avbench.cells import Cell, PluginRef
from avbench.configure import reconstruct
from avbench.desk import Desk, TaskError, dtype_of
from avbench.jobs import PrerequisiteTask, prerequisite_key
from avbench.prerequisite import SHARED_SEED, Prerequisite, PrerequisiteContext
from avbench.randomness import Streams
from avbench.tensor_files import save_tensors_atomically

_TENSORS = "tensors.safetensors"


def build_prerequisite(desk: Desk, task: PrerequisiteTask) -> None:
    """Build what the owner's method requires under the task's name, and keep its tensors."""
    started = time.monotonic()
    if desk.directory.done(task.kind, task.key):
        desk.tell(event="done", task=task.key)
        return
    try:
        cell = task.owner
        method = reconstruct("methods", cell.method)
        need = method.target.requires(method.config, desk.setting(cell))[task.name]
        key = prerequisite_key(
            need.identity(),
            cell.fingerprint,
            cell.seed,
            cell.modality,
            cell.precision,
            cell.training,
            need.depends_on,
        )
        if key != task.key:
            raise TaskError("prerequisite", f"{task.name} is no longer what was planned: run the command again.")
        work = need.build(_context(desk, cell, need))
        before_s = desk.drive(task, task.key, work)
        keep_tensors(desk.directory.folder(task.kind, task.key), work.tensors())
        desk.succeed(task, task.key, before_s + time.monotonic() - started, {"identity": need.identity()})
    except Exception as error:
        desk.fail(task, task.key, time.monotonic() - started, error)


class _Withheld:
    """Stands where a prerequisite declared that it does not depend on something; using it is an error."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> Any:
        raise TaskError("prerequisite", f"it uses the {self._what}, which its depends_on does not name.")


def _context(desk: Desk, cell: Cell, need: Prerequisite) -> PrerequisiteContext:
    """What the prerequisite may use: whatever its key does not hold is withheld."""

    def part(kind: str, ref: PluginRef) -> Any:
        return reconstruct(f"{kind}s", ref).build() if kind in need.depends_on else _Withheld(kind)

    return PrerequisiteContext(
        train=desk.train_set(cell),
        modality=cell.modality if "modality" in need.depends_on else "",
        streams=desk.streams(cell) if "seed" in need.depends_on else Streams(SHARED_SEED),
        architecture=part("architecture", cell.training.architecture),
        protocol=part("protocol", cell.training.protocol),
        fusion=part("fusion", cell.training.fusion),
        device=desk.device,
        dtype=dtype_of(cell),
        micro_batch=desk.micro_batch(cell),
    )


def keep_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a prerequisite; they count only once its record says done."""
    save_tensors_atomically(folder / _TENSORS, tensors)


def load_prerequisites(desk: Desk, cell: Cell) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of all that a cell requires, by name.

    Raises:
        TaskError: one of them is not there.
    """
    found: dict[str, Mapping[str, Tensor]] = {}
    for name, key in cell.prerequisites.items():
        if not desk.directory.done("prerequisite", key):
            raise TaskError("prerequisite", f"{name} ({key}) is not there: it failed, or it was removed.")
        found[name] = read_tensors(desk.directory.folder("prerequisite", key))
    return found


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of a file, each read when it is asked for and never kept.

    Raises:
        OSError, SafetensorError: the file is absent, or is not a whole safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._file = safe_open(path, framework="pt")
        self._names: tuple[str, ...] = tuple(self._file.keys())  # type: ignore[no-untyped-call]

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        found: Tensor = self._file.get_tensor(name)  # type: ignore[no-untyped-call]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def read_tensors(folder: Path) -> Mapping[str, Tensor]:
    """The tensors of a prerequisite that is done; many and large ones need not fit into memory together.

    Raises:
        TaskError: the file was removed or truncated since.
    """
    try:
        return StoredTensors(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise TaskError(
            "prerequisite", f"{folder / _TENSORS} can't be read ({error}): remove {folder} and run the command again."
        ) from None
