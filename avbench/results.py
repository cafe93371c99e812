"""Records and artefacts on disk. A record is written atomically, at the end, and is all that reports read.

Layout of the run directory::

    prerequisite/<key>/   tensors.safetensors, record.json
    distil/<key>/         distilled.json, distilled.safetensors, curve.jsonl, record.json, snapshots/<step>/
    shard/<key>-<first class>-<before class>/   the same for some classes of a cell, until they are put together
    evaluate/<key>/       record.json
    tuning/<key>/         record.json: an option's value that was chosen on the validation split
    weights/              <key>.json, <key>.safetensors: given weights, where workers find them
    claims/               <task key>.<generation>: which run is doing a task
    jobs/run-<attempt>.json     what a run means to do, and whether it has ended
    jobs/<id>-<attempt>/  spec.json, events.jsonl, log.txt: what a worker was told and said; <id>.2-<attempt>/ where
                          the same run started the job once more
    hooks/<name>/         what a hook keeps
    <kind>/<key>/checkpoint.safetensors   while a task is under way
    .<file>.<process>-<token>   beside any file, while it is written; a kill leaves it
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from avbench.jobs import DistilTask, ShardTask

SCHEMA_VERSION = 1
#: A record has kilobytes; what is larger is none, and is not read.
_MOST_BYTES = 1 << 26
#: What a task leaves besides its record: without it the task is not done.
_ARTEFACTS = {
    "prerequisite": ("tensors.safetensors",),
    "shard": ("distilled.json", "distilled.safetensors"),
    "distil": ("distilled.json", "distilled.safetensors"),
    "evaluate": (),
}


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which then takes the place of ``path``: a reader sees the old one or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two hosts that share a file system may have processes of one number.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        yield partial
        with partial.open("r+b") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a full disk half a file would take the room of the record
            partial.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees either the old one or the whole new one."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class RunDirectory:
    """The state of a grid: the same command again does only what is missing here."""

    root: Path

    def folder(self, kind: str, key: str) -> Path:
        """The folder of one task."""
        return self.root / kind / key

    def record(self, kind: str, key: str) -> dict[str, Any] | None:
        """The record of a task, or ``None`` where there is none that can be read, or its artefact has gone."""
        folder = self.folder(kind, key)
        found = _read(folder / "record.json")
        return None if found is not None and found["status"] == "done" and self.lacks_artefact(kind, key) else found

    def lacks_artefact(self, kind: str, key: str) -> bool:
        """Whether a file is absent without which a record that says "done" counts for nothing."""
        folder = self.folder(kind, key)
        return not all((folder / name).is_file() for name in _ARTEFACTS[kind])

    def done(self, kind: str, key: str) -> bool:
        found = self.record(kind, key)
        return found is not None and found["status"] == "done"

    def write_record(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Write the record of a task, with its kind and key."""
        full = {"schema_version": SCHEMA_VERSION, "kind": kind, "key": key, **record}
        text = json.dumps(full, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.folder(kind, key) / "record.json", text + "\n")

    def tidy(self, kind: str, key: str) -> None:
        """Remove what is of no use beside a finished record: its checkpoint, and what a kill left half-written."""
        folder = self.folder(kind, key)
        for left in (folder / "checkpoint.safetensors", *folder.glob(".*"), *folder.glob("snapshots/*/.*")):
            with contextlib.suppress(OSError):  # over NFS a file that is still mapped stays, under another name
                left.unlink(missing_ok=True)

    def records(self, kind: str) -> Iterator[dict[str, Any]]:
        """All readable records of a kind, in the order of their keys."""
        for path in sorted((self.root / kind).glob("*/record.json")):
            found = _read(path)
            if found is not None:
                yield found

    def set_folder(self, cell_key: str, snapshot: int | None = None) -> Path:
        """Where a distilled set lies, or what it was after so many steps."""
        folder = self.folder("distil", cell_key)
        return folder if snapshot is None else folder / "snapshots" / str(snapshot)

    def set_hash(self, cell_key: str, snapshot: int | None = None) -> str | None:
        """The content hash of a distilled set that is done, or of a snapshot of it."""
        return hash_in(self.record("distil", cell_key), snapshot)

    def distilled(self, task: DistilTask | ShardTask) -> bool:
        """Whether a set, or a shard of one, is done with all the snapshots that are asked for.

        A shard whose whole set is done is done too: nothing needs it any more.
        """
        keys = {(task.kind, task.key), ("distil", task.cell.key)}
        return any(has_snapshots(self.record(kind, key), task.snapshots) for kind, key in keys)

    def remove_shards(self, cell_key: str) -> None:
        """Remove the shards of a set that is done, whichever way it was cut; what a run is at work on stays."""
        for folder in (self.root / "shard").glob(f"{cell_key}-*"):
            if not any((self.root / "claims").glob(f"{folder.name}.*")):
                shutil.rmtree(folder, ignore_errors=True)


def hash_in(record: Mapping[str, Any] | None, snapshot: int | None) -> str | None:
    """The content hash that a distil record gives for its set or for a snapshot; ``None`` where there is none."""
    if record is None or record["status"] != "done":
        return None
    result = record["result"]
    found: str | None = result["content_hash"] if snapshot is None else result.get("snapshots", {}).get(str(snapshot))
    return found


def has_snapshots(record: Mapping[str, Any] | None, wanted: Sequence[int]) -> bool:
    """Whether a distil record is of a set that is done, with its snapshots at all these steps that it made."""
    if record is None or record["status"] != "done":
        return False
    result = record["result"]
    return all(step > result["steps"] or str(step) in result.get("snapshots", {}) for step in wanted)


def is_beyond(record: Mapping[str, Any] | None, snapshot: int | None) -> bool:
    """Whether a distil record is of a set that is done, after fewer steps than a snapshot of it was asked for."""
    if snapshot is None or record is None or record["status"] != "done":
        return False
    steps: int = record["result"]["steps"]
    return snapshot > steps


@dataclass(frozen=True)
class Unreadable:
    """A record that can't be read, and why.

    Attributes:
        schema_version: its schema where this is newer than :data:`SCHEMA_VERSION`, else ``None``.
    """

    path: Path
    reason: str
    schema_version: int | None = None


def read_record(path: Path) -> dict[str, Any] | Unreadable:
    """A record of the present schema with a status, or why there is none."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return Unreadable(path, f"is no plain file of at most {_MOST_BYTES} bytes")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return Unreadable(path, f"can't be read ({error.strerror})")
    except (ValueError, RecursionError):
        return Unreadable(path, "is no whole JSON: half-written or damaged")
    if not isinstance(found, dict):
        return Unreadable(path, "is no record: an object was expected")
    schema = found.get("schema_version")
    if type(schema) is not int:
        return Unreadable(path, "has no schema_version")
    if schema != SCHEMA_VERSION:
        newer = schema if schema > SCHEMA_VERSION else None
        return Unreadable(path, f"has schema {schema}, this avbench reads {SCHEMA_VERSION}", newer)
    if found.get("status") not in ("done", "failed"):
        return Unreadable(path, f"has status {found.get('status')!r}, expected 'done' or 'failed'")
    return found


def _read(path: Path) -> dict[str, Any] | None:
    found = read_record(path)
    return None if isinstance(found, Unreadable) else found
