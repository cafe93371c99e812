"""Names that mean something else than a file on some system."""

from __future__ import annotations

#: Of Windows, in any folder, in any case, and with any ending.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(10))}


def is_device(name: str) -> bool:
    """Whether a file or folder of this name can't be made on Windows, or is a device there."""
    return name.partition(".")[0].lower() in _DEVICES
