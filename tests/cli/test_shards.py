"""``avbench run --shards`` as its user sees it: real processes on the embedded dataset, one of them killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Small
from killing import SITE, counts, run_watched
from packages import avbench

import avbench as package

METHODS = "dm,avdd[init=random]"
GRID = ("run", "--method", METHODS, "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1")
GRID += ("--set", "dm.steps=20", "--set", "dm.batch_real=4", "--set", "avdd.steps=20", "--set", "avdd.batch_real=4")
GRID += ("--set", "convnet.width=4", "--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=1")
TINY = ("run", "--method", "dm[init=random]", "--dataset", "small3", "--ipc", "1", "--seeds", "1", "--networks", "1")
TINY += ("--preset", "quick", "--set", "dm.steps=8", "--set", "dm.batch_real=4", "--set", "convnet.width=4")
TINY += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=1")
CUT = ("--shards", "2", "--jobs", "2", "--checkpoint-s", "0")


def records(out: Path, kind: str) -> dict[str, Any]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in out.glob(f"{kind}/*/record.json")]
    return {record["key"]: record for record in found}


def ending_of_board(text: str) -> list[list[str]]:
    """The rows of a board without their last column: the time is each run's own."""
    return [[part.strip() for part in line.split("|")[:-2]] for line in text.splitlines() if line.startswith("| ")]


def wait_for_a_checkpoint(out: Path, process: subprocess.Popen[str], limit_s: float = 120.0) -> dict[str, Any]:
    """The worker of a shard job that has written a checkpoint, as it announced itself."""
    began = time.monotonic()
    while time.monotonic() - began < limit_s:
        assert process.poll() is None, process.communicate()
        for found in _checkpointed(out):
            return found
        time.sleep(0.02)
    raise AssertionError("no shard was begun")


def _checkpointed(out: Path) -> Iterator[dict[str, Any]]:
    begun = {path.parent.name for path in out.glob("shard/*/checkpoint.safetensors")}
    for spec in out.glob("jobs/shard-*/spec.json"):
        tasks = json.loads(spec.read_text(encoding="utf-8"))["tasks"]
        keys = {path.name for path in out.glob("shard/*")}
        ranges = {f"-{task['classes']['first']}-{task['classes']['stop']}" for task in tasks}
        if any(key.endswith(tuple(ranges)) for key in begun & keys):
            yield json.loads(spec.with_name("worker.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def whole(avdigits_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that cuts nothing, and its board."""
    out = tmp_path_factory.mktemp("whole") / "runs"
    done = avbench(*GRID, "--data", str(avdigits_data), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_a_cut_run_whose_worker_was_killed_ends_in_the_sets_and_the_board_of_a_whole_one(
    avdigits_data: Path, whole: tuple[Path, str], tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    command = [sys.executable, "-c", "from avbench.cli import main; main()", *GRID, *CUT]
    command += ["--data", str(avdigits_data), "--out", str(out)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        worker = wait_for_a_checkpoint(out, process)
        os.kill(worker["process"], signal.SIGKILL)
        printed, told = process.communicate(timeout=300)
    # Whether a killed job is tried again by itself is the executor's business.
    assert process.returncode in (0, 3) and "Traceback" not in told
    if process.returncode == 3:
        again = avbench(*GRID, *CUT, "--retry-failed", "--data", str(avdigits_data), "--out", str(out))
        assert again.returncode == 0, again.stderr
        printed = again.stdout
    made, plain = records(out, "distil"), records(whole[0], "distil")
    assert made.keys() == plain.keys() and len(made) == 2
    for key, record in made.items():
        assert record["result"] == plain[key]["result"]
        assert [each["classes"] for each in record["shards"]] == [{"first": 0, "stop": 5}, {"first": 5, "stop": 10}]
        sets = [package.load(root / "distil" / key).tensors() for root in (out, whole[0])]
        assert all((sets[0][name] == tensor).all() for name, tensor in sets[1].items())
    assert ending_of_board(printed) == ending_of_board(whole[1]) and len(ending_of_board(printed)) == 3
    assert not list(out.glob("shard/*")) and not list(out.glob("claims/*"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_kills_while_shards_are_made_and_put_together_change_no_bit(small: Small, tmp_path: Path, seed: int) -> None:
    """SIGKILL at seeded moments of writing, in the workers of shards, in the merging one and in the coordinator."""
    site, tally = tmp_path / "site", tmp_path / "counts"
    site.mkdir()
    (site / "sitecustomize.py").write_text(textwrap.dedent(SITE), encoding="utf-8")
    grid = (*TINY, "--data", str(small.data))
    assert run_watched(site, tmp_path / "whole", grid).returncode == 0
    cut = (*grid, "--shards", "2", "--jobs", "1", "--checkpoint-s", "0", "--retry-failed")
    assert run_watched(site, tmp_path / "counted", cut, KILLING_COUNTS=str(tally)).returncode == 0
    acts, rng, out = counts(tally), random.Random(seed), tmp_path / "runs"
    for kind in ("shard", "distil", "coordinator"):
        killed = run_watched(site, out, cut, KILLING_AT=f"{kind}:{rng.randint(1, acts[kind])}")
        assert "Traceback" not in killed.stderr
    assert run_watched(site, out, cut).returncode == 0
    made, plain = records(out, "distil"), records(tmp_path / "whole", "distil")
    assert {key: record["result"] for key, record in made.items()} == {k: r["result"] for k, r in plain.items()}
    assert avbench("verify", str(out)).returncode == 0


def test_a_number_of_shards_below_one_is_refused(avdigits_data: Path, tmp_path: Path) -> None:
    done = avbench(*GRID, "--shards", "0", "--data", str(avdigits_data), "--out", str(tmp_path))
    assert done.returncode == 2
    assert "--shards" in done.stderr and "Traceback" not in done.stderr
