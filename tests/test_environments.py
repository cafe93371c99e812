"""``tests/environments.py`` notices what differs, and finds nothing between two environments of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import environments
import pytest
from packages import fresh_environment

FEW = ("--method", "herding,dm,avdd", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1", "--networks", "1")
FEW += ("--set", "dm.steps=5", "--set", "dm.batch_real=4", "--set", "avdd.steps=5", "--set", "avdd.batch_real=4")
FEW += ("--set", "convnet.width=4", "--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=1")
BOARD = "### title\n| method | AV % | time |\n| dm | 9.1 | 3 s |\n\nresults: a/runs\n"


def made(place: Path, board: str = BOARD) -> dict[str, Any]:
    """What a run could have left below a folder."""
    for name, text in {
        "data/digits/store.json": '{"fingerprint": "f"}',
        "runs/distil/key/distilled.safetensors": "tensors",
        "runs/distil/key/curve.jsonl": "{}\n",
        "runs/distil/key/record.json": '{"status": "done", "result": {"content_hash": "h"}, "duration_s": 1}',
    }.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return environments.results(place, board)


def test_durations_are_no_difference(tmp_path: Path) -> None:
    one = made(tmp_path)
    path = tmp_path / "runs/distil/key/record.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"duration_s": 1', '"duration_s": 2'), encoding="utf-8")
    other = environments.results(tmp_path, BOARD.replace("3 s", "4 s").replace("a/runs", "b/runs"))
    assert len(one) == 5 and not environments.differences(one, other)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("data/digits/store.json", lambda path: path.write_text('{"fingerprint": "g"}', encoding="utf-8")),
        ("runs/distil/key/distilled.safetensors", lambda path: path.write_text("tensor5", encoding="utf-8")),
        ("runs/distil/key/curve.jsonl", lambda path: path.unlink()),
        ("runs/distil/key/record.json", lambda path: path.write_text('{"status": "failed"}', encoding="utf-8")),
    ],
)
def test_whatever_differs_is_named(name: str, change: Any, tmp_path: Path) -> None:
    one = made(tmp_path)
    change(tmp_path / name)
    expected = "digits" if name.startswith("data") else name.removeprefix("runs/")
    for pair in ((one, environments.results(tmp_path, BOARD)), (environments.results(tmp_path, BOARD), one)):
        assert environments.differences(*pair) == [expected]


def test_another_score_on_the_board_is_named(tmp_path: Path) -> None:
    one = made(tmp_path)
    assert environments.differences(one, made(tmp_path, BOARD.replace("9.1", "9.2"))) == ["board"]


@pytest.mark.slow  # tests/test_determinism.py does so on a smaller store
def test_two_environments_prepare_and_run_to_the_same_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pythons = [fresh_environment(tmp_path / name) for name in "ab"]
    status = environments.main([*(part for each in pythons for part in ("--python", each)), "--", *FEW])
    found = json.loads(capsys.readouterr().out)
    assert status == 0 and found["differing"] == []
    assert found["compared"] > 10
