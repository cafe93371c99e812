"""Presets: what a run uses where the user says nothing. Each is shown on the board and recorded."""

from __future__ import annotations

from dataclasses import dataclass

from avbench.errors import RequestError, nearest


@dataclass(frozen=True)
class Preset:
    """Defaults of a run.

    Attributes:
        seeds: distillation seeds a cell.
        networks: evaluation networks per distilled set.
        bundle: the most light tasks in one worker process (importing torch costs seconds a process).
    """

    name: str
    seeds: int
    networks: int
    protocol: str
    architecture: str
    fusion: str
    bundle: int


PRESETS = {
    # AVDD's code: 3 distillations × 5 networks.
    "paper": Preset("paper", 3, 5, "recognition-code", "convnet", "ensemble", 1),
    "quick": Preset("quick", 3, 3, "recognition-quick", "convnet", "ensemble", 6),
}


def preset(name: str) -> Preset:
    """A preset by name."""
    if name not in PRESETS:
        raise RequestError(f"--preset {name!r}: {nearest(name, PRESETS)}")
    return PRESETS[name]
