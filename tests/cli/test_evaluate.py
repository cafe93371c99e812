"""``avbench evaluate``: a set from a run, from a file, from the authors' layout: the same records and boards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packages import avbench

import avbench as library
from avbench.verification.integrity import check_integrity

FAST = ("--networks", "2", "--preset", "quick", "--set", "convnet.width=4")
FAST += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")


@pytest.fixture(scope="module")
def run(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluate") / "runs"
    command = ("run", "--method", "random,dm", "--dataset", "small3", "--ipc", "1", "--seeds", "1", *FAST)
    command += ("--set", "dm.steps=2", "--set", "dm.batch_real=4")
    done = avbench(*command, "--data", str(small.data), "--out", str(out))
    assert done.returncode == 0, done.stderr
    return out


def set_of(out: Path, method: str) -> Path:
    for path in out.glob("distil/*/record.json"):
        if json.loads(path.read_text(encoding="utf-8"))["method"]["name"] == method:
            return path.parent
    raise AssertionError(method)


def boards(stdout: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(stdout)["boards"]
    return found


def test_a_set_of_a_run_gets_the_score_that_the_run_gave_it(run: Path, small: Any, tmp_path: Path) -> None:
    (board,) = json.loads(avbench("leaderboard", str(run), "--format", "json").stdout)
    for method in ("dm", "random"):
        done = avbench(
            *("evaluate", str(set_of(run, method)), "--dataset", "small3", "--json", *FAST),
            *("--data", str(small.data), "--out", str(tmp_path / "elsewhere")),
        )
        assert done.returncode == 0, done.stderr
        (row,) = boards(done.stdout)[0]["rows"]
        (expected,) = [each for each in board["rows"] if each["method"].startswith(method)]
        for column in ("method", "ipc", "av_mean", "av_std", "bytes", "n"):
            assert row[column] == expected[column], column


def test_a_set_in_its_own_run_is_judged_there_under_another_network(run: Path, small: Any) -> None:
    before = len(list(run.glob("distil/*")))
    done = avbench(
        *("evaluate", str(set_of(run, "dm")), "--dataset", "small3", "--arch", "lenet", "--json", *FAST[:4], *FAST[6:]),
        *("--data", str(small.data), "--out", str(run)),
    )
    assert done.returncode == 0, done.stderr
    assert [board["board"]["architecture"] for board in boards(done.stdout)] == ["convnet[width=4]", "lenet"]
    assert len(list(run.glob("distil/*"))) == before


def test_plain_arrays_with_the_same_numbers_get_the_same_score(run: Path, small: Any, tmp_path: Path) -> None:
    given = library.load(set_of(run, "dm"))
    np.savez(tmp_path / "theirs.npz", labels=given.labels.numpy(), audio=given.items["a"], frames=given.items["v"])
    done = avbench(
        *("evaluate", str(tmp_path / "theirs.npz"), "--dataset", "small3", "--frames", "network", "--json", *FAST),
        *("--data", str(small.data), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 0, done.stderr
    (row,) = boards(done.stdout)[0]["rows"]
    (board,) = [
        b
        for b in json.loads(avbench("leaderboard", str(run), "--format", "json").stdout)
        if b["board"]["architecture"] != "lenet"
    ]
    (expected,) = [each for each in board["rows"] if each["method"].startswith("dm")]
    assert row["method"] == "theirs"
    assert row["av_mean"] == expected["av_mean"]
    (record,) = [json.loads(p.read_text(encoding="utf-8")) for p in (tmp_path / "runs").glob("distil/*/record.json")]
    assert set(record["adopted"]["sha256"]) == {"theirs.npz"}


def test_a_name_that_holds_a_bracket_passes_verification(run: Path, small: Any, tmp_path: Path) -> None:
    done = avbench(
        *("evaluate", str(set_of(run, "dm")), "--dataset", "small3", "--name", "dm [v2]", *FAST),
        *("--data", str(small.data), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 0, done.stderr
    assert check_integrity(tmp_path / "runs").findings.problems == []
    # A label that is neither the name nor the name with options is still refused.
    (record,) = (tmp_path / "runs").glob("distil/*/record.json")
    known = json.loads(record.read_text(encoding="utf-8"))
    known["method"]["label"] = "dm"
    record.write_text(json.dumps(known), encoding="utf-8")
    assert {problem.check for problem in check_integrity(tmp_path / "runs").findings.problems} == {"keys"}


def test_the_authors_experiments_are_the_seeds_of_one_row(small: Any, tmp_path: Path) -> None:
    folder = tmp_path / "avdd_small_ipc4"
    folder.mkdir()
    for e in range(2):
        generator = torch.Generator().manual_seed(e)
        torch.save(torch.randn(16, 1, 16, 24, generator=generator), folder / f"exp_{e}_audSyn_5000.pt")
        torch.save(torch.rand(16, 3, 16, 16, generator=generator), folder / f"exp_{e}_imgSyn_5000.pt")
    done = avbench(
        *("evaluate", str(folder), "--dataset", "small3", "--name", "avdd-authors", "--json", *FAST),
        *("--data", str(small.data), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 0, done.stderr
    assert "saved after the normalisation was undone" in done.stderr
    (row,) = boards(done.stdout)[0]["rows"]
    assert (row["method"], row["ipc"], row["seeds"], row["n"]) == ("avdd-authors", 4, 2, 4)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (("--dataset", "nothing"), "unknown dataset 'nothing'"),
        (("--frames", "pixel"), "did you mean 'pixels'"),
        (("--format", "nzp"), "did you mean 'npz'"),
        (("--arch", "resnet9"), "did you mean 'resnet18'"),
        (("--dataset", "small1"), "small1"),
    ],
)
def test_what_can_t_be_judged_is_refused_in_one_line(
    run: Path, small: Any, tmp_path: Path, changed: tuple[str, str], words: str
) -> None:
    options = {"--dataset": "small3", "--data": str(small.data), "--out": str(tmp_path / "runs")} | dict([changed])
    done = avbench("evaluate", str(set_of(run, "dm")), *(part for pair in options.items() for part in pair))
    assert done.returncode == 2
    assert words in done.stderr and len(done.stderr.strip().splitlines()) == 1
