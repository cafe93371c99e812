"""``avbench check``: a table or JSON, exit status 3 where a check fails, and plugins that end or hang the process."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from packages import avbench, install

ENTRIES = {
    "avbench.hooks": {"leaving": "odd_hooks:Leaving", "looping": "odd_hooks:Looping"},
    "avbench.fusions": {"fatal": "odd_fusion:Fatal"},
    "avbench.methods": {"unimportable": "odd_missing:Nothing", "ending": "odd_ending:Nothing"},
}
MODULES = {
    "odd_hooks": """
        import os
        from avbench.api import hookimpl

        class Leaving:
            @hookimpl
            def job_finished(self, job, status):
                os._exit(7)

        class Looping:
            @hookimpl
            def job_finished(self, job, status):
                while True:
                    pass
    """,
    "odd_fusion": """
        import os, signal
        from avbench.nets.joint import Concatenation

        class Fatal(Concatenation):
            '''Kills itself when it is given one modality.'''

            def draw(self, head, stream):
                if sum(p.numel() for p in head.parameters()) == 8 * 3 + 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                super().draw(head, stream)
    """,
    "odd_missing": "import nothing_of_the_kind",
    "odd_ending": "import os; os._exit(5)",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("odd"), "odd-plugins", ENTRIES, MODULES)


def test_a_process_that_a_plugin_ends_is_a_failed_check(site: Path) -> None:
    done = avbench("check", "hook", "leaving", "--json", site=site)
    assert done.returncode == 3, done.stderr
    found = json.loads(done.stdout)
    assert (found["kind"], found["name"], found["distribution"], found["version"]) == (
        *("hook", "leaving", "odd-plugins", "1.2.3"),
    )
    by_name = {check["check"]: check for check in found["checks"]}
    assert by_name["registers"]["status"] == "ok"
    assert by_name["events"]["status"] == "failed"
    assert "ended the process with status 7" in by_name["events"]["reason"]
    assert done.stderr.strip() == "hook leaving: 1 ok, 1 failed, 0 not checked"


def test_a_check_that_hangs_is_ended_and_told(site: Path) -> None:
    done = avbench("check", "hook", "looping", "--timeout-s", "2", site=site)
    assert done.returncode == 3, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("events")]
    assert "failed" in line and "took longer than 2 s" in line


@pytest.mark.slow
def test_the_other_checks_go_on_after_a_plugin_killed_its_process(site: Path) -> None:
    done = avbench("check", "fusion", "fatal", "--json", site=site)
    assert done.returncode == 3, done.stderr
    by_name = {check["check"]: check for check in json.loads(done.stdout)["checks"]}
    assert "SIGKILL" in by_name["predictions"]["reason"]
    assert by_name["options"]["status"] == by_name["own-parts"]["status"] == by_name["grid"]["status"] == "ok"


def test_a_plugin_that_cannot_be_imported_is_one_line(site: Path) -> None:
    done = avbench("check", "method", "unimportable", site=site)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert "failed to import: ModuleNotFoundError" in line


@pytest.mark.slow
def test_a_plugin_that_ends_the_process_that_imports_it_is_one_line(site: Path) -> None:
    done = avbench("check", "method", "ending", site=site)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.strip().splitlines()
    assert "importing it ended the process with status 5" in line


def test_a_good_plugin_with_options_passes() -> None:
    done = avbench("check", "methods", "random", "--json")
    assert done.returncode == 0, done.stderr
    states = {check["check"]: check["status"] for check in json.loads(done.stdout)["checks"]}
    assert set(states.values()) <= {"ok", "not checked"}
    assert states["budget"] == states["test-data"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("check", "metod", "dm"), "did you mean 'method'"),
        (("check", "method", "dmm"), "did you mean 'dm'"),
        (("check", "method", "dm,avdd"), "one plugin"),
        (("check", "method", "dm", "--set", "avdd.lr=1"), "--set avdd"),
        (("check", "method", "dm", "--source", "."), "a method has none"),
        (("check", "dataset", "arrays", "--source", "/nowhere"), "no such file"),
    ],
)
def test_a_wrong_request_is_one_line_at_once(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    from avbench.cli import main

    monkeypatch.setattr(sys, "argv", ["avbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert words in line
