"""Attempts at a job: what was lost is recorded, and tried again without the tasks that it had settled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avbench.events import settled
from avbench.results import write_atomically


@dataclass
class Attempts:
    """The attempts at one job.

    Attributes:
        folder: the job's, where ``attempts.json`` will hold the lost ones.
        most: how often the job is tried in all.
        number: the present attempt; 0 before the first.
        lost: what became of each that was lost: ``attempt``, ``host``, ``why``, and what the executor adds.
    """

    folder: Path
    most: int
    number: int = 0
    lost: list[Mapping[str, Any]] = field(default_factory=list)

    def begin(self) -> int:
        """Count a new attempt; its number."""
        self.number += 1
        return self.number

    def lose(self, host: str, why: str, **more: Any) -> bool:
        """Record that the present attempt came to nothing; whether there is to be another one.

        Raises:
            OSError: it can't be written.
        """
        self.lost.append({"attempt": self.number, "host": host, **more, "why": why})
        write_atomically(self.folder / "attempts.json", json.dumps(self.lost, indent=1))
        return self.number < self.most

    @property
    def told(self) -> str:
        """All lost attempts in one line, for a record."""
        return "; ".join(f"attempt {loss['attempt']} on {loss['host']}: {loss['why']}" for loss in self.lost)


def leave_unsettled(folder: Path) -> bool:
    """Take the tasks that have ended out of a job's specification; false where none is left.

    Raises:
        OSError: the folder can't be read or written.
    """
    from avbench.desk import Spec

    events = folder / "events.jsonl"
    over = settled(events)
    with events.open("ab") as file:
        file.write(b"\n")  # the last line may be torn, and the next worker goes on in this file
    spec = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    keys = [task.key for task in Spec.read(folder).tasks]
    spec["tasks"] = [task for task, key in zip(spec["tasks"], keys, strict=True) if key not in over]
    if spec["tasks"]:
        write_atomically(folder / "spec.json", json.dumps(spec, indent=1))
    return bool(spec["tasks"])
