"""Eight runs in one folder, two preparations of one dataset, three writers of one store, and readers all the while."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CROWD = Path(__file__).parents[1] / "faults" / "crowd.py"


def crowd(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(CROWD), *arguments], check=False, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.faults
def test_many_at_once_do_nothing_twice_and_read_nothing_half_written() -> None:
    found = crowd("--processes", "8", "--seeds", "2", "--rounds", "5")
    assert found["problems"] == []
    assert found["grid"]["processes"] == 8 and found["grid"]["tasks"] == 4
    assert found["grid"]["reads"] > 5 and found["stores"]["reads"] > 5


@pytest.mark.slow
def test_so_it_is_for_a_longer_grid() -> None:
    assert crowd("--processes", "8", "--seeds", "12", "--rounds", "100")["problems"] == []
