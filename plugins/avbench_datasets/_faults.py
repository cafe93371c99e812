"""How a fault in a user's file is told: the file, what was found in it, and what to do."""

from __future__ import annotations

from pathlib import Path

from avbench.api import RequestError


def fail(path: Path, found: str, advice: str) -> RequestError:
    """The error to raise, in one line."""
    return RequestError(f"{path.name}: {found}; {advice}.")
