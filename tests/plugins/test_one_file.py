"""A further first-party method touches one file and one line of pyproject.toml, as CONTRIBUTING.md says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import Small
from packages import avbench, pip_install

ROOT = Path(__file__).resolve().parents[2]
#: What a wheel is built from.
SOURCES = ("avbench", "plugins", "benchmarks/paper", "leaderboard/reported")
FILES = ("pyproject.toml", "README.md", "LICENSE")
HEAD = '[project.entry-points."avbench.methods"]\n'
#: TESLA's gradient on MTT's loop, with the hard labels of every set here.
TESLA = '''
"""TESLA: matching trajectories with the truncated gradient (Cui et al., ICML 2023, arXiv:2211.10586)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avbench.api import option
from avbench_methods.mtt import MTTConfig, TrajectoryMatching


@dataclass(frozen=True)
class TESLAConfig(MTTConfig):
    """Options of ``tesla``: those of ``mtt``, with another gradient."""

    gradient: Literal["exact", "truncated"] = option("truncated", "TESLA's gradient, or the exact one")


class TESLA(TrajectoryMatching):
    """Match training trajectories with TESLA's gradient."""

    Config = TESLAConfig
    config: TESLAConfig
'''
KMEANS = (ROOT / "docs/examples/avbench-kmeans/avbench_kmeans.py").read_text(encoding="utf-8")
METHODS = {
    "tesla": (TESLA, "TESLA", ("tesla.steps=2", "tesla.experts=1", "tesla.inner_audio=2", "tesla.inner_visual=2")),
    "kmeans": (KMEANS, "KMeansCoreset", ("kmeans.features=random",)),
}


def contents(root: Path) -> Mapping[str, bytes]:
    found = [path for path in root.rglob("*") if path.is_file()]
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_method_more_is_one_file_and_one_line(name: str, small: Small, tmp_path: Path) -> None:
    module, cls, options = METHODS[name]
    copy = tmp_path / "copy"
    without = shutil.ignore_patterns("__pycache__")
    for folder in SOURCES:
        shutil.copytree(ROOT / folder, copy / folder, ignore=without)
    for file in FILES:
        shutil.copy(ROOT / file, copy)
    before = contents(copy)

    (copy / f"plugins/avbench_methods/{name}.py").write_text(module.lstrip(), encoding="utf-8")
    project = (copy / "pyproject.toml").read_text(encoding="utf-8")
    line = f'{name} = "avbench_methods.{name}:{cls}"\n'
    (copy / "pyproject.toml").write_text(project.replace(HEAD, HEAD + line), encoding="utf-8")

    after = contents(copy)
    assert set(after) - set(before) == {f"plugins/avbench_methods/{name}.py"}
    changed = {file for file in before if before[file] != after[file]}
    assert changed == {"pyproject.toml"}
    assert len(after["pyproject.toml"].splitlines()) == len(before["pyproject.toml"].splitlines()) + 1

    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    site = pip_install(tmp_path / "site", wheel)
    listed = json.loads(avbench("list", "methods", "--json", site=site, cwd=tmp_path).stdout)
    assert [each["distribution"] for each in listed if each["name"] == name] == ["avbench"]

    checked = avbench("check", "method", name, "--json", site=site, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    settings = (*options, "convnet.width=4", "recognition-quick.updates=2", "recognition-quick.epochs=1")
    grid = ("--method", f"random,{name}", "--dataset", "small3", "--ipc", "1", "--seeds", "1", "--networks", "1")
    given = [word for each in settings for word in ("--set", each)]
    done = avbench("run", *grid, *given, "--data", str(small.data), site=site, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"\|\W*{name}\b", done.stdout), done.stdout
    assert avbench("verify", "runs", site=site, cwd=tmp_path).returncode == 0
