"""Events of workers, as others read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from avbench.events import settled


def test_tasks_have_ended_that_a_whole_event_says_so_of(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(
        '{"event": "done", "task": "a"}\n{"event": "failed", "task": "b", "reason": "why"}\n\n[]\n'
        '{"event": "stranded", "task": "c", "reason": "why"}\n{"event": "phase", "task": "d", "phase": "writing"}\n'
        '{"event": "done", "ta\n{"event": "done", "task": "e"}',
        encoding="utf-8",
    )
    assert settled(path) == {"a", "b", "c", "e"}
    with pytest.raises(OSError, match="absent"):
        settled(tmp_path / "absent")
