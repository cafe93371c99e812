"""Jobs that take too long or too much: ended, recorded with the reason, and harming no other."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packages import avbench, install

METHODS = '''
    """Methods without measure."""
    import resource
    import time

    import numpy as np
    import torch

    from avbench.api import LearnedSet, Method


    class Endless(Method):
        """Never ends its second step."""
        steps = 3

        def step(self, k):
            while k:
                time.sleep(0.01)
            return {}

        def distilled(self):
            raise AssertionError


    class Hoarder(Endless):
        """Takes 20 MiB more, again and again."""

        def step(self, k):
            held = []
            while k:
                held.append(np.ones(20 << 17))
            return {}


    class Refused(Endless):
        """Asks for more than there is, with a limited address space."""

        def step(self, k):
            resource.setrlimit(resource.RLIMIT_AS, (64 << 30, 64 << 30))
            torch.empty(1 << 40)
            return {}
'''
NAMES = {"endless": "Endless", "hoarder": "Hoarder", "refused": "Refused"}
COMMAND = ("run", "--dataset", "small1", "--ipc", "1", "--seeds", "1", "--networks", "1", "--preset", "quick")
COMMAND += ("--set", "convnet.width=4", "--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    entries = {"avbench.methods": {name: f"unmeasured:{target}" for name, target in NAMES.items()}}
    return install(tmp_path_factory.mktemp("unmeasured"), "unmeasured", entries, {"unmeasured": METHODS})


def errors(out: Path) -> dict[str, dict[str, Any]]:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob("distil/*/record.json")]
    return {record["method"]["name"]: record["error"] for record in records if record["status"] == "failed"}


def test_limits_of_time_and_memory_end_a_job_and_no_other(small: Any, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    done = avbench(
        *(*COMMAND, "--method", "hoarder,endless,refused,random", "--data", str(small.data), "--out", str(out)),
        *("--timeout-s", "25", "--memory-mib", "1500"),
        site=site,
    )
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert "| random " in done.stdout
    found = errors(out)
    assert {name: error["cause"] for name, error in found.items()} == {
        "endless": "time limit",
        "hoarder": "memory limit",
        "refused": "out of memory",
    }
    assert found["endless"]["phase"] == found["hoarder"]["phase"] == "step 1"
    assert "--timeout-s 25" in found["endless"]["reason"]
    assert "--memory-mib 1500" in found["hoarder"]["reason"]
    assert "--micro-batch" in found["refused"]["reason"]


@contextlib.contextmanager
def control_group(limit_bytes: int) -> Iterator[Path]:
    """A control group of either version, whose processes together get so much memory."""
    root = Path("/sys/fs/cgroup")
    versions = [(root / "memory", "memory.limit_in_bytes"), (root, "memory.max")]
    base, limit = next((base, name) for base, name in versions if (base / "cgroup.procs").exists())
    group = base / f"avbench-test-{os.getpid()}"
    group.mkdir()
    try:
        (group / limit).write_text(str(limit_bytes), encoding="ascii")
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


@pytest.mark.privileged
@pytest.mark.slow
def test_the_kernel_s_kill_for_memory_is_told_from_other_kills(small: Any, site: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    command = (*COMMAND, "--method", "hoarder", "--data", str(small.data), "--out", str(out))
    with contextlib.ExitStack() as stack:
        try:
            members = stack.enter_context(control_group(2 << 30))
        except (OSError, StopIteration) as error:
            pytest.skip(f"needs the right to make a control group with a memory limit: {error}")
        inside = f"open({str(members)!r}, 'w').write('0'); from avbench.cli import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", inside, *command],
            check=False,
            env={**os.environ, "PYTHONPATH": str(site)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
    assert done.returncode == 3, done.stderr
    error = errors(out)["hoarder"]
    assert error["cause"] == "out of memory"
    assert "by the kernel" in error["reason"]
