"""Discovery through entry points, shown on packages that pip really installed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from packages import avbench, install

from avbench import plugins
from avbench.cli import main
from avbench.errors import PluginError
from avbench.plugins import KINDS, find, listing, load, refresh

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
FAULTY = '''
    """Plugins that fail when they are asked something."""
    from dataclasses import dataclass
    from avbench.api import SelectionMethod, option
    from avbench.hooks import hookimpl

    class Plain(SelectionMethod):
        """In order; the others are made of it."""
        def select(self, cls, count):
            return range(count)

    class Requires(Plain):
        @classmethod
        def requires(cls, config, setting):
            raise KeyError("what is required")

    class NoMapping(Plain):
        @classmethod
        def requires(cls, config, setting):
            return 3

    class Shares(Plain):
        @classmethod
        def shares(cls, config):
            return ["no", "hash"]

    class Defaults(Plain):
        @classmethod
        def defaults(cls, setting):
            raise SystemExit("no defaults")

    class NoDataclass(Plain):
        class Config:
            pass

    class PostInit(Plain):
        @dataclass(frozen=True)
        class Config:
            rate: float = option(0.5, "a rate")
            parts: tuple[int, ...] = option((1, 2), "parts")

            def __post_init__(self):
                if self.rate == 0.5:
                    raise ZeroDivisionError("of the configuration")

    class Constructor:
        def __init__(self):
            raise OSError("no constructor")

    class Argument:
        @hookimpl
        def job_started(self, jop):
            pass

    class Event:
        @hookimpl
        def job_strated(self, job):
            pass

    number = 7
    items = []
'''
FAULTS = {"Requires": "requires", "NoMapping": "requires", "Shares": "shares", "Defaults": "defaults"}
FAULTS |= {"NoDataclass": "options", "PostInit": "options"}
HOOK_FAULTS = {"Constructor": "construction", "Argument": "registration", "Event": "registration"}
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
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site with plugins that import well and fail when they are used."""
    entries = {
        "avbench.methods": {name.lower(): f"faulty:{name}" for name in FAULTS},
        "avbench.hooks": {name.lower(): f"faulty:{name}" for name in (*HOOK_FAULTS, "number", "items")},
    }
    return install(tmp_path_factory.mktemp("faulty"), "faulty-plugin", entries, {"faulty": FAULTY})


@pytest.fixture
def faulty_here(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The site of ``faulty`` in this process: one for each fault would import torch each time."""
    monkeypatch.syspath_prepend(str(faulty))
    refresh()
    yield
    refresh()


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
    assert avbench("run", "--method", "avbench:random,dm,first", *common, site=site).returncode == 0


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


def one_line(*arguments: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command line says of a wrong request."""
    with mock.patch.object(sys, "argv", ["avbench", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    return line


@pytest.mark.usefixtures("faulty_here")
@pytest.mark.parametrize("name", FAULTS)
def test_a_method_that_fails_while_planning_is_one_line(
    name: str, avdigits_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ("--method", name.lower(), "--dataset", "avdigits", "--ipc", "1", "--data", str(avdigits_data))
    line = one_line("run", *grid, "--out", str(tmp_path), capsys=capsys)
    assert f"method '{name.lower()}' (faulty-plugin 1.2.3) failed in {FAULTS[name]}: " in line


@pytest.mark.usefixtures("faulty_here")
@pytest.mark.parametrize("name", [*HOOK_FAULTS, "number", "items"])
def test_a_hook_that_cannot_be_used_is_one_line(
    name: str, avdigits_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ("--method", "random", "--dataset", "avdigits", "--ipc", "1", "--data", str(avdigits_data))
    line = one_line("run", *grid, "--out", str(tmp_path), "--hook", name.lower(), capsys=capsys)
    assert f"hook '{name.lower()}' (faulty-plugin 1.2.3" in line
    assert HOOK_FAULTS.get(name, "hookimpl") in line


@pytest.mark.usefixtures("faulty_here")
def test_options_of_one_plugin_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch.object(sys, "argv", ["avbench", "plugins", "postinit", "--json"]), pytest.raises(SystemExit):
        main()
    (shown,) = json.loads(capsys.readouterr().out)
    assert (shown["kind"], shown["distribution"]) == ("methods", "faulty-plugin")
    rate, parts = shown["options"]
    assert rate == {"name": "rate", "type": "a finite number", "default": 0.5, "help": "a rate"}
    assert parts["default"] == [1, 2]
    assert "failed in options" in one_line("plugins", "nodataclass", capsys=capsys)
    assert "did you mean 'herding'" in one_line("plugins", "hering", capsys=capsys)


def test_options_are_a_table_for_people() -> None:
    shown = avbench("plugins", "dm").stdout.splitlines()
    assert shown[0].startswith("method dm (avbench ")
    assert shown[1].split() == ["option", "type", "default", "meaning"]
    (augment,) = [line for line in shown if line.startswith("lr ")]
    assert "a finite number" in augment and "0.2" in augment


def test_lines_in_a_file_end_without_spaces_and_are_never_folded() -> None:
    lines = avbench("list").stdout.splitlines()
    assert len(lines) == 1 + sum(len(listing(kind)) for kind in KINDS)
    assert all(line == line.rstrip() for line in lines)


def test_sources_are_read_and_plugins_imported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    refresh()
    read: list[str] = []
    summary = plugins._summary
    monkeypatch.setattr(plugins, "_summary", lambda entry: read.append(entry.name) or summary(entry))
    for _ in range(3):
        assert load("methods", "dm") is load("methods", "dm")
    assert sorted(read) == sorted(info.name for info in listing("methods"))
    refresh()
    load("methods", "dm")
    assert read.count("dm") == 2
