"""``avbench status``: what real runs left, while one goes on, after it was killed, and from another host."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Small
from packages import avbench
from test_coordinator import run

from avbench import claims
from avbench.cli.status_text import time_left, to_json, to_text
from avbench.status import Observer, Status

MAIN = (sys.executable, "-c", "from avbench.cli import main; main()")
TINY = ("run", "--dataset", "small3", "--seeds", "1", "--networks", "1", "--preset", "quick", "--jobs", "1")
TINY += (
    "--set",
    "dm.batch_real=4",
    "--set",
    "convnet.width=4",
    "--set",
    "dm.init=random",
    "--set",
    "dm.features=random",
)
TINY += ("--set", "recognition-quick.updates=2", "--set", "recognition-quick.epochs=3")
#: Diverges at once, so that its evaluation has nothing to judge.
BROKEN = "dm[lr=1e38]"


def files(root: Path) -> dict[str, tuple[int, bytes]]:
    """All that lies in a folder, with the times at which it was written."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [root, *root.rglob("*")]
    }


@pytest.fixture(scope="module")
def ended(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one set that is done and judged, and one whose method fails, so that its evaluation is stranded."""
    out = tmp_path_factory.mktemp("ended") / "runs"
    grid = (*TINY, "--method", f"random,{BROKEN}", "--ipc", "1", "--set", "dm.steps=5")
    found = avbench(*grid, "--data", str(small.data), "--out", str(out))
    assert found.returncode == 3, found.stderr
    return out


@pytest.fixture
def copy(ended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ended, tmp_path / "runs"))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def announcement(root: Path) -> Path:
    (found,) = root.glob("jobs/run-*.json")
    return found


def numbers(status: Status, kind: str) -> dict[str, int]:
    return {state: count for state, count in status.counts()[kind].items() if count}


def test_a_run_that_ended_is_told_with_its_failures(ended: Path) -> None:
    before = files(ended)
    shown, plain = avbench("status", str(ended)), avbench("status", str(ended), "--json")
    assert (shown.returncode, plain.returncode) == (0, 0), shown.stderr + plain.stderr
    assert files(ended) == before
    found = json.loads(plain.stdout)
    assert {state: count for state, count in found["counts"]["distil"].items() if count} == {"done": 1, "failed": 1}
    assert {state: count for state, count in found["counts"]["evaluate"].items() if count} == {"done": 1, "stranded": 1}
    (failed,) = found["failed"]
    record = json.loads(Path(failed["record"]).read_text(encoding="utf-8"))
    assert failed["error"] == record["error"] and failed["key"] == record["key"]
    assert "not finite" in failed["error"]["reason"] and failed["error"]["phase"].startswith("step")
    assert found["stranded"][0]["task"] == f"evaluate {failed['task']}" and "lr=1e38" in failed["task"]
    (only,) = found["runs"]
    assert (only["state"], only["planned"], only["settled"], only["time_left"]) == ("ended", 4, 4, None)
    assert only["rate_per_h"] == pytest.approx(4 * 3600 / only["took_s"], rel=1e-3)
    assert only["argv"][:2] == ["avbench", "run"] and not found["going"]
    assert found["peak_memory_mib"]["resident"] > 50 and "gpu" not in found["peak_memory_mib"]
    for text in (
        failed["error"]["reason"],
        failed["error"]["phase"],
        BROKEN,
        "4 of 4 planned tasks settled",
        "stranded",
    ):
        assert text in shown.stdout


def test_memory_of_a_gpu_is_told_where_it_was_recorded(copy: Path) -> None:
    record = next(iter(copy.glob("evaluate/*/record.json")))
    change(record, peak_memory_mib={"resident": 10.0, "gpu": 4321.0})
    found = Observer(copy).look()
    assert found.peak_memory_mib["gpu"] == 4321.0 and found.peak_memory_mib["resident"] > 10
    assert "4321 MiB on the GPU" in to_text(found, copy)


def test_records_alone_are_counted_where_jobs_were_removed(copy: Path) -> None:
    shutil.rmtree(copy / "jobs")
    found = Observer(copy).look()
    assert numbers(found, "distil") == {"done": 1, "failed": 1} and numbers(found, "evaluate") == {"done": 1}
    title = found.of("failed")[0].title
    assert title.startswith("dm[") and "lr=1e38" in title and title.endswith(" small3 ipc 1 seed 0")
    assert "what was not begun is not known" in to_text(found, copy)


def test_a_set_that_has_gone_is_no_longer_done(copy: Path) -> None:
    (description,) = copy.glob("distil/*/distilled.json")
    description.unlink()
    assert numbers(Observer(copy).look(), "distil") == {"unfinished": 1, "failed": 1}


def test_an_artefact_that_goes_while_it_is_watched_is_seen(copy: Path) -> None:
    observer = Observer(copy)
    assert numbers(observer.look(), "distil") == {"done": 1, "failed": 1}
    (tensors,) = copy.glob("distil/*/distilled.safetensors")
    whole = tensors.read_bytes()
    tensors.unlink()
    assert numbers(observer.look(), "distil") == {"unfinished": 1, "failed": 1}
    tensors.write_bytes(whole)
    assert numbers(observer.look(), "distil") == {"done": 1, "failed": 1}


def test_a_snapshot_beyond_the_last_step_is_done_and_a_lost_record_is_not(small: Small, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    grid = (*TINY, "--method", "dm", "--ipc", "1", "--set", "dm.steps=1", "--snapshots", "99")
    found = avbench(*grid, "--data", str(small.data), "--out", str(out))
    assert found.returncode == 0, found.stderr
    assert numbers(Observer(out).look(), "evaluate") == {"done": 2}
    (record,) = out.glob("evaluate/*/record.json")
    record.unlink()
    (lost,) = Observer(out).look().of("unfinished")
    assert lost.kind == "evaluate" and "99" not in lost.title
    (record,) = out.glob("distil/*/record.json")
    change(record, result=None)
    assert numbers(Observer(out).look(), "evaluate") == {"unfinished": 2}


# --- damage -------------------------------------------------------------------------------------------------------


def test_half_written_files_are_named_and_hide_nothing_else(copy: Path) -> None:
    (failed,) = [path for path in copy.glob("distil/*/record.json") if '"failed"' in path.read_text(encoding="utf-8")]
    failed.write_text(failed.read_text(encoding="utf-8")[:100], encoding="utf-8")
    spec = next(iter(copy.glob("jobs/evaluate-*/spec.json")))
    spec.write_text("{", encoding="utf-8")
    for events in copy.glob("jobs/*/events.jsonl"):
        with events.open("a", encoding="utf-8") as file:
            file.write('{"event": "step"}\n[]\n\x00\n{"time": 1, "event": "st')
    (copy / "claims").mkdir(exist_ok=True)
    (copy / "claims" / "0123.1").write_text("{", encoding="utf-8")
    found = Observer(copy).look()
    assert any(str(failed) in note for note in found.notes) and any(str(spec) in note for note in found.notes)
    assert numbers(found, "distil") == {"done": 1, "unfinished": 1}
    json.loads(to_json(found, copy))


@pytest.mark.parametrize("seed", range(30))
def test_no_damage_ends_it(copy: Path, seed: int) -> None:
    """Any few files cut off, or holding JSON of another form, at seeded places."""
    rng = random.Random(seed)
    paths = sorted(path for path in copy.rglob("*") if path.suffix in (".json", ".jsonl"))
    for path in rng.sample(paths, 4):
        text = path.read_text(encoding="utf-8")
        other = rng.choice(
            ["", "null", "[]", '{"status": "done", "schema_version": 1}', text[: rng.randrange(len(text) + 1)]]
        )
        path.write_text(other, encoding="utf-8")
    found = Observer(copy).look()
    assert to_text(found, copy) and json.loads(to_json(found, copy))["counts"]


def test_folders_without_a_run_are_answered_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("hello", encoding="utf-8")
    empty, other, absent, both = (
        avbench("status", str(tmp_path / name), *more)
        for name, *more in (["empty"], ["other"], ["absent"], ["empty", "--watch", "--json"])
    )
    assert empty.returncode == 0 and "nothing has been run" in empty.stdout
    assert avbench("status", str(tmp_path / "empty"), "--watch").stdout == empty.stdout  # there is nothing to wait for
    for refused, text in ((other, "letter.txt"), (absent, "is not a run directory"), (both, "--watch")):
        assert refused.returncode == 2 and text in refused.stderr and not refused.stdout
        assert refused.stderr.count("\n") == 1


# --- other hosts --------------------------------------------------------------------------------------------------


@pytest.fixture
def distant(copy: Path) -> Path:
    """The directory as another host sees it whose run there is at the evaluation of the set that is done."""
    path = announcement(copy)
    far = json.loads(path.read_text(encoding="utf-8"))["process"] | {"host": "far", "machine": "far away"}
    change(path, process=far, ended_s=None)
    (spec,) = [
        each
        for each in copy.glob("jobs/evaluate-*/spec.json")
        if json.loads(each.read_text(encoding="utf-8"))["tasks"][0]["cell"]["method"]["name"] == "random"
    ]
    (spec.parent / "events.jsonl").write_text("", encoding="utf-8")
    (job,) = [
        job for job in json.loads(path.read_text(encoding="utf-8"))["jobs"] if spec.parent.name.startswith(job["id"])
    ]
    (copy / "claims").mkdir(exist_ok=True)
    claim = copy / "claims" / f"{job['tasks'][0]['key']}.1"
    claim.write_text(json.dumps({"run": far, "job": f"/elsewhere/jobs/{spec.parent.name}"}), encoding="utf-8")
    return copy


def test_a_run_on_another_host_is_said_to_be_out_of_reach(distant: Path) -> None:
    found = Observer(distant).look()
    (running,) = found.of("running")
    assert (running.detail, "on far" in running.holder) == ("starting", True)
    assert found.going and found.runs[0].state == "can't be checked"
    assert "work on far still goes on can't be checked" in to_text(found, distant)


def test_a_distant_run_that_falls_silent_is_taken_for_dead(distant: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "SILENT_S", 0.2)
    observer = Observer(distant)
    (claim,) = distant.glob("claims/*")
    for beat in range(3):  # touched: it lives, whatever its clock says
        os.utime(claim, (1e9 - beat, 1e9 - beat))
        assert observer.look().going
        time.sleep(0.15)
    time.sleep(0.2)
    found = observer.look()
    assert not found.going and found.runs[0].state == "silent" and not found.of("running")


# --- a run that goes on ---------------------------------------------------------------------------------------------


@pytest.fixture
def going(small: Small, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A run in a process of its own, that takes longer than any test."""
    out = tmp_path / "runs"
    grid = (*TINY, "--method", "dm", "--ipc", "1,2", "--set", "dm.steps=1000000", "--checkpoint-s", "1000")
    command = [*MAIN, *grid, "--data", str(small.data), "--out", str(out)]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process, out
    process.kill()
    process.wait()


def watch(out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MAIN, "status", str(out), "--watch", "--every-s", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background SIGINT is ignored, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def until(process: subprocess.Popen[bytes], holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.2)


def test_a_run_is_followed_until_it_is_killed(going: tuple[subprocess.Popen[bytes], Path]) -> None:
    process, out = going
    observer, heard = Observer(out), set[str]()

    def steps() -> bool:
        heard.update(task.detail for task in observer.look().of("running") if task.detail.startswith("step"))
        return len(heard) >= 3

    until(process, steps)
    found = observer.look()
    assert numbers(found, "distil") == {"running": 2} and numbers(found, "evaluate") == {"waiting": 2}
    assert found.going and found.runs[0].state == "going"
    assert f"process {process.pid} on" in found.of("running")[0].holder
    assert time_left(found.runs[0]).startswith("at least")
    watching, interrupted = watch(out), watch(out)
    time.sleep(2.0)
    assert watching.poll() is None
    interrupted.send_signal(signal.SIGINT)
    _, said = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130 and "Traceback" not in said
    assert process.poll() is None
    process.kill()
    process.wait()
    last, _ = watching.communicate(timeout=60)
    assert watching.returncode == 0 and "killed; process" in last and "Running:" not in last
    found = observer.look()
    assert not found.going and found.runs[0].state == "killed"
    assert numbers(found, "distil") == {"unfinished": 2} and numbers(found, "evaluate") == {"unfinished": 2}


def test_an_interrupted_run_says_so(small: Small, tmp_path: Path) -> None:
    def says(key: str) -> list[str]:
        raise KeyboardInterrupt

    act, _, _ = run(small, tmp_path, says)
    with pytest.raises(KeyboardInterrupt):
        act()
    found = Observer(tmp_path).look()
    assert found.runs[0].state == "interrupted" and not found.going  # although the process that ran it lives
    assert numbers(found, "distil") == {"unfinished": 1} and numbers(found, "evaluate") == {"unfinished": 2}
    assert "interrupted at" in to_text(found, tmp_path)
