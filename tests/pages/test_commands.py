"""Every command that the pages show is run, or the page says beside it what it needs that a test has not.

Quick: what is cheap is run as it stands; ``avbench run`` is planned (``--dry-run``) on small stores of the datasets'
names; of the other dear verbs and of scripts the arguments are read by the program's own parser. Slow: the same
commands to their end, on small settings (``pytest -m slow tests/pages``).
"""

from __future__ import annotations

import argparse
import re
import runpy
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import typer
from commands_of_pages import ROOT, Command, commands, pages, usages
from once import made_once
from reader import FEW_STEPS, PAPER, QUICKLY, SMALL, Reader, make_base, small_settings

from avbench.cli import app

GROUP = typer.main.get_command(app)
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
#: Datasets that everyone has to get by themselves. What a page names otherwise is embedded, or the reader's own.
ELSEWHERE = ("ave", "ave-10s", "music21", "vggsound", "vggs10k", "vggs10k-release")
#: Plugins of a reader's, which the tutorial's own test installs (tests/plugins/test_docs_code.py).
OWN_PLUGINS = re.compile(r"(?:--method |plugins |check method )(?:[\w,]*,)?(?:mine|kmeans|first)\b")
#: Verbs that start workers, make a network or take minutes: in the quick suite their arguments are read, no more.
DEAR = ("check", "evaluate", "show", "verify --data", "prepare avdigits")
#: What is no verb of avbench, and the test or script that runs it: a file, and what stands in it.
RUN_BY = {
    "python3 -m venv .venv": ("tests/pages/test_fresh.py", "venv"),
    "python -m pytest": (".ci/run", "-m pytest"),
    "ruff check .": (".ci/run", ".venv/bin/ruff check ."),
    "ruff format .": (".ci/run", ".venv/bin/ruff format --check ."),
    "mypy": (".ci/run", ".venv/bin/mypy"),
    "coverage": ("tests/pages/test_fresh.py", "coverage"),
    "python -m sphinx -W -b html docs": ("tests/test_site.py", '"-m", "sphinx", "-W"'),
    "python -m build": ("tests/test_site.py", '"-m", "build"'),
    "python -m twine check --strict dist/*": ("tests/test_site.py", '"twine", "check", "--strict"'),
    "python train.py": ("tests/test_using.py", "train.py"),
    "python -m avbench.worker": ("avbench/executors/local.py", "avbench.worker"),
    "python leaderboard/build.py": ("tests/verification/test_public_board.py", "build.py"),
    "python docs/plugins/write_api.py": ("tests/plugins/test_public_api.py", "write_api.py"),
    "python tests/faults/campaign.py": ("tests/faults/test_campaign.py", "campaign"),
    "python tests/faults/crowd.py": ("tests/cli/test_concurrency.py", "crowd"),
    "python tests/faults/soak.py": ("tests/cli/test_soak.py", "soak"),
    "python tests/environments.py": ("tests/test_environments.py", "environments."),
    "python benchmarks/speed/": ("tests/test_speed_scripts.py", 'script("all").main(["--quick"'),
    "python benchmarks/findings/trajectories.py": ("tests/test_findings_scripts.py", "trajectories.main"),
    "python benchmarks/scaling/measure.py": ("tests/executors/test_local_scaling.py", "measure"),
    ".ci/run": (".ci/run", "grep -m1 -- '-m pytest' README.md"),
    ".ci/lowest": (".ci/lowest", "lowest-direct"),
    "pip install": ("tests/pages/test_fresh.py", "pip"),
}


def of_page(name: str) -> list[Command]:
    return list(commands((ROOT / name).read_text(encoding="utf-8"), name))


def needs(words: Sequence[str]) -> set[str]:
    """What a command needs that a test has not, from what it says."""
    text = " ".join(words)
    found = set()
    named = re.findall(r"--dataset (\S+)", text) + re.findall(r"^avbench (?:prepare|data \w+) (\S+)", text)
    if any(name in ELSEWHERE for names in named for name in names.split(",")):
        found.add("data")
    if "--grid" in words and not named:
        found.add("data")
    if "--gpus" in words or "--device cuda" in text:
        found.add("a GPU")
    if re.search(r"--executor (?:ray|slurm)|/shared/", text):
        found.add("a cluster")
    if words[0] in ("uv", ".ci/lowest") or words[0].startswith(".lowest/"):
        found.add("a package index")
    if "twine upload" in text:
        found.add("an account")
    return found


