"""A release in an environment of its own, outside the checkout: installing as the pages say, and what runs then."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from commands_of_pages import ROOT, commands, pages
from packaging.requirements import Requirement
from test_commands import EXTRAS

pytestmark = pytest.mark.slow


def call(command: Sequence[str | Path], cwd: Path, **changes: str) -> str:
    """Standard output of a command, which must end well, in an environment that knows no other avbench."""
    environment: Mapping[str, str] = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "AVBENCH_DATA")}
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, cwd=cwd, env={**environment, **changes}
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("release")
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT], folder)
    return folder


@pytest.fixture(scope="module")
def source(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist unpacked."""
    (archive,) = release.glob("*.tar.gz")
    folder = tmp_path_factory.mktemp("source")
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment as ``python3 -m venv .venv`` makes it, that sees this one's packages without its avbench.

    Its own folder comes first, and the ``.pth`` file by which this one's avbench is found is not read from there.
    """
    folder = tmp_path_factory.mktemp("fresh")
    call([sys.executable, "-m", "venv", ".venv"], folder)
    (site,) = (folder / ".venv" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_paths()["purelib"] + "\n", encoding="utf-8")
    return folder


def installed(requirements: Sequence[str]) -> bool:
    for requirement in map(Requirement, requirements):
        try:
            version(requirement.name)
        except PackageNotFoundError:
            return False
    return True


def documented() -> list[str]:
    """The pages' commands that install avbench from its folder, each once."""
    shown = [c for page in pages() for c in commands((ROOT / page).read_text(encoding="utf-8"), page) if not c.inline]
    found = sorted({" ".join(c.words[1:]) for c in shown if re.match(r"(\.venv/bin/)?pip install .*'\.\[", c.text)})
    assert len(found) >= 5
    return found


@pytest.mark.parametrize("command", documented())
def test_the_sources_install_as_the_pages_say(command: str, source: Path, fresh: Path) -> None:
    (extras,) = re.findall(r"\[([\w,]+)\]", command)
    if missing := [extra for extra in extras.split(",") if not installed(EXTRAS[extra])]:
        pytest.skip(f"packages of the extra {', '.join(missing)} are not here, and a test fetches none")
    pip = [fresh / ".venv/bin/python", "-m", "pip"]
    call([*pip, *command.split(), "--no-index", "--no-build-isolation"], source)
    assert "avbench 0." in call([fresh / ".venv/bin/avbench", "--version"], fresh)


def test_the_wheel_lists_and_runs_outside_the_checkout(release: Path, fresh: Path, tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="avdigits is built with the extra `speech`")
    (wheel,) = release.glob("*.whl")
    pip = [fresh / ".venv/bin/python", "-m", "pip", "install", "-q", "--no-index", "--force-reinstall", "--no-deps"]
    call([*pip, wheel], tmp_path)
    where = call([fresh / ".venv/bin/python", "-c", "import avbench; print(avbench.__file__)"], tmp_path)
    assert where.startswith(str(fresh))
    listed = json.loads(call([fresh / ".venv/bin/avbench", "list", "methods", "--json"], tmp_path))
    assert {"random", "herding", "dc", "dsa", "mtt", "dm", "avdd", "whole"} == {each["name"] for each in listed}
    grid = ("--method", "random,dm", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1")
    small = ("--set", "dm.steps=2", "--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=1")
    board = call([fresh / ".venv/bin/avbench", "run", *grid, *small], tmp_path)
    assert re.search(r"\|\W*random\b", board) and re.search(r"\|\W*dm\[steps=2\]", board), board
    assert (tmp_path / "data" / "avdigits" / "store.json").is_file()  # built on the way, where it was asked for
    assert call([fresh / ".venv/bin/avbench", "verify", "runs"], tmp_path)


def test_the_sdist_holds_what_its_tests_need(source: Path) -> None:
    names = ("test_randomness", "test_layers", "test_contributing", "test_documentation", "test_grammar")
    files = [f"tests/{name}.py" for name in names]
    paths = os.pathsep.join([str(source), str(source / "plugins")])
    told = call([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *files], source, PYTHONPATH=paths)
    assert " passed" in told and "failed" not in told
    collected = call([sys.executable, "-m", "pytest", "-q", "--co", "tests"], source, PYTHONPATH=paths)
    assert "error" not in collected.splitlines()[-1]


def test_coverage_is_taken_put_together_and_told(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("coverage", reason="coverage comes with the extra `lint`")
    coverage = [sys.executable, "-m", "coverage"]
    paths = os.pathsep.join([str(source), str(source / "plugins")])
    where = {"PYTHONPATH": paths, "COVERAGE_FILE": str(tmp_path / "figures")}
    call([*coverage, "run", "-m", "pytest", "-q", "tests/test_grammar.py"], source, **where)
    call([*coverage, "combine", "-q"], source, **where)
    assert "TOTAL" in call([*coverage, "report"], source, **where)


def test_the_first_command_of_the_readme_prints_a_board_with_the_rows_of_the_readme(tmp_path: Path) -> None:
    """As it stands, in a folder of its own, with this environment's avbench. Takes about 4 minutes on 2 idle cores."""
    pytest.importorskip("espeakng_loader", reason="avdigits is built with the extra `speech`")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (command,) = [c for c in commands(text) if c.text.startswith(".venv/bin/avbench run --method random,herding")]
    main = [sys.executable, "-c", "from avbench.cli import main; main()"]
    printed = call([*main, *command.words[1:]], tmp_path)
    row = re.compile(r"^\|\s*[\d–]+ \|\s*\**(\w+)\**\s*\|\s*(\d+) \|", re.MULTILINE)
    assert len(row.findall(text)) == 8
    assert sorted(row.findall(printed)) == sorted(row.findall(text))
