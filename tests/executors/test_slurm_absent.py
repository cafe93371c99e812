"""Where Slurm can't start, the tests on a real one say why, and fail under CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).with_name("test_slurm.py")
ONE = "test_what_slurm_refuses_is_recorded_as_not_started"


def test_under_ci_a_slurm_that_can_t_start_is_a_failure_and_says_why(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "slow", f"{TESTS}::{ONE}"],
        env={**os.environ, "CI": "true", "PATH": str(tmp_path)},  # an empty folder: no sbatch in it
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "skipped under CI" in done.stdout and "no Slurm here: " in done.stdout and "sbatch" in done.stdout
    assert "apt-get install slurm-wlm munge" in done.stdout
