"""What the pool says and does of a decoder that ends by itself, or seems to hang."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from avbench.data import pool

NOW_S = 1e6


class Watched(pool._Worker):
    """A worker whose thread ends its task between two reads of when it began."""

    reads: list[Any]

    def __init__(self, reads: list[Any]) -> None:
        super().__init__((None, None, Path()), queue.SimpleQueue(), None)  # type: ignore[arg-type]
        self._thread.join()
        self.reads = reads

    @property
    def _since_s(self) -> Any:
        return self.reads.pop(0) if self.reads else None

    @_since_s.setter
    def _since_s(self, value: Any) -> None:
        """Set by the thread."""


class Process:
    killed = False

    def kill(self) -> None:
        self.killed = True


@pytest.mark.parametrize(
    ("reads", "killed"),
    [([NOW_S, 0.0], False), ([NOW_S - 1.0], False), ([None], False), ([NOW_S - pool._PATIENCE_S - 1.0] * 2, True)],
)
def test_a_decoder_is_killed_only_where_its_task_takes_too_long(
    monkeypatch: pytest.MonkeyPatch, reads: list[Any], killed: bool
) -> None:
    worker, process = Watched(reads), Process()
    worker._process = process  # type: ignore[assignment]
    monkeypatch.setattr(time, "monotonic", lambda: NOW_S)
    worker.look()
    assert process.killed is killed


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGKILL, "signal 9 (SIGKILL)"), (signal.SIGRTMIN + 3, "(unknown)")]
)
def test_any_signal_that_ends_a_decoder_is_told(number: int, words: str) -> None:
    worker = Watched([])
    worker._process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    os.kill(worker._process.pid, number)
    assert words in worker._end()
