"""Wrong requests: one clear line, exit status 2, no traceback, nothing started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from packages import avbench


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"--method": "dmm"}, "did you mean 'dm'"),
        ({"--method": "dm[lr=4.2"}, "',' or ']'"),
        ({"--method": "dm[speed=3]"}, "dm has no option 'speed'"),
        ({"--method": "dm[lr=fast]"}, "dm.lr = 'fast': expected a finite number"),
        ({"--method": "dm[lr=nan]"}, "expected a finite number"),
        ({"--method": "dm[lr=0]"}, "learning rates must be positive"),
        ({"--method": "dm[factor=99]"}, "factor = 99"),
        ({"--method": "dm[augment=color_spin]"}, "unknown op 'spin'"),
        ({"--method": "dm,dm"}, "listed more than once"),
        ({"--method": "dm,dm[lr=0.2]"}, "the same configuration"),
        ({"--method": "avdd", "--modality": "a"}, "need both modalities"),
        ({"--modality": "x"}, "--modality"),
        ({"--ipc": "0"}, "--ipc"),
        ({"--ipc": "x"}, "--ipc"),
        ({"--ipc": "1,1"}, "listed twice"),
        ({"--ipc": "5000"}, "has only"),
        ({"--dataset": "avdigit"}, "avdigits"),
        ({"--dataset": "arrays"}, "avbench prepare arrays --source"),
        ({"--arch": "convnett"}, "convnet"),
        ({"--arch": "convnet[visual_depth=9]"}, "do not fit"),
        ({"--protocol": "recognition-code[batch=0]"}, "at least 1"),
        ({"--set": "avdd.lr=3"}, "the grid does not use 'avdd'"),
        ({"--set": "lr=3"}, "PLUGIN.OPTION=VALUE"),
        ({"--preset": "fast"}, "--preset"),
        ({"--device": "tpu"}, "--device"),
        ({"--executor": "lokal"}, "did you mean 'local'"),
        ({"--hook": "nothing"}, "unknown hook"),
        ({"--out": "/proc/nowhere"}, "--out"),
    ],
)
def test_a_wrong_request_is_one_line(
    avdigits_data: Path, tmp_path: Path, changes: dict[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"--method": "random", "--dataset": "avdigits", "--ipc": "1", "--out": str(tmp_path / "runs")}
    options |= {"--data": str(avdigits_data), **changes}
    status = in_process("run", *(part for pair in options.items() for part in pair))
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    (line,) = printed.err.strip().splitlines()
    assert line.startswith("avbench: ")
    assert words in line
    assert not (tmp_path / "runs" / "distil").exists()


def in_process(*arguments: str) -> int:
    """The exit status of ``main()``; a process each would import torch thirty times."""
    from unittest import mock

    from avbench.cli import main

    with mock.patch.object(sys, "argv", ["avbench", *arguments]), pytest.raises(SystemExit) as ended:
        main()
    code = ended.value.code
    return code if isinstance(code, int) else 1


def test_help_states_the_defaults_and_shows_brackets_as_they_are_typed() -> None:
    text = " ".join(avbench("run", "--help").stdout.replace("│", " ").split())
    assert "'dm[lr=4.2,init=herding]'" in text
    assert "Default: 3 (quick and paper)" in text
    assert "Default: 3 (quick), 5 (paper)" in text
    assert "Default: convnet, 128 wide (paper) or 16 (quick)" in text
    assert "'arrays[mels=64]'" in avbench("prepare", "--help").stdout


def test_a_wrong_option_of_the_command_line_itself_is_no_traceback() -> None:
    done = avbench("run", "--nonsense")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "--nonsense" in done.stderr


def test_a_board_of_an_empty_folder_says_what_to_do(tmp_path: Path) -> None:
    done = avbench("leaderboard", str(tmp_path))
    assert done.returncode == 2
    assert "avbench run" in done.stderr
    assert avbench("leaderboard", str(tmp_path / "absent")).returncode == 2


def test_a_board_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avbench.report.board.build_boards", lambda runs: ["a board"])
    monkeypatch.setattr("avbench.report.render.render", lambda boards, format: "text")
    for place, words in ((tmp_path, "is a folder"), (Path("/proc/nowhere/board.md"), "can't be written")):
        assert in_process("leaderboard", str(tmp_path), "-o", str(place)) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert words in line


@pytest.mark.parametrize("verb", ["list", "list methods --json", "plugins dm", "--help"])
@pytest.mark.parametrize(("where", "words"), [("> /dev/full", "No space left"), (">&-", ""), ("| true", "")])
def test_stdout_that_takes_nothing_is_no_traceback(verb: str, where: str, words: str) -> None:
    command = f"{sys.executable} -c 'from avbench.cli import main; main()' {verb} {where}"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == (1 if words else 0)
    assert done.returncode == (1 if words else 0)
