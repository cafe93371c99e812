"""What several workers of a test run need, made by one of them."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder ``name`` of this test run, which ``make`` filled for all its workers. Read only."""
    own = factory.getbasetemp()
    shared = own.parent if own.name.startswith("popen-") else own  # a worker's lies in that of the run
    folder, done = shared / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            folder.mkdir()  # one that was left half made is an error, not made again over it
            make(folder)
            done.touch()
    return folder