def problem(command: Command, reader: Reader, of_page: set[str]) -> str:
    """Why a command of a page does not do; empty where it does. ``of_page``: what any command of its page needs."""
    words = command.words
    wanted = needs(words)
    idle = command.needs - (of_page if command.shared else wanted)
    if not command.inline and (wanted - command.needs or idle):
        said = " and ".join(sorted(command.needs)) or "nothing"
        return f"it needs {' and '.join(sorted(wanted)) or 'nothing'}, and the page says that it needs {said}"
    words = [re.sub(r"^\.venv/bin/", "", word) for word in words]
    if words[0] != "avbench":
        return "" if wanted & {"a package index", "an account"} else elsewhere(words, command)
    if command.inline:
        grid = words[1] == "run" and {"--method", "--grid"} & set(words) and "--dataset" in words
        return mentioned(words) or (of_avbench(words[1:], reader) if grid and "…" not in words else "")
    return of_avbench(words[1:], reader)


def mentioned(words: Sequence[str]) -> str:
    """A verb that there is, with options that it takes."""
    text = " ".join(words)
    if len(words) < 2 or words[1].isupper() or words[1].startswith("-"):
        return ""
    command: Any = GROUP
    for word in words[1:3]:
        inner = getattr(command, "commands", None)
        command = (inner.get(word) if inner else command) if command is not None else None
    if command is None:
        return f"avbench has no verb {words[1]}"
    known = {spelled for p in command.params for spelled in (*p.opts, *p.secondary_opts)} | {"--help"}
    free = bool(command.context_settings.get("ignore_unknown_options"))
    strange = [each for each in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text) if each not in known]
    return f"{', '.join(strange)}: not an option of {words[1]}" if strange and not free else ""


def parsed(arguments: Sequence[str]) -> str:
    """The arguments read as the program reads them, and nothing done."""
    verb = GROUP.commands[arguments[0]]  # type: ignore[attr-defined]
    try:
        verb.make_context(arguments[0], list(arguments[1:]))
    except Exception as error:
        return str(error)
    return ""


def of_avbench(arguments: list[str], reader: Reader) -> str:
    arguments = without_machines(reader.filled(arguments))
    text = " ".join(arguments)
    dear = text.startswith(DEAR) or (arguments[0] == "verify" and "--data" in arguments)
    dear = dear or "pretrain/" in text  # weights that the command before would make
    if OWN_PLUGINS.search(text) or (dear and not reader.whole) or "--grid authors_release" in text:
        return parsed(arguments)
    if arguments[0] == "run" and "--dry-run" not in arguments:
        return run_small(arguments, reader) if reader.whole else reader.type([*arguments, "--dry-run"])
    return reader.type(arguments)


def run_small(arguments: Sequence[str], reader: Reader) -> str:
    """A run to its end, on settings of the methods and of whichever protocol its preset takes."""
    named = re.findall(r"(?<![\w.])(?:dm|avdd|dc|dsa|mtt)(?![\w.])", " ".join(arguments))
    if "--controls" in arguments:
        named.append("dm")
    if "--grid" in arguments and "--method" not in arguments:
        named = list(FEW_STEPS)
    why = ""
    for judge in (QUICKLY, PAPER):
        why = reader.type([*arguments, *SMALL, *small_settings(sorted(set(named)), judge)])
        if "the grid does not use 'recognition-" not in why:
            break
    return why


def without_machines(arguments: Sequence[str]) -> list[str]:
    """A run as it can be made here: on this machine's processor, in the foreground."""
    kept, skip = [], False
    for word in arguments:
        if skip or word in ("--detach", "--watch"):
            skip = False
        elif word in ("--gpus", "--gpu-memory-mib", "--device", "--executor", "--jobs"):
            skip = True
        else:
            kept.append(word)
    return kept


def elsewhere(words: Sequence[str], command: Command) -> str:
    """A command that is not avbench's: a script's arguments are read by it, and the test that runs it is looked up."""
    text = " ".join(words)
    if words[:2] == ["pip", "install"]:
        extras = {extra for found in re.findall(r"\[([\w,]+)\]", text) for extra in found.split(",")}
        if any(re.match(r"avbench(?:\[|$)", word) for word in words[2:]):
            return "avbench is installed from its folder: pip install '.[…]'"
        unknown = extras - set(EXTRAS)
        if unknown and "kmeans" not in text:
            return f"{', '.join(sorted(unknown))}: no extra of pyproject.toml"
        if command.inline:
            return ""
    if re.match(r"python [\w/]+\.py", text) and words[1] != "train.py" and (found := script(words[1:])):
        return found
    if not command.inline and "pytest" in words and (found := named_tests(words)):
        return found
    if (ROOT / words[0]).is_dir():
        return ""
    for beginning, (file, evidence) in RUN_BY.items():
        if text.startswith(beginning):
            there = (ROOT / file).is_file() and evidence in (ROOT / file).read_text(encoding="utf-8")
            return "" if there else f"{file} no longer holds {evidence!r}, by which it was run"
    if command.inline and not command.needs:
        return ""
    return "no test runs it: run it in tests/pages, or say beside it what it needs"


