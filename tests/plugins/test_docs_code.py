"""What the pages for plugin authors show, executed: every command and every class."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import Small
from packages import pip_install

from avbench.api import Ended, Resources
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import DistilTask, Engine, task_to_json
from avbench.plan import make_plan
from avbench.plugins import Loaded, PluginInfo, refresh
from avbench.results import RunDirectory
from avbench.testing import Check, NotChecked, checks

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "docs" / "plugins"
EXAMPLE = ROOT / "docs" / "examples" / "avbench-kmeans"
#: Instead of minutes: a last option wins over the page's.
QUICK = ("--method", "random,kmeans[features=random]", "--ipc", "2", "--seeds", "1", "--networks", "1")
QUICK += ("--set", "convnet.width=4", "--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=1")


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    text = (PAGES / page).read_text(encoding="utf-8")
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", text)


def module_of(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """All Python of a page as one module that is importable here and in child processes."""
    name = f"page_{page.removesuffix('.md')}"
    (folder / f"{name}.py").write_text("\n\n".join(blocks(page, "python")), encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def failures(plugin: Any) -> dict[str, str]:
    """What the kit finds wrong, by check."""
    found = {str(check): _failure(check) for check in checks(plugin)}
    return {name: text for name, text in found.items() if text}


def _failure(check: Check) -> str:
    try:
        check()
    except NotChecked:
        return ""
    except AssertionError as error:
        return str(error)
    return ""


def test_the_finished_module_stands_on_the_page_and_is_short() -> None:
    module = (EXAMPLE / "avbench_kmeans.py").read_text(encoding="utf-8")
    assert module in blocks("tutorial.md", "python")
    lines = [line for line in module.splitlines() if line.strip()]
    assert len(lines) <= 30
    (toml,) = blocks("tutorial.md", "toml")
    project = (EXAMPLE / "pyproject.toml").read_text(encoding="utf-8")
    assert all(line in project.splitlines() for line in toml.splitlines())


def test_the_first_versions_of_the_method_select_too(small: Small) -> None:
    for code in blocks("tutorial.md", "python")[:2]:
        names: dict[str, Any] = {}
        exec(compile(code, "tutorial.md", "exec"), names)
        method = names["KMeansCoreset"]
        found = method(method.Config(), small.context(ipc=3)).distilled()
        rows = found.tensors()["rows"].tolist()
        assert len(set(rows)) == 12
        context = small.context()
        assert torch.equal(context.train.labels[rows], torch.arange(4).repeat_interleave(3))


def test_everything_on_the_pages_passes_the_kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = module_of("tutorial.md", tmp_path, monkeypatch)
    kinds = module_of("kinds.md", tmp_path, monkeypatch)
    plugins = [page.Means, page.KMeansCoreset, kinds.Tones, kinds.Mlp, kinds.Gated, kinds.NearestMean, kinds.Diary]
    assert {plugin.__name__: failures(plugin) for plugin in plugins} == {each.__name__: {} for each in plugins}


def test_the_executor_of_the_page_runs_a_job(tmp_path: Path, small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = module_of("kinds.md", tmp_path, monkeypatch).Polite(Resources(1, "cpu", 1))
    request = Request(parse_variants("random", "--method"), (small.stores[1].info,), (1,), seeds=1)
    (cell,) = make_plan(request, RunDirectory(tmp_path)).cells
    job = tmp_path / "jobs" / "one"
    job.mkdir(parents=True)
    spec = {"tasks": [task_to_json(DistilTask(cell))], "out": str(tmp_path), "data": str(small.data)}
    spec |= {"engine": asdict(Engine()), "argv": [], "hooks": []}
    (job / "spec.json").write_text(json.dumps(spec), encoding="utf-8")
    assert executor.has_room() and executor.ended() == []
    executor.start("one", job)
    assert not executor.has_room()
    while not (ended := executor.ended()):
        time.sleep(0.05)
    assert (ended, executor.has_room()) == ([Ended("one", 0)], True)
    assert RunDirectory(tmp_path).done("distil", cell.key)
    executor.start("two", job)
    executor.stop()
    assert executor.has_room() and executor.ended() == []


def test_the_hook_of_the_page_keeps_its_diary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = PluginInfo("hooks", "diary", "some-hooks", "1.0", "page_kinds:Diary", "")
    diary = module_of("kinds.md", tmp_path, monkeypatch).Diary
    monkeypatch.setattr("avbench.hooks.load", lambda kind, name: Loaded(info, diary))
    hooks = Hooks(["diary"])
    hooks.begin(tmp_path, tmp_path, "coordinator")
    hooks.fire("task_finished", task="k", kind="distil", title="dm small ipc 1", status="done", folder=None)
    assert (tmp_path / "hooks" / "diary" / "diary.txt").read_text(encoding="utf-8") == "done: dm small ipc 1\n"


class Reader:
    """Somebody who types the commands of a page, in one folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.site = folder, data, folder / "site"
        self.printed: list[str] = []

    def type(self, command: str, capsys: pytest.CaptureFixture[str]) -> None:
        program, *arguments = shlex.split(command)
        if program == "pip":
            assert arguments[0] == "install"
            pip_install(self.site, self.folder / arguments[1])
            importlib.invalidate_caches()
            sys.modules.pop("avbench_kmeans", None)
            refresh()
            return
        assert program == "avbench", command
        if arguments[0] == "run":
            arguments += [*QUICK, "--data", str(self.data)]
        capsys.readouterr()
        assert status_of(arguments) == 0, f"{command}\n{capsys.readouterr().err}"
        self.printed.append(capsys.readouterr().out)


def status_of(arguments: list[str]) -> int:
    """The exit status of the command line, run in this process: each of its own would import torch anew."""
    from unittest import mock

    from avbench.cli import main

    try:
        with mock.patch.object(sys, "argv", ["avbench", *arguments]):
            main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@pytest.mark.slow
def test_the_commands_of_the_tutorial_lead_to_a_board_and_a_submission(
    tmp_path: Path, avdigits_data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    shutil.copytree(avdigits_data, data)
    reader = Reader(tmp_path, data)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(reader.site))
    monkeypatch.setenv("PYTHONPATH", str(reader.site))
    commands = [line for block in blocks("tutorial.md", "console") for line in block.splitlines()]
    try:
        for number, command in enumerate(commands):
            if command.startswith("pip") and "avbench check method kmeans" in commands[number : number + 3]:
                shutil.copytree(EXAMPLE, tmp_path / "avbench-kmeans", dirs_exist_ok=True)  # what the page has written
            reader.type(command, capsys)
    finally:
        refresh()
    printed = dict(zip([c for c in commands if c.startswith("avbench")], reader.printed, strict=True))
    assert "avbench-kmeans" in printed["avbench list methods"]
    assert "failed" not in printed["avbench check method kmeans"]
    (board,) = [text for command, text in printed.items() if command.startswith("avbench run")]
    assert "kmeans[features=random]" in board and "| random" in board
    assert list((tmp_path / "kmeans-results").rglob("distilled.json"))


def test_the_example_builds_into_a_wheel_that_holds_its_module_and_its_entry_point(tmp_path: Path) -> None:
    import zipfile

    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(EXAMPLE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entries,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "avbench_kmeans.py" in names
        assert "kmeans = avbench_kmeans:KMeansCoreset" in archive.read(entries).decode()
