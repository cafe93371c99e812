"""What a worker tells in ``events.jsonl``, a line of JSON an event, as it is read while the worker writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Events after which a task needs nobody any more.
ENDS = ("done", "failed", "stranded")
#: What an event must hold besides its name and its task, for those who follow it.
_NEEDED = {
    "step": {"time", "done", "steps", "step_s"},
    "phase": {"phase"},
    "failed": {"reason"},
    "stranded": {"reason"},
    "hook": {"hook", "reason"},
}


def fresh_lines(path: Path, read_bytes: int) -> tuple[list[bytes], int]:
    """The lines written since so many bytes were read, and how many are read now.

    Raises:
        OSError: there is no such file, or it can't be read.
    """
    with path.open("rb") as file:
        file.seek(read_bytes)
        fresh = file.read()
    whole = fresh[: fresh.rfind(b"\n") + 1]  # a last line may still be in the making
    return whole.splitlines(), read_bytes + len(whole)


def read_event(line: bytes) -> dict[str, Any] | None:
    """An event; ``None`` where the line is not whole, as after a full disk: the record decides then."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    if not isinstance(found, dict) or not {"event", "task"} <= found.keys():
        return None
    return found if _NEEDED.get(str(found["event"]), set()) <= found.keys() else None


def settled(path: Path) -> set[str]:
    """The keys of the tasks that have ended by what is written in ``events.jsonl``.

    Raises:
        OSError: there is no such file, or it can't be read.
    """
    events = map(read_event, path.read_bytes().splitlines())
    return {str(event["task"]) for event in events if event is not None and event["event"] in ENDS}


def phase_after(event: Mapping[str, Any]) -> str:
    """Where in its work an event leaves a task."""
    if event["event"] == "step":
        return f"step {event['done']}"
    return str(event["phase"]) if event["event"] == "phase" else str(event.get("kind", ""))
