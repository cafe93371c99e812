"""The public board is what ``leaderboard/results`` gives, and what can't be trusted is not shown."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tampering import read

from avbench.errors import AvbenchError
from avbench.verification.integrity import Results
from avbench.verification.tiers import TIERS, tiers

LEADERBOARD = Path(__file__).resolve().parents[2] / "leaderboard"


@pytest.fixture(scope="module")
def build() -> ModuleType:
    """``leaderboard/build.py``, which belongs to no package."""
    spec = importlib.util.spec_from_file_location("leaderboard_build", LEADERBOARD / "build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("public") / "leaderboard"
    shutil.copytree(LEADERBOARD / "results", root / "results")
    return root


def test_what_is_generated_is_up_to_date() -> None:
    command = [sys.executable, str(LEADERBOARD / "build.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_change_by_hand_is_stale_and_a_changed_record_is_refused(
    build: ModuleType, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build.main(["--root", str(copied)]) == 0
    board = copied / "README.md"
    assert board.read_bytes() == (LEADERBOARD / "README.md").read_bytes()
    board.write_text(board.read_text(encoding="utf-8").replace("avdd", "mine", 1), encoding="utf-8")
    assert build.main(["--check", "--root", str(copied)]) == 1
    assert "stale: README.md" in capsys.readouterr().err

    record = next(copied.glob("results/*/evaluate/*/record.json"))
    text = record.read_text(encoding="utf-8")
    scores = read(record)["result"]["networks"][0]["accuracy"]
    record.write_text(text.replace(str(scores["av"]), "1.0", 1), encoding="utf-8")
    assert build.main(["--check", "--root", str(copied)]) == 3
    told = capsys.readouterr().err
    assert "fails" in told and len(told.splitlines()) == 1


def test_two_submissions_may_not_give_one_evaluation_two_scores(build: ModuleType, tmp_path: Path) -> None:
    first, second = tmp_path / "results" / "one", tmp_path / "results" / "two"
    scores = []
    for folder, value in ((first, 0.5), (second, 0.6)):
        results = Results(folder)
        results.evaluate["key"] = {"result": {"networks": [{"index": 0, "accuracy": {"av": value}}]}}
        scores.append(build.Submitted({}, results, {"key": "integrity"}))
    build._refuse_conflicts([scores[0], scores[0]])
    with pytest.raises(AvbenchError, match="one and two give evaluation key different scores"):
        build._refuse_conflicts(scores)


def test_each_row_says_how_far_it_was_verified() -> None:
    lines = [line for line in (LEADERBOARD / "README.md").read_text(encoding="utf-8").splitlines() if "| " in line]
    boards = [line for line in lines if " ± " in line]
    assert boards
    for line in boards:
        assert line.rstrip("| ").rpartition("| ")[2].split(";")[0] in TIERS[1:], line


def test_a_claimed_tier_is_of_the_record_that_lies_there() -> None:
    submissions = [path for path in (LEADERBOARD / "results").iterdir() if path.is_dir()]
    assert submissions
    for each in submissions:
        written = read(each / "verification.json")["records"]
        assert written.keys() == tiers(each).keys()
