"""avbench: a benchmarking suite for audio-visual dataset distillation.

The names a plugin builds on live in :mod:`avbench.api`. Importing this package imports no torch.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from avbench.distilled import DistilledSet

try:
    __version__ = version("avbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__", "load"]


def load(path: str | Path) -> DistilledSet:
    """Read a distilled set from its folder; see :func:`avbench.distilled.load`."""
    from avbench.distilled import load as load_distilled

    return load_distilled(path)
