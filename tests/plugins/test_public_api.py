"""The public API is one list, documented in full, and changes only with its version and the changelog."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType

import pytest

from avbench import api

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "plugins"
ADVICE = "raise API_VERSION, say so in CHANGELOG.md, and run python docs/plugins/write_api.py"


@pytest.fixture(scope="module")
def writer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("write_api", PAGES / "write_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_names_and_signatures_are_those_on_record(writer: ModuleType) -> None:
    recorded = (PAGES / "api.txt").read_text(encoding="utf-8")
    assert writer.snapshot().splitlines() == recorded.splitlines(), ADVICE


def test_the_reference_is_complete_and_up_to_date(writer: ModuleType) -> None:
    page = (PAGES / "api.md").read_text(encoding="utf-8")
    assert page == writer.page(), "run python docs/plugins/write_api.py"
    assert set(re.findall(r"(?m)^## `(\w+)`$", page)) == set(api.__all__)


def test_a_changed_signature_and_a_lost_name_are_seen(writer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = writer.snapshot()

    def herd(features: object, count: int, seed: int) -> list[int]:
        return []

    monkeypatch.setattr(api, "herd", herd)
    monkeypatch.setattr(api, "__all__", [name for name in api.__all__ if name != "pack"])
    changed = set(before.splitlines()) ^ set(writer.snapshot().splitlines())
    assert {line.split("(")[0] for line in changed} == {"def herd", "def pack"}


def test_the_changelog_names_the_version_of_the_api() -> None:
    assert f"API {api.API_VERSION}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), ADVICE
    table = (PAGES / "publishing.md").read_text(encoding="utf-8")
    assert f"| {api.API_VERSION} |" in table


def test_every_public_function_and_class_says_what_it_is() -> None:
    assert sorted(api.__all__, key=str) == sorted(set(api.__all__))
    for name in api.__all__:
        value = getattr(api, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert inspect.getdoc(value), name
