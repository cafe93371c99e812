"""How much memory may still be taken, for files that have to be read whole."""

from __future__ import annotations

import re
from pathlib import Path


def available_bytes() -> int | None:
    """Memory that could still be taken; ``None`` where the system does not tell."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None
