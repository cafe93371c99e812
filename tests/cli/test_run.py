"""``avbench run`` as its user sees it: real processes on the embedded dataset, at sizes that take seconds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest
from packages import avbench

import avbench as package

SMALL = (
    *("--seeds", "2", "--networks", "2", "--set", "convnet.width=4"),
    *("--set", "recognition-quick.updates=6", "--set", "recognition-quick.epochs=1"),
)
GRID = ("--method", "random,herding,dm,dm[lr=4.2],avdd,whole", "--dataset", "avdigits", "--ipc", "1,2")
STEPS = ("--set", "dm.steps=3", "--set", "avdd.steps=3", "--set", "dm.batch_real=8", "--set", "avdd.batch_real=8")
CELLS = 2 * (5 * 2 + 1)  # seeds × (methods × ipcs + whole)


def run(data: Path, out: Path, *more: str, grid: Sequence[str] = (*GRID, *STEPS)) -> CompletedProcess[str]:
    return avbench("run", *grid, *SMALL, "--data", str(data), "--out", str(out), *more)


@pytest.fixture(scope="module")
def finished(avdigits_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CompletedProcess[str]]:
    """A run directory whose grid is done, and what the run printed."""
    out = tmp_path_factory.mktemp("finished") / "runs"
    return out, run(avdigits_data, out)


def records(out: Path, kind: str) -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((out / kind).glob("*/record.json"))]


def test_it_ends_with_a_board_and_the_path_of_the_results(finished: tuple[Path, CompletedProcess[str]]) -> None:
    out, done = finished
    assert done.returncode == 0, done.stderr
    for start in (
        "| random ",
        "| herding ",
        "| `dm[batch_real=8,steps=3]` ",
        "| `dm[batch_real=8,lr=4.2",
        "| `avdd[",
        "| whole ",
    ):
        assert start in done.stdout
    assert done.stdout.rstrip().endswith(f"results: {out.resolve()}")


def test_progress_goes_to_stderr_with_the_time_left(finished: tuple[Path, CompletedProcess[str]]) -> None:
    _, done = finished
    tasks = 2 * CELLS + 2  # distil and evaluate, and the features of each seed
    assert f"[{tasks}/{tasks}] done: " in done.stderr
    assert "time left: " in done.stderr
    assert "done:" not in done.stdout


def test_a_record_tells_all_that_made_it(finished: tuple[Path, CompletedProcess[str]]) -> None:
    out, _ = finished
    made = records(out, "distil")
    assert len(made) == CELLS
    record = next(r for r in made if r["method"]["label"].startswith("dm[") and "lr=4.2" in r["method"]["label"])
    assert record["status"] == "done"
    assert record["schema_version"] == 1
    assert record["method"]["options"]["lr"] == 4.2
    origins = record["method"]["origins"]
    assert (origins["lr"], origins["steps"], origins["momentum"]) == ("command line", "--set", "class default")
    assert record["architecture"]["origins"]["width"] == "--set"
    assert record["argv"][:2] == ["avbench", "run"]
    assert record["engine"]["threads"] == 1
    assert {"python", "packages", "processor", "gpu", "driver", "git"} <= set(record["environment"])
    assert record["environment"]["packages"]["torch"].startswith("2.11")
    assert record["peak_memory_mib"]["resident"] > 50
    assert record["result"]["steps"] == 3


def test_avdd_records_where_its_lambda_comes_from(finished: tuple[Path, CompletedProcess[str]]) -> None:
    out, _ = finished
    (origin,) = {r["method"]["origins"]["icm"] for r in records(out, "distil") if r["method"]["name"] == "avdd"}
    assert origin == "AVDD, appendix C"


def test_selected_sets_hold_no_media(finished: tuple[Path, CompletedProcess[str]]) -> None:
    out, _ = finished
    record = next(r for r in records(out, "distil") if r["method"]["name"] == "herding")
    folder = out / "distil" / record["key"]
    assert sum(p.stat().st_size for p in folder.iterdir() if p.suffix == ".safetensors") < 1000
    chosen = package.load(folder)
    assert chosen.tensors()["rows"].numel() == 10 * record["ipc"]


def test_networks_trained_on_the_whole_data_are_shared_with_herding(
    finished: tuple[Path, CompletedProcess[str]],
) -> None:
    out, _ = finished
    required = {r["prerequisites"]["features"] for r in records(out, "distil") if r["method"]["name"] == "herding"}
    assert len(required) == 2  # one a seed, for both IPCs and for avdd
    # `whole` has two networks a seed; it trained only the one that herding had not needed.
    assert len(records(out, "prerequisite")) == 4
    scores = [r["result"]["networks"] for r in records(out, "evaluate") if r["method"]["name"] == "whole"]
    assert all("train_loss" not in networks[0] and "train_loss" in networks[1] for networks in scores)


def test_the_same_command_again_does_nothing(finished: tuple[Path, CompletedProcess[str]], avdigits_data: Path) -> None:
    out, first = finished
    before = {p: p.stat().st_mtime_ns for p in out.rglob("record.json")}
    again = run(avdigits_data, out)
    assert again.stdout == first.stdout
    assert "0 to do in 0 jobs" in again.stderr
    assert {p: p.stat().st_mtime_ns for p in out.rglob("record.json")} == before


def test_only_what_is_missing_is_done(
    finished: tuple[Path, CompletedProcess[str]], avdigits_data: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "runs")
    lost = next(p for p in (out / "evaluate").iterdir())
    before = (lost / "record.json").read_text(encoding="utf-8")
    shutil.rmtree(lost)
    plan = run(avdigits_data, out, "--dry-run")
    # Distillations, evaluations and the features of each seed: all but the one that is lost.
    assert f"{2 * CELLS + 2 - 1} tasks cached, 1 to do in 1 jobs, 0 failed before, 0 stranded" in plan.stdout
    assert plan.stdout.count("cached    prerequisite") == 2
    assert not lost.exists()  # a dry run changes nothing
    again = run(avdigits_data, out)
    assert "[1/1] done: evaluate" in again.stderr
    after = (lost / "record.json").read_text(encoding="utf-8")
    assert json.loads(after)["result"] == json.loads(before)["result"]


def test_a_dry_run_counts_what_is_cached_and_the_disk(avdigits_data: Path, tmp_path: Path) -> None:
    fresh = json.loads(run(avdigits_data, tmp_path / "runs", "--dry-run", "--json").stdout)
    assert len(fresh["tasks"]) == 2 * CELLS + 2
    assert {task["state"] for task in fresh["tasks"]} == {"to do"}
    assert fresh["counts"] == {"cached": 0, "to do": len(fresh["tasks"]), "failed": 0, "stranded": 0}
    # Cells that share their steps share a job: dm, dm[lr=4.2] and avdd at both IPCs, one job a seed.
    sharing = {t["job"] for t in fresh["tasks"] if t["kind"] == "distil" and t["task"].startswith(("dm", "avdd"))}
    assert len(sharing) == 2
    assert fresh["disk_bytes"] > 1e6
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_dry_run_says_that_it_builds_an_embedded_dataset(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader", reason="avdigits is built with the extra `speech`")
    grid = ("--method", "random", "--dataset", "avdigits", "--ipc", "1", "--dry-run")
    first, second = (run(tmp_path / "data", tmp_path / "runs", grid=grid) for _ in range(2))
    assert first.stderr.startswith(f"dataset 'avdigits' is not under {tmp_path / 'data'}/ or is outdated: it is built")
    assert second.stderr == ""
    assert first.stdout == second.stdout


def test_failures_of_tasks_are_listed_one_by_one(
    finished: tuple[Path, CompletedProcess[str]], avdigits_data: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(finished[0], tmp_path / "runs")
    lost = [path for path in (out / "distil").iterdir() if '"name": "dm"' in (path / "record.json").read_text("utf-8")]
    for path in lost:
        record = json.loads((path / "record.json").read_text(encoding="utf-8"))
        (path / "record.json").write_text(json.dumps({**record, "status": "failed"}), encoding="utf-8")
    done = run(avdigits_data, out, "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 3
    assert len({failure["title"] for failure in found["failed"]}) == len(lost) == len(found["stranded"]) == 8
    assert {failure["reason"] for failure in found["failed"]} == {"failed before"}
    assert "8 tasks could not run" in done.stderr
    counts = json.loads(run(avdigits_data, out, "--json", "--dry-run").stdout)["counts"]
    assert counts == {"cached": 2 * CELLS + 2 - 16, "to do": 0, "failed": 8, "stranded": 8}


def test_json_results_load_back(finished: tuple[Path, CompletedProcess[str]], avdigits_data: Path) -> None:
    found = json.loads(run(avdigits_data, finished[0], "--json").stdout)
    (board,) = found["boards"]
    assert board["board"]["protocol"] == "recognition-quick[epochs=1,updates=6]"
    row = next(r for r in board["rows"] if r["method"].startswith("avdd") and r["ipc"] == 2)
    assert (row["seeds"], row["networks"], row["n"], row["complete"]) == (2, 2, 4, True)
    assert row["ratio"] == pytest.approx(20 / 1100)
    assert found["failed"] == found["stranded"] == []


def test_leaderboard_renders_from_records_alone(finished: tuple[Path, CompletedProcess[str]], tmp_path: Path) -> None:
    out, done = finished
    alone = tmp_path / "records"
    for path in out.rglob("record.json"):
        target = alone / path.relative_to(out)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    markdown = avbench("leaderboard", str(alone)).stdout
    assert markdown.strip() in done.stdout
    avbench("leaderboard", str(alone), "--format", "csv", "-o", str(tmp_path / "board.csv"))
    frame = pd.read_csv(tmp_path / "board.csv")
    (boards,) = json.loads(avbench("leaderboard", str(alone), "--format", "json").stdout)
    assert list(frame["method"]) == [row["method"] for row in boards["rows"]]
    assert frame["av_mean"].tolist() == pytest.approx([row["av_mean"] for row in boards["rows"]])


def test_one_modality_is_distilled_and_scored_alone(avdigits_data: Path, tmp_path: Path) -> None:
    grid = ("--method", "random,dm[steps=2,batch_real=8]", "--dataset", "avdigits", "--ipc", "1")
    small = ("--seeds", "1", "--networks", "1")
    done = run(avdigits_data, tmp_path / "runs", "--modality", "a,av", *small, "--json", grid=grid)
    assert done.returncode == 0, done.stderr
    (board,) = json.loads(done.stdout)["boards"]
    audio = [row for row in board["rows"] if row["modality"] == "a"]
    assert len(audio) == 2
    assert all(row["v_mean"] is None and row["av_mean"] is None and row["a_mean"] > 0 for row in audio)
    learned = package.load(next(p.parent for p in (tmp_path / "runs" / "distil").glob("*/distilled.json")))
    assert set(learned.tensors()) <= {"a", "v", "labels", "rows"}


def test_users_own_arrays_run_by_the_name_they_were_given(tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    count = 40
    label = np.arange(count) % 2
    tone = np.sin(2 * np.pi * np.where(label, 440, 1500)[:, None] * np.arange(8000)[None, :] / 8000)
    arrays = {
        "audio": (tone * 20000 + rng.normal(0, 500, tone.shape)).astype(np.int16),
        "sample_rate_hz": 8000,
        "image": (label[:, None, None, None] * 120 + rng.integers(0, 100, (count, 24, 24, 3))).astype(np.uint8),
        "label": label,
        "split": (np.arange(count) >= 30).astype(np.uint8),
    }
    np.savez(tmp_path / "mine.npz", **arrays)
    prepared = avbench(
        *("prepare", "arrays[mels=32,preset=quick]", "--source", str(tmp_path / "mine.npz"), "--name", "mine"),
        *("--data", str(tmp_path / "data")),
    )
    assert prepared.returncode == 0, prepared.stderr
    done = avbench(
        *("run", "--method", "random,dm", "--dataset", "mine", "--ipc", "1", "--set", "dm.steps=2", *SMALL),
        *("--seeds", "1", "--networks", "1", "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs")),
    )
    assert done.returncode == 0, done.stderr
    assert "### mine" in done.stdout


def test_another_precision_has_a_board_of_its_own_and_the_same_prerequisites(
    avdigits_data: Path, finished: tuple[Path, CompletedProcess[str]], tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    shutil.copytree(finished[0], out)
    before = {path.parent.name for path in out.glob("prerequisite/*/record.json")}
    one = ("--method", "avdd[steps=3,batch_real=8]", "--dataset", "avdigits", "--ipc", "1")
    done = run(avdigits_data, out, "--precision", "bfloat16", "--seeds", "1", "--networks", "1", grid=one)
    assert done.returncode == 0, done.stderr
    assert {path.parent.name for path in out.glob("prerequisite/*/record.json")} == before
    assert "· bfloat16 ·" in done.stdout and "· float32 ·" not in done.stdout
    losses = {
        record["precision"]: json.loads(path.read_text(encoding="utf-8").splitlines()[0])["loss"]
        for record, path in (
            (json.loads(path.with_name("record.json").read_text(encoding="utf-8")), path)
            for path in out.glob("distil/*/curve.jsonl")
        )
        if (record["method"]["name"], record["ipc"], record["seed"]) == ("avdd", 1, 0)
    }
    assert losses["bfloat16"] != losses["float32"]
    assert abs(losses["bfloat16"] / losses["float32"] - 1) < 0.05
