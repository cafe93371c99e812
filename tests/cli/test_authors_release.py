"""``avbench evaluate --grid``: a release of sets is found, judged, and set beside what was reported for it."""

from __future__ import annotations

import json
import tomllib
from math import sqrt
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from avbench.cli import app
from avbench.errors import RequestError
from avbench.release import find_folder, read_release

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "benchmarks" / "paper" / "authors_release.toml"
#: AVDD, Table 3, column Ours, in percent.
TABLE_3 = {
    ("vggs10k", 1): (40.41, 1.81),
    ("vggs10k", 10): (54.99, 1.73),
    ("vggs10k", 20): (58.04, 1.68),
    ("vggsound", 1): (4.97, 0.30),
    ("vggsound", 20): (9.85, 0.34),
    ("music21", 1): (44.02, 2.21),
    ("music21", 10): (68.07, 0.98),
    ("music21", 20): (70.30, 0.69),
    ("ave", 10): (36.82, 0.88),
    ("ave", 20): (40.13, 1.00),
}
FAST = ("--networks", "2", "--set", "convnet.width=4", "--jobs", "1")
FAST += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=2")
HEAD = """
label = "theirs"
preset = "quick"
protocol = "recognition-quick"
factor = 2
[reported]
source = "a table"
metric = "accuracy"
part = "av"
unit = "percent"
networks = 15
"""


def entry(dataset: str, ipc: int, folder: str, mean: float = 30.0, std: float = 2.0) -> str:
    return f'[[sets]]\ndataset = "{dataset}"\nipc = {ipc}\nfolders = ["{folder}"]\nmean = {mean}\nstd = {std}\n'


def items(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 1, 16, 24, generator=generator), torch.randn(count, 3, 16, 16, generator=generator)


def joint(folder: Path, ipc: int) -> None:
    folder.mkdir(parents=True)
    audio, frames = items(4 * ipc, ipc)
    torch.save(audio, folder / "exp_0_audSyn_5000.pth")
    torch.save(frames, folder / "exp_0_imgSyn_5000.pth")


def classwise(folder: Path, ipc: int) -> None:
    folder.mkdir(parents=True)
    for cls in range(4):
        audio, frames = items(ipc, cls)
        torch.save({0: {"audio_syn": {5000: audio}, "image_syn": {5000: frames}}}, folder / f"class:{cls}.pt")


def test_what_is_there_is_scored_and_compared_and_what_is_not_is_listed(small: Any, tmp_path: Path) -> None:
    source = tmp_path / "theirs"
    joint(source / "syn_data" / "small_ipc1", 1)
    classwise(source / "syn_data" / "Small_IPC2", 2)
    joint(source / "syn_data" / "other_ipc1", 1)
    joint(source / "syn_data" / "wrong_ipc3", 1)
    grid = tmp_path / "mine.toml"
    sets = [("small3", 1, "small_ipc1"), ("small3", 2, "small_ipc2"), ("vggsound", 1, "other_ipc1")]
    sets += [("small3", 3, "wrong_ipc3"), ("small3", 5, "absent_ipc5")]
    grid.write_text(HEAD + "".join(entry(*each) for each in sets), encoding="utf-8")
    command = ("evaluate", "--grid", str(grid), "--source", str(source), *FAST, "--data", str(small.data))
    command += ("--out", str(tmp_path / "runs"))

    done = CliRunner().invoke(app, [*command, "--json"])
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert [row["name"] for row in found["comparison"]] == ["small3 ipc 1", "small3 ipc 2"]
    skipped = [line for line in done.stderr.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == 3
    assert (
        "vggsound ipc 1: dataset 'vggsound' is not prepared" in skipped[0] and "avbench prepare vggsound" in skipped[0]
    )
    assert "holds 1 items a class, not 3" in skipped[1]
    assert "no folder absent_ipc5" in skipped[2]

    rows = {row["ipc"]: row for row in found["boards"][0]["rows"]}
    records = [json.loads(p.read_text(encoding="utf-8")) for p in (tmp_path / "runs").glob("evaluate/*/record.json")]
    for row, record in zip(found["comparison"], sorted(records, key=lambda r: r["ipc"]), strict=True):
        scores = [100 * network["accuracy"]["av"] for network in record["result"]["networks"]]
        assert (row["networks"], row["mean"], row["std"]) == (2, fmean(scores), pstdev(scores))
        error = sqrt(pstdev(scores) ** 2 / 2 + 2.0**2 / 15)
        assert row["standard_errors"] == pytest.approx((fmean(scores) - 30.0) / error)
        assert row["mean"] == pytest.approx(100 * rows[record["ipc"]]["av_mean"])
        assert rows[record["ipc"]]["method"] == "theirs"

    again = CliRunner().invoke(app, [*command])
    assert again.exit_code == 0 and "0 to do" in again.stderr
    assert "30.00 ± 2.00" in again.stdout and "standard errors" in again.stdout and "a table" in again.stdout


def test_the_shipped_grid_holds_the_ten_published_sets_and_the_papers_numbers() -> None:
    release = read_release("authors_release")
    assert release == read_release(str(SHIPPED))
    assert len(release.sets) == 10
    assert release.protocol == "recognition-code" and release.networks == 15
    assert {(s.dataset, s.ipc): (s.mean, s.std) for s in release.sets} == TABLE_3


def test_the_shipped_grid_opens_with_what_a_reader_must_know() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    tomllib.loads(text)
    assert all(f"# {word}:" in text for word in ("Shows", "Expected", "Cost", "Command"))


def test_the_authors_folder_names_are_known() -> None:
    names = {name for each in read_release("authors_release").sets for name in each.folders}
    # As the authors' evaluation scripts spell them.
    assert {"VGG_subset_ipc1", "music_ipc10", "vgg_ipc20", "ave_ipc10", "Distill_VGG_subset_ipc:10"} <= names


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label = ", "mine.toml: "),
        ("", "'label' is missing|'reported' is missing"),
        (HEAD, "'sets' is missing"),
        (HEAD.replace("percent", "share") + entry("a", 1, "b"), "expected 'percent'"),
        (HEAD + entry("a", 1, "b").replace("ipc = 1", 'ipc = "1"'), "ipc = '1': expected int"),
        (HEAD + entry("a", 1, "b").replace('["b"]', "[1]"), "list of names"),
    ],
)
def test_a_grid_that_is_not_as_it_should_be_is_refused_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match=words) as error:
        read_release(str(tmp_path / "mine.toml"))
    assert "\n" not in str(error.value)


def test_an_unknown_grid_and_an_absent_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="did you mean 'authors_release'"):
        read_release("author_release")
    with pytest.raises(RequestError, match=r"nothing\.toml: can't be read"):
        read_release("nothing.toml")
    with pytest.raises(RequestError, match="no folder VGG_subset_ipc1 under"):
        find_folder(tmp_path, read_release("authors_release").sets[0])


@pytest.mark.parametrize(
    "arguments",
    [(), ("some",), ("--grid", "authors_release"), ("some", "--grid", "g", "--source", "s", "--dataset", "d")],
)
def test_either_one_set_or_a_release_is_asked_for(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, ["evaluate", *arguments])
    assert isinstance(done.exception, RequestError) and "either PATH and --dataset" in str(done.exception)
