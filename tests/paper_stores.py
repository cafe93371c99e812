"""Stores of the paper's shapes, described and not on disk; and records of a grid's cells as its workers write them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from avbench.blocks import Block, Grid
from avbench.data.store import StoreInfo
from avbench.grid import Planned, Request, expand
from avbench.results import RunDirectory

#: Classes, training samples, test samples (AVDD, section 4.1; ten-second samples are videos).
SIZES = {
    "vggs10k": (10, 8808, 444),
    "vggsound": (309, 165_000, 13_000),
    "music21": (21, 146_908, 42_440),
    "ave": (28, 27_726, 3305),
    "vggs10k-10s": (10, 8808, 444),
    "ave-10s": (28, 3339, 402),
}


def paper_store(name: str, plugin: str = "", copy: int = 0) -> StoreInfo:
    """The description of a store of the paper, its samples spread evenly over the classes; ``copy``: other content."""
    classes, train, test = SIZES[name]
    return StoreInfo(
        name=name,
        dataset=plugin or name.partition("-")[0],
        dataset_version=1,
        classes=tuple(f"class {c}" for c in range(classes)),
        counts={"train": (train // classes,) * classes, "test": (test // classes,) * classes},
        audio_shape=(1, 128, 551 if name.endswith("-10s") else 56),
        frame_shape=(3, 224, 224),
        audio_mean=0.0,
        audio_std=1.0,
        frame_mean=(0.425, 0.396, 0.370),
        frame_std=(0.229, 0.224, 0.221),
        visual_depth=5,
        audio_depth=3,
        grid=(7, 7),
        preset="paper",
        sample_rate_hz=11_000,
        audio_transform={},
        licence="",
        citation="",
        fingerprint=hashlib.sha256(f"{name} {copy}".encode()).hexdigest(),
    )


def planned_cells(grid: Grid, block: Block, **changes: Any) -> list[Planned]:
    """The cells of a block, expanded as a run does."""
    given = {
        "methods": block.methods,
        "datasets": tuple(paper_store(name) for name in block.datasets),
        "ipcs": block.ipcs,
        "seeds": grid.seeds,
        "networks": grid.networks,
        "architectures": block.architectures,
        "fusions": block.fusions,
        "protocols": block.protocols,
        "settings": block.settings,
        "preset": block.preset,
        "snapshots": block.snapshots,
    }
    return expand(Request(**{**given, **changes})).planned


def write_records(
    directory: RunDirectory, cells: Sequence[Planned], scores: Callable[[int], Sequence[float]], **result: Any
) -> None:
    """Distil and evaluation records of cells whose networks score ``scores(seed)``."""
    for planned in cells:
        cell = planned.cell
        common = {
            "dataset": {"name": cell.dataset, "fingerprint": cell.fingerprint, "plugin": cell.dataset_plugin},
            "method": asdict(cell.method),
            "role": cell.role,
            "ipc": cell.ipc,
            "seed": cell.seed,
            "modality": cell.modality,
            "precision": cell.precision,
            "preset": cell.preset,
            "architecture": asdict(cell.training.architecture),
            "finished": "2026-01-01T00:00:00Z",
        }
        made = {"content_hash": cell.key}
        directory.write_record("distil", cell.key, {"status": "done", "result": made, **common})
        for task in planned.evaluations:
            networks = [
                {"index": index, "accuracy": {"av": score, "a": score / 2, "v": score / 4}, **result}
                for index, score in enumerate(scores(cell.seed))
            ]
            by = task.judged_by
            judged = {
                "set_hash": cell.key,
                "protocol": asdict(by.protocol),
                "evaluated_architecture": asdict(by.architecture),
                "fusion": asdict(by.fusion),
                "result": {"primary": "accuracy", "networks": networks},
            }
            directory.write_record("evaluate", task.record_key(cell.key), {"status": "done", **common, **judged})
