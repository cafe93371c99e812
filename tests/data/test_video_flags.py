"""A dataset's options as flags of ``avbench prepare``."""

from __future__ import annotations

from pathlib import Path

import pytest
import sources
import typer
from typer.testing import CliRunner

from avbench.cli.prepare import CONTEXT, prepare, read_flags
from avbench.errors import RequestError


def test_flags_become_options() -> None:
    given = ["--split-file", "my list.csv", "--seconds=10", "--left-out", "none"]
    assert read_flags(given, "ave") == {"split_file": "my list.csv", "seconds": "10", "left_out": "none"}
    assert read_flags(["--normalise", "--mels", "64"], "arrays") == {"normalise": "true", "mels": "64"}
    assert read_flags(["--normalise=false"], "arrays") == {"normalise": "false"}
    assert read_flags([], "nothing is loaded") == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--splitfile", "F"], "ave has no option --splitfile; did you mean '--split-file'"),
        (["--seconds"], "--seconds needs a value: a finite number"),
        (["--split-file", "--seconds", "10"], "--split-file needs a value: text"),
        (["--seconds", "1", "--seconds", "2"], "--seconds is given twice"),
        (["stray"], "'stray': unexpected; options of ave are written --OPTION VALUE"),
    ],
)
def test_a_wrong_flag_is_one_line(given: list[str], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        read_flags(given, "ave")


def test_a_flag_reaches_the_dataset_from_the_command_line(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command("prepare", context_settings=CONTEXT)(prepare)
    source = sources.ave(tmp_path / "source", videos={"train": 1, "val": 1, "test": 1})
    command = ["ave", "--source", str(source), "--data", str(tmp_path / "data"), "--workers", "1"]
    done = CliRunner().invoke(app, [*command, "--size", "24", "--mels=16", "--frame", "centre"])
    assert done.exit_code == 0, done.output
    assert "frames (3, 24, 24)" in done.output and "audio (1, 16, 56)" in done.output
    wrong = CliRunner().invoke(app, [*command, "--sizes", "24"])
    assert isinstance(wrong.exception, RequestError) and "did you mean '--size'" in str(wrong.exception)
    first = CliRunner().invoke(app, ["--size", "24", *command])
    assert isinstance(first.exception, RequestError) and "name the dataset first" in str(first.exception)
