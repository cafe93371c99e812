"""Many jobs under one coordinator: its memory and its open files do not grow with them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SOAK = Path(__file__).parents[1] / "faults" / "soak.py"


def soak(out: Path, jobs: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SOAK), "--jobs", str(jobs), "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        timeout=7_200,  # half an hour where nothing else runs
    )
    assert done.returncode == 0, f"{done.stderr}\n{out.read_text() if out.is_file() else ''}"
    found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    assert found["jobs"] == found["done"] == jobs
    assert found["samples"][-1][0] > jobs // 2  # it was watched to the end
    return found


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [40, 1000])
def test_a_coordinator_s_memory_and_open_files_do_not_grow_with_its_jobs(tmp_path: Path, jobs: int) -> None:
    found = soak(tmp_path / "soak.json", jobs)
    assert found["growth_mib"] < 6.0
    assert found["most_files"] < 24  # for two jobs at once
