"""The verb ``leaderboard`` in this very process, as its entry point runs it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from test_board import Grid

from avbench.cli import main


def leaderboard(place: Grid | Path, *arguments: str) -> int:
    """Run ``avbench leaderboard PLACE …``; returns the exit status."""
    root = place.directory.root if isinstance(place, Grid) else place
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["avbench", "leaderboard", str(root), *arguments])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0
