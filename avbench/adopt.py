"""Bringing distilled sets from elsewhere into a run directory, where they are cells like those that it made."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avbench.cells import Cell, Networks, PluginRef
from avbench.data.clips import sha256_of
from avbench.data.store import StoreInfo
from avbench.desk import describe_task
from avbench.distilled import DistilledSet, LearnedSet
from avbench.environment import environment
from avbench.errors import RequestError
from avbench.formats import Found
from avbench.grid import Planned, Request, judging
from avbench.jobs import DistilTask, EvaluateTask
from avbench.plugin import Setting
from avbench.presets import Preset, preset
from avbench.results import RunDirectory
from avbench.tasks.distilling import describe_set


@dataclass(frozen=True)
class Adoption:
    """How sets are to be judged, and where they came from.

    Attributes:
        label: what the board calls them; "" for what a run's own record says, or the name of the file.
        request: ``methods`` and ``ipcs`` are not looked at.
    """

    path: Path
    label: str
    request: Request
    argv: tuple[str, ...]


def adopt(found: Sequence[Found], adoption: Adoption, directory: RunDirectory) -> list[Planned]:
    """Copy sets into ``directory``, each with a record of its own, and give their cells to be judged.

    Raises:
        RequestError: a set can't be judged as asked.
    """
    info = adoption.request.datasets[0]
    chosen = preset(adoption.request.preset or info.preset)
    planned = []
    for each in found:
        given = _bound(each.set, info)
        setting = Setting(info, _ipc(given, info), given.modality, chosen.name)
        training, judges = judging(adoption.request, chosen, setting)
        cell = _cell(replace(each, set=given), adoption, chosen, setting, training, len(found), directory)
        if not directory.done("distil", cell.key):
            _keep(given, cell, adoption, directory)
        evaluations = tuple(EvaluateTask(cell, judge, cell.planned_networks) for judge in judges)
        planned.append(Planned(cell, None, True, chosen.bundle, (), evaluations))
    return planned


def _bound(given: DistilledSet, info: StoreInfo) -> DistilledSet:
    """A learned set as one of the store at hand: another preparation of its dataset has another fingerprint."""
    made = given.dataset
    if not isinstance(given, LearnedSet) or made.fingerprint == info.fingerprint:
        return given
    note = f"made from {made.name} with fingerprint {made.fingerprint[:12]}"
    return replace(given, dataset=info, notes=(*given.notes, note))


def _ipc(given: DistilledSet, info: StoreInfo) -> int:
    """Items a class; 0 for the whole training set."""
    everything = given.kind == "selected" and given.labels.numel() == info.size("train")
    return 0 if everything else int(given.labels.numel()) // len(info.classes)


def _cell(
    found: Found,
    adoption: Adoption,
    chosen: Preset,
    setting: Setting,
    training: Networks,
    seeds: int,
    directory: RunDirectory,
) -> Cell:
    """The cell that a set is: the one of its own record where it lies in this very directory, else a new one."""
    known = _record_beside(adoption.path)
    if known and not adoption.label:
        method = PluginRef(**known["method"])
        training = replace(training, architecture=PluginRef(**known["architecture"]))
    else:
        label = adoption.label or adoption.path.stem
        method = PluginRef(label, label, 1, "adopted", "", {}, {})
    cell = Cell(
        dataset=setting.dataset.name,
        fingerprint=setting.dataset.fingerprint,
        method=method,
        role=known["role"] if known else "method",
        ipc=setting.ipc,
        seed=found.seed,
        modality=setting.modality,
        preset=chosen.name,
        precision=adoption.request.precision,
        training=training,
        prerequisites=known["prerequisites"] if known and not adoption.label else {},
        planned_seeds=known["planned_seeds"] if known else seeds,
        planned_networks=adoption.request.networks or chosen.networks,
        dataset_plugin=setting.dataset.dataset,
    )
    own = directory.set_folder(cell.key)
    if own.is_dir() and own.resolve() == adoption.path.resolve():
        return cell
    return replace(cell, content=found.set.content_hash)


def _record_beside(path: Path) -> Mapping[str, Any] | None:
    """The record of the run that made a set, where it lies beside it."""
    try:
        found = json.loads((path / "record.json").read_text(encoding="utf-8"))
        whole = {"method", "role", "architecture", "prerequisites", "planned_seeds"} <= found.keys()
        return found if whole and found.get("kind") == "distil" else None
    except (OSError, ValueError, AttributeError):
        return None


def _keep(given: DistilledSet, cell: Cell, adoption: Adoption, directory: RunDirectory) -> None:
    given.save(directory.set_folder(cell.key))
    record = {
        "status": "done",
        **describe_task(DistilTask(cell)),
        "argv": list(adoption.argv),
        "environment": environment(),
        "duration_s": 0.0,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "adopted": {"path": adoption.path.name, "sha256": _digests(adoption.path)},
        "result": {**describe_set(given), "steps": 0, "snapshots": {}, "controls": []},
    }
    directory.write_record("distil", cell.key, record)


def _digests(path: Path) -> dict[str, str]:
    """SHA-256 of each file that the set was read from."""
    files = [path] if path.is_file() else sorted(each for each in path.iterdir() if each.is_file())
    found = {}
    for file in files:
        try:
            found[file.name] = sha256_of(file)
        except OSError as error:
            raise RequestError(f"{file}: can't be read ({error.strerror}).") from None
    return found
