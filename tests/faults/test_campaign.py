"""The short form of the fault campaign: every fault is made once, kills ten times, and all holds afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from faults.places import can_mount
from faults.trials import FAULTS, KILLS

CAMPAIGN = Path(__file__).with_name("campaign.py")
#: What needs more than a process: a GPU, or the right to mount.
HARDWARE = {"gpu-gone"}
MOUNTED = {"disk-full", "disk-full-of-data", "read-only"}


def campaign(out: Path, *arguments: str) -> tuple[Counter[str], set[str]]:
    """Run the command; how often each fault was made, and which could not be."""
    done = subprocess.run(
        [sys.executable, str(CAMPAIGN), *arguments, "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=900,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = json.loads(out.read_text(encoding="utf-8"))
    assert not [problem for trial in found["trials"] for problem in trial["problems"]]
    assert all(trial["finished"] and trial["identical"] and trial["whole"] for trial in found["trials"])
    return Counter(trial["fault"] for trial in found["trials"]), set(found["impossible"])


@pytest.mark.faults
def test_after_each_fault_the_same_command_finishes_with_the_same_results(tmp_path: Path) -> None:
    made, impossible = campaign(tmp_path / "faults.json", "--moments", "10", "--others", "1", "--brief")
    assert sum(made[kill] for kill in KILLS) == 10
    assert impossible <= (HARDWARE if can_mount() else HARDWARE | MOUNTED)
    assert all(made[name] == 1 for name in FAULTS.keys() - {*KILLS} - impossible)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 4))
def test_so_it_is_in_every_phase(tmp_path: Path, seed: int) -> None:
    made, _ = campaign(tmp_path / "faults.json", "--moments", "34", "--others", "2", "--seed", str(seed))
    assert sum(made[kill] for kill in KILLS) == 34
