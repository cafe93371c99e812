"""Discovery through entry points, shown on packages that pip really installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packages import avbench, install

from avbench.errors import PluginError
from avbench.plugins import KINDS, find, listing, load

METHOD = '''
    """A method of somebody else's."""
    from avbench.api import SelectionMethod

    class First(SelectionMethod):
        """Takes the first samples of each class."""

        def select(self, cls, count):
            return [int(row) for row in self.context.train.class_rows(cls)[:count]]
'''
BROKEN = """
    import a_module_that_nobody_has
"""
EXITING = """
    import sys
    sys.exit("I end the interpreter when imported")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with a good package, and one with everything that can be wrong."""
    folder = tmp_path_factory.mktemp("plugins")
    install(folder, "good-plugin", {"avbench.methods": {"first": "good_plugin:First"}}, {"good_plugin": METHOD})
    wrong = {
        "avbench.methods": {
            "broken": "bad_broken:Nothing",
            "exiting": "bad_exiting:Nothing",
            "absent": "bad_other:NotThere",
            "untyped": "bad_other:Untyped",
            "random": "bad_other:Untyped",
        }
    }
    modules = {"bad_broken": BROKEN, "bad_exiting": EXITING, "bad_other": "class Untyped:\n    pass\n"}
    return install(folder, "bad-plugin", wrong, modules)


@pytest.fixture(scope="module")
def report(site: Path) -> list[dict[str, str]]:
    """What ``avbench plugins`` says where both packages are installed."""
    done = avbench("plugins", "--json", site=site)
    assert done.returncode == 0
    found: list[dict[str, str]] = json.loads(done.stdout)
    return found


def test_every_first_party_plugin_loads_and_is_listed_with_a_summary() -> None:
    for kind in KINDS:
        for info in listing(kind):
            assert info.summary, info
            assert load(kind, f"{info.distribution}:{info.name}").info.version == info.version


def test_list_names_third_party_plugins_without_importing_them(site: Path) -> None:
    done = avbench("list", "methods", "--json", site=site)
    found = {(p["distribution"], p["name"]): p for p in json.loads(done.stdout)}
    assert found["good-plugin", "first"]["summary"] == "Takes the first samples of each class."
    assert found["good-plugin", "first"]["version"] == "1.2.3"
    assert ("bad-plugin", "broken") in found  # importing it would have failed
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("name", "phase", "words"),
    [
        ("broken", "import", "a_module_that_nobody_has"),
        ("exiting", "import", "I end the interpreter"),
        ("absent", "import", "NotThere"),
        ("untyped", "type", "not a subclass of Method"),
    ],
)
def test_plugins_reports_what_is_wrong_with_each(
    report: list[dict[str, str]], name: str, phase: str, words: str
) -> None:
    (problem,) = [p["problem"] for p in report if p["name"] == name]
    assert phase in problem
    assert words in problem
    assert "bad-plugin 1.2.3" in problem


def test_a_name_taken_twice_must_be_qualified_and_harms_nobody_else(site: Path, avdigits_data: Path) -> None:
    common = ("--dataset", "avdigits", "--ipc", "1", "--data", str(avdigits_data), "--dry-run")
    ambiguous = avbench("run", "--method", "random", *common, site=site)
    assert ambiguous.returncode == 2
    assert "'avbench:random'" in ambiguous.stderr
    assert "'bad-plugin:random'" in ambiguous.stderr
    for name in ("avbench:random", "dm", "first"):
        assert avbench("run", "--method", name, *common, site=site).returncode == 0


def test_a_broken_plugin_stops_only_a_run_that_uses_it(site: Path, avdigits_data: Path) -> None:
    done = avbench(
        *("run", "--method", "broken", "--dataset", "avdigits", "--ipc", "1", "--data", str(avdigits_data)), site=site
    )
    assert done.returncode == 2
    assert "bad-plugin 1.2.3" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_third_party_method_gets_a_row_on_the_board(site: Path, avdigits_data: Path, tmp_path: Path) -> None:
    done = avbench(
        *("run", "--method", "first", "--dataset", "avdigits", "--ipc", "2", "--data", str(avdigits_data)),
        *("--seeds", "1", "--networks", "1", "--set", "recognition-quick.updates=5"),
        *("--set", "recognition-quick.epochs=1", "--out", str(tmp_path / "runs")),
        site=site,
    )
    assert done.returncode == 0, done.stderr
    assert "| first" in done.stdout
    (record,) = (tmp_path / "runs" / "distil").glob("*/record.json")
    method = json.loads(record.read_text(encoding="utf-8"))["method"]
    assert (method["distribution"], method["distribution_version"]) == ("good-plugin", "1.2.3")


def test_plugins_says_ok_of_the_sound_ones(report: list[dict[str, str]]) -> None:
    assert [p["problem"] for p in report if p["name"] in ("first", "dm", "avdigits", "local")] == [""] * 4


def test_an_unknown_name_gets_the_nearest_ones() -> None:
    with pytest.raises(PluginError, match=r"did you mean 'herding'\?"):
        find("methods", "hering")
