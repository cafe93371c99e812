"""Claims of a job on a node: they hold its tasks while it runs, also where the run that submitted it has died.

A run's claim is as dead as its process, but its Slurm jobs go on without it. So a job adds claims of its own to those
of its run, one generation later, and removes them when it ends. Where a run has taken over what a job was to do, the
job sees a claim that is not for its folder, and leaves the task alone.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avbench.claims import Claims, ProcessId


class JobClaims(Claims):
    """The claims that a job on a node adds to those of its run."""

    @property
    def held(self) -> bool:
        """Whether any is."""
        return bool(self._own)

    def join(self, key: str, job: Path, number: str) -> bool:
        """Hold a task that is claimed for the job in the folder ``job``; false where it is another's by now.

        Args:
            number: of our job in Slurm. Of two that were submitted for one folder, one gets the task.
        """
        last = self._latest(key)
        held = _read(last[1]) if last is not None else {}
        if last is None or held.get("job") != str(job.resolve()):
            return False
        joined = held.get("joined")
        if joined is not None and joined != number and not self._dead(last[1]):
            return False
        path = self._folder / f"{key}.{last[0] + 1}"
        try:
            # Should we die before it is whole, it falls silent like any other.
            with path.open("x", encoding="utf-8") as file:
                file.write(json.dumps({"run": asdict(ProcessId.own()), "job": held["job"], "joined": number}))
        except FileExistsError:
            return False
        if joined is not None:  # an earlier attempt's, which died with its node
            last[1].unlink(missing_ok=True)
        self._own[key] = path
        return True


def forget(root: Path, job: Path) -> None:
    """Remove the claims that a job left which Slurm says is over."""
    for path in (root / "claims").glob("*"):
        held = _read(path)
        if "joined" in held and held.get("job") == str(job.resolve()):
            with contextlib.suppress(OSError):
                path.unlink()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