class _ReadError(Exception):
    """The arguments were read."""


def script(words: Sequence[str]) -> str:
    """A script that exists and takes these arguments; it does nothing with them."""
    file = ROOT / words[0]
    if not file.is_file():
        return f"{words[0]} does not exist"
    if not re.search("argparse|comparing", file.read_text(encoding="utf-8")):
        return "" if len(words) == 1 else f"{words[0]} takes no arguments"
    read = argparse.ArgumentParser.parse_args

    def stop(self: argparse.ArgumentParser, *given: object, **named: object) -> None:
        read(self, list(words[1:]))
        raise _ReadError

    before, path = set(sys.modules), list(sys.path)
    try:
        sys.path.insert(0, str(file.parent))
        with mock.patch.object(argparse.ArgumentParser, "parse_args", stop):
            runpy.run_path(str(file), run_name="__main__")
    except _ReadError:
        return ""
    except SystemExit:
        return f"{words[0]} does not take {' '.join(words[1:])}"
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - before:
            if str(file.parent) in (getattr(sys.modules[name], "__file__", None) or ""):
                del sys.modules[name]
    return f"{words[0]} reads no arguments"


def named_tests(words: Sequence[str]) -> str:
    """Folders and markers that a call of pytest names."""
    markers = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    known = {each.partition(":")[0] for each in markers["markers"]}
    chosen = [then for word, then in zip(words, [*words[1:], ""], strict=True) if word == "-m" and then != "pytest"]
    if set(chosen) - known:
        return f"{', '.join(chosen)}: no marker of pyproject.toml"
    gone = [word for word in words if word.startswith("tests/") and not (ROOT / word).exists()]
    return f"{', '.join(gone)}: not there" if gone else ""


def problems(reader: Reader, found: Sequence[Command]) -> list[str]:
    of_page = {need for command in found if not command.inline for need in needs(command.words)}
    return [f"{command}\n    {why}" for command in found if (why := problem(command, reader, of_page))]


WITH_COMMANDS = [name for name in pages() if of_page(name)]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "reader-base", make_base)


@pytest.fixture
def reader(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    found = Reader.beginning(base, tmp_path / "reader", whole=False)
    monkeypatch.chdir(found.folder)
    monkeypatch.delenv("AVBENCH_DATA", raising=False)
    return found


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_is_run_or_says_what_it_needs(page: str, reader: Reader) -> None:
    found = problems(reader, of_page(page))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("page", pages())
def test_a_usage_names_a_verb_and_options_that_it_takes(page: str) -> None:
    for usage in usages((ROOT / page).read_text(encoding="utf-8"), page):
        assert " [" in usage.text or "…" in usage.text, f"{usage}: a command, which its block calls text"
        assert usage.text.startswith("avbench ") and not mentioned(usage.text.split()), str(usage)


MADE_UP = """
```
avbench list                      # fine
avbench lsit
avbench run --method dm --dataset ave --ipc 1
avbench run --method dm --dataset avdigits --ipc 1 --seed 3
avbench list methods              # needs a GPU
avbench leaderboard nowhere
pip install 'avbench[speech]'
pip install '.[gpu]'
python benchmarks/speed/budget.py --chekc
python benchmarks/speed/gone.py
make all
# needs data
avbench run --method dm --dataset ave --ipc 1
avbench run --method gone --dataset ave --ipc 1

avbench run --method dm --dataset ave --ipc 1
```

| what | command |
|---|---|
| lint | `flake8 .` |
| tests | `.venv/bin/python -m pytest -q -m slowly` |
| data; needs data | `avbench data info ave` |

A sentence with `avbench verfy runs`, `avbench run --methods dm` and `avbench run --method dm --dataset gone --ipc 1`.
"""
WRONG = (4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 16, 18, 23, 24, 27, 27, 27)


def test_a_made_up_page_is_told_every_fault_that_it_has_and_no_other(reader: Reader) -> None:
    found = problems(reader, list(commands(MADE_UP)))
    assert [int(each.split(":")[1]) for each in found] == list(WRONG), "\n".join(found)
    assert "it needs data, and the page says that it needs nothing" in found[1]
    assert "no test runs it" in found[9] and "no test runs it" in found[12]


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_every_command_of_a_page_runs_to_its_end(page: str, reader: Reader) -> None:
    reader.whole = True
    found = problems(reader, of_page(page))
    assert not found, "\n".join(found)
