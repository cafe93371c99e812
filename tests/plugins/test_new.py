"""``avbench new``: packages that install, are listed and pass their own tests; names and folders that are refused."""

from __future__ import annotations

import ast
import json
import keyword
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packages import avbench, pip_install

from avbench import __version__
from avbench.errors import RequestError
from avbench.scaffold.package import NewPlugin, requirement, write_package


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a new package of each kind."""
    folder = tmp_path_factory.mktemp("new")
    done = avbench("new", "method", "near-mean", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    assert str(folder / "avbench-near-mean" / "avbench_near_mean.py") in done.stdout.splitlines()
    assert "pip install -e" in done.stderr
    write_package(NewPlugin("dataset", "my_films"), folder)
    return folder


def test_new_packages_install_are_listed_and_pass_their_own_tests(made: Path) -> None:
    for name in ("avbench-near-mean", "avbench-my-films"):
        site = pip_install(made / "site", made / name)
    found = {(p["kind"], p["name"]): p for p in json.loads(avbench("list", "--json", site=site).stdout)}
    method, dataset = found["methods", "near-mean"], found["datasets", "my_films"]
    assert (method["distribution"], method["version"]) == ("avbench-near-mean", "0.1.0")
    assert method["summary"] == "Real samples by the distance of their embedding from the class mean."
    assert dataset["distribution"] == "avbench-my-films"
    tests = [str(made / name / "tests") for name in ("avbench-near-mean", "avbench-my-films")]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", *tests],
        env={**os.environ, "PYTHONPATH": str(site), "CI": ""},
        cwd=made,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def test_a_new_package_says_what_it_needs_and_what_it_offers(made: Path) -> None:
    folder = made / "avbench-near-mean"
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["dependencies"] == [requirement(__version__)]
    assert project["entry-points"] == {"avbench.methods": {"near-mean": "avbench_near_mean:NearMeanMethod"}}
    workflow = (folder / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "${{ matrix.python }}" in workflow and "avbench list methods" in workflow
    assert "No licence has been chosen yet" in (folder / "LICENSE").read_text(encoding="utf-8")
    assert (folder / ".gitignore").is_file() and (folder / "README.md").is_file()
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert "$name" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("version", "asked"),
    [("0.1.0", "avbench>=0.1,<0.2"), ("1.4.2", "avbench>=1.4,<2"), ("0.3.0rc1", "avbench>=0.3,<0.4")],
)
def test_a_new_package_asks_for_releases_that_keep_the_api(version: str, asked: str) -> None:
    assert requirement(version) == asked


def test_of_an_unknown_version_nothing_is_asked() -> None:
    assert requirement("0+unknown") == "avbench"


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("method", "", "expected up to 40"),
        ("method", "../evil", "expected up to 40"),
        ("method", "/tmp/evil", "expected up to 40"),
        ("method", "a b", "expected up to 40"),
        ("method", "Größe", "expected up to 40"),
        ("method", "2fast", "expected up to 40"),
        ("method", "a--b", "expected up to 40"),
        ("method", 'x"\n', "expected up to 40"),
        ("method", "x" * 41, "expected up to 40"),
        ("method", "con", "'con': on Windows this is a device"),
        ("dataset", "lpt9", "on Windows this is a device"),
        ("method", "avbench-thing", "give 'thing'"),
        ("method", "herding", "comes with avbench"),
        ("dataset", "avdigits", "comes with avbench"),
        ("method", "methods", "'avbench_methods' is installed already"),
        ("metod", "thing", "did you mean 'method'?"),
        ("fusion", "thing", "kinds.md"),
    ],
)
def test_names_that_can_t_be_are_refused_and_leave_nothing(tmp_path: Path, kind: str, name: str, words: str) -> None:
    with pytest.raises(RequestError) as refused:
        write_package(NewPlugin(kind, name), tmp_path / "inside")
    assert words in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_words_of_python_become_names_of_classes(tmp_path: Path) -> None:
    folder = write_package(NewPlugin("method", "none"), tmp_path)
    tree = ast.parse((folder / "avbench_none.py").read_text(encoding="utf-8"))
    (name,) = (node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.bases)
    assert not keyword.iskeyword(name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = write_package(NewPlugin("method", "mine"), tmp_path)
    (folder / "avbench_mine.py").write_text("my work", encoding="utf-8")
    with pytest.raises(RequestError, match="is there already"):
        write_package(NewPlugin("method", "mine"), tmp_path)
    assert (folder / "avbench_mine.py").read_text(encoding="utf-8") == "my work"
    (tmp_path / "avbench-link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(RequestError, match="is there already"):
        write_package(NewPlugin("method", "link"), tmp_path)


def test_a_folder_that_can_t_be_written_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for parent in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(RequestError, match=r"can't be written .*choose another --output"):
            write_package(NewPlugin("method", "mine"), parent)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
