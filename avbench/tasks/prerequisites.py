"""Building what methods require, and handing it over."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from avbench.configure import reconstruct
from avbench.desk import Desk, TaskError, dtype_of
from avbench.jobs import Cell, PrerequisiteTask, prerequisite_key
from avbench.prerequisite import PrerequisiteContext

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
            need.identity(), cell.fingerprint, cell.seed, cell.modality, cell.precision, cell.training
        )
        if key != task.key:
            raise TaskError("prerequisite", f"{task.name} is no longer what was planned: run the command again.")
        context = PrerequisiteContext(
            train=desk.train_set(cell),
            modality=cell.modality,
            streams=desk.streams(cell),
            architecture=reconstruct("architectures", cell.training.architecture).build(),
            protocol=reconstruct("protocols", cell.training.protocol).build(),
            fusion=reconstruct("fusions", cell.training.fusion).build(),
            device=desk.device,
            dtype=dtype_of(cell),
            micro_batch=desk.spec.engine.micro_batch,
        )
        work = need.build(context)
        before_s = desk.drive(task, task.key, work)
        keep_tensors(desk.directory.folder(task.kind, task.key), work.tensors())
        desk.succeed(task, task.key, before_s + time.monotonic() - started, {"identity": need.identity()})
    except Exception as error:
        desk.fail(task, task.key, time.monotonic() - started, error)


def keep_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write the tensors of a prerequisite; they count only once its record says done."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{_TENSORS}.{os.getpid()}"
    save_file({name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}, partial)
    partial.replace(folder / _TENSORS)


def load_prerequisites(desk: Desk, cell: Cell) -> dict[str, dict[str, Tensor]]:
    """The tensors of all that a cell requires, by name.

    Raises:
        TaskError: one of them is not there.
    """
    found = {}
    for name, key in cell.prerequisites.items():
        if not desk.directory.done("prerequisite", key):
            raise TaskError("prerequisite", f"{name} ({key}) is not there: it failed, or it was removed.")
        found[name] = read_tensors(desk.directory.folder("prerequisite", key))
    return found


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a prerequisite that is done.

    Raises:
        TaskError: the file was removed or truncated since.
    """
    try:
        return load_file(folder / _TENSORS)
    except (OSError, SafetensorError) as error:
        raise TaskError(
            "prerequisite", f"{folder / _TENSORS} can't be read ({error}): remove {folder} and run the command again."
        ) from None
