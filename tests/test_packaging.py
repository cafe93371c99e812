"""What is installed: the wheel carries command, core and both plugin packages; the README's commands are CI's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packages import avbench, pip_install

from avbench.diagnosis import GENERATION

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_all_three_packages_typed_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"avbench", "avbench_methods", "avbench_datasets", "avbench_hooks"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    assert {f"avbench/grids/{name}.toml" for name in ("authors_release", "table3", "table13", "fig10")} <= set(names)
    assert "avbench/reported/avdd_tmlr2024.csv" in names
    assert {"avbench/report/html.css", "avbench/report/page/page.js"} <= set(names)
    assert "avbench_methods/mtt_table9.csv" in names


def test_an_installed_wheel_gives_the_same_plugins_and_runs(wheel: Path, tmp_path: Path, avdigits_data: Path) -> None:
    site = pip_install(tmp_path / "site", wheel)
    names = ("avbench", "avbench_methods", "avbench_datasets")
    code = f"import {', '.join(names)}; print({', '.join(f'{name}.__file__' for name in names)})"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    places = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert all(place.startswith(str(site)) for place in places.stdout.split())
    compared = avbench("compare", "table8", str(tmp_path), site=site, cwd=tmp_path)
    assert compared.returncode == 0 and compared.stdout.count("missing") == 3, compared.stderr
    methods = [p["name"] for p in json.loads(avbench("list", "methods", "--json", site=site, cwd=tmp_path).stdout)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert methods == sorted(project["entry-points"]["avbench.methods"])
    done = avbench(
        *("run", "--method", "random", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1"),
        *("--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1"),
        *("--data", str(avdigits_data), "--out", str(tmp_path / "runs")),
        site=site,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_the_readme_opens_with_the_two_commands_and_ci_runs_the_second() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.startswith("python3 -m venv")]
    assert len(commands) == 2
    assert "avbench run --method random,herding,dm,avdd --dataset avdigits --ipc 1,10" in commands[0]
    assert "-m pytest" in commands[1]
    assert readme.count("-m pytest") == 1  # the line that .ci/run takes
    assert "grep -m1 -- '-m pytest' README.md" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_dependencies_hold_the_torch_packages_to_one_generation() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    bounds = dict.fromkeys(("torch", "torchvision", "torchaudio"), "")
    for requirement in project["dependencies"]:
        for name in bounds:
            if requirement.startswith(f"{name}>"):
                bounds[name] = requirement.removeprefix(name)
    assert bounds == GENERATION  # what `avbench env` asks for and says to install
    assert bounds["torch"] == ">=2.11,<2.12"
    assert not any("espeak" in requirement for requirement in project["dependencies"])  # GPL: an extra
