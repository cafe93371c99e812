"""CONTRIBUTING, issue forms and citation: what they name exists, and they say what avbench is."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
import typer
import yaml

from avbench.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
QUESTION = re.compile(r"^\*\*… .+\?\*\*", re.MULTILINE)
PLACE = re.compile(r"`([\w./]+\.py)::([\w.]+)`")
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def defined(file: Path, name: str) -> bool:
    """Whether a file defines a function or class, or ``Class.member`` itself, not by inheritance."""
    body = ast.parse(file.read_text(encoding="utf-8")).body
    for part in name.split("."):
        found = [n for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == part]
        if not found:
            return False
        body = found[0].body
    return True


def answers() -> list[str]:
    """What follows each where-is question, up to the next."""
    return QUESTION.split(PAGE)[1:]


def test_twelve_questions_are_answered_with_a_file_and_a_function() -> None:
    assert len(answers()) == 12
    assert all(PLACE.search(answer) for answer in answers())


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACE.findall(PAGE))))
def test_every_place_that_an_answer_names_exists(file: str, name: str) -> None:
    assert (ROOT / file).is_file(), f"{file} has gone: say in CONTRIBUTING.md where {name} is now"
    assert defined(ROOT / file, name), f"{file} defines no {name}: say in CONTRIBUTING.md where it is now"


def test_a_place_that_has_moved_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("class A:\n    def f(self): ...\n\ndef g(): ...\n", encoding="utf-8")
    assert defined(file, "A.f") and defined(file, "g")
    assert not defined(file, "f") and not defined(file, "A.g") and not defined(file, "B")


def test_eq_9_is_where_the_page_says() -> None:
    (answer,) = [text for text in answers() if "cgm_loss" in text]
    assert "Eq. 9" in PAGE[: PAGE.index(answer)].rpartition("**…")[2]
    tree = ast.parse((ROOT / "avbench/distill/losses.py").read_text(encoding="utf-8"))
    (function,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "cgm_loss"]
    assert "Eqs. 7 to 9" in (ast.get_docstring(function) or "")


def test_every_command_that_the_page_names_exists() -> None:
    commands = re.findall(r"(?:python|`)\s*((?:benchmarks|leaderboard|docs|\.ci)/[\w./]+)", PAGE)
    assert {".ci/run", ".ci/lowest", "leaderboard/build.py"} <= set(commands)
    assert [name for name in commands if not (ROOT / name).exists()] == []
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", PAGE)
    assert set(named.split(",")) <= set(extras)


@pytest.mark.parametrize("path", [ROOT / "CONTRIBUTING.md", *FORMS], ids=lambda path: path.name)
def test_every_verb_that_a_page_or_form_names_exists(path: Path) -> None:
    verbs = set(typer.main.get_command(app).commands)
    named = set(re.findall(r"`avbench ([a-z]+)", path.read_text(encoding="utf-8")))
    assert named <= verbs


def test_there_is_a_form_for_bugs_methods_and_submissions() -> None:
    assert [path.name for path in FORMS] == ["bug.yml", "config.yml", "new-method.yml", "submission.yml"]


@pytest.mark.parametrize("path", [path for path in FORMS if path.name != "config.yml"], ids=lambda path: path.name)
def test_an_issue_form_is_one_that_github_shows(path: Path) -> None:
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= set(form) <= {"name", "description", "body", "labels"}
    fields = [part for part in form["body"] if part["type"] != "markdown"]
    assert fields and all(part["type"] in ("input", "textarea", "checkboxes") for part in fields)
    ids = [part["id"] for part in fields]
    labels = [part["attributes"]["label"] for part in fields]
    assert len(set(ids)) == len(ids) and len(set(labels)) == len(labels)  # GitHub refuses a form that repeats either
    assert all(part["attributes"]["options"] for part in fields if part["type"] == "checkboxes")
    assert any(part.get("validations", {}).get("required") for part in fields)


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what the format requires
    assert citation["cff-version"] == "1.2.0"
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert [reference["title"] for reference in citation["references"]] == ["Audio-Visual Dataset Distillation"]
