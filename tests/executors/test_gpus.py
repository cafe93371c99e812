"""Jobs on GPUs: which are named, where a job has room, and what its worker is told. No GPU is needed."""

from __future__ import annotations

import json
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import avbench

from avbench.cli import running
from avbench.errors import RequestError
from avbench.executors import local
from avbench.executors.base import Resources
from avbench.executors.gpus import CONTEXT_MIB, Gpu, Places, parse_gpus, places_on, seen_gpus
from avbench.executors.local import LocalExecutor
from avbench.jobs import Engine


def gpu(number: int, memory_mib: float = 24_000.0, visible: str = "") -> Gpu:
    return Gpu(number, visible or str(number), f"GPU-0000000{number}-abcd", "Model", memory_mib)


FOUR = tuple(map(gpu, range(4)))


# --- naming -----------------------------------------------------------------------------------------------------------


def test_gpus_are_named_by_number_or_uuid() -> None:
    assert parse_gpus("2,0", FOUR) == (FOUR[2], FOUR[0])
    assert parse_gpus(" gpu-00000001-ABCD , 03", FOUR) == (FOUR[1], FOUR[3])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,0", "GPU 0 is listed twice"),
        ("1,GPU-00000001-abcd", "GPU 1 is listed twice"),
        ("4", "torch does not see GPU '4'"),
        ("GPU-ff", "torch does not see GPU 'GPU-ff'"),
        ("a", "'a' is no number and no GPU-UUID"),
        ("-1", "'-1' is no number"),
        ("0,", "'' is no number"),
        ("²", "'²' is no number"),
    ],
)
def test_what_names_no_gpu_or_one_twice_is_refused(text: str, said: str) -> None:
    with pytest.raises(RequestError) as error:
        parse_gpus(text, FOUR)
    assert said in str(error.value)


def test_where_a_batch_system_narrowed_what_is_seen_workers_get_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    about = SimpleNamespace(uuid="12", name="Model", total_memory=2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda number: about)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-77")
    assert [(each.visible, each.memory_mib) for each in seen_gpus()] == [("5", 1024.0), ("GPU-77", 1024.0)]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [each.visible for each in seen_gpus()] == ["0", "1"]


# --- placing ----------------------------------------------------------------------------------------------------------

CARDS = st.lists(st.floats(2_000, 80_000), min_size=1, max_size=5)


@settings(max_examples=150, deadline=None)
@given(CARDS, st.integers(1, 40), st.none() | st.floats(10, 1_400), st.lists(st.integers(0, 3), max_size=120))
def test_no_gpu_is_over_committed_and_none_idles_while_jobs_wait(
    cards: list[float], slots: int, need_mib: float | None, acts: list[int]
) -> None:
    """Any order of begins (three of four) and ends: the rules hold after each."""
    known = [gpu(number, memory_mib) for number, memory_mib in enumerate(cards)]
    places, placed = Places(known, slots, need_mib), dict[str, Gpu]()
    at_once = min(slots, places_on(known, need_mib)) if need_mib is not None else slots
    for number, act in enumerate(acts):
        if act:
            assert places.room == (len(placed) < at_once)  # room until the last place, and none beyond
            if places.room:
                placed[str(number)] = places.place(str(number))
        elif placed:
            ended = list(placed)[number % len(placed)]
            del placed[ended]
            places.free(ended)
            assert places.room  # an end always makes room for who waits
        count = Counter(placed.values())
        for each in known:
            if need_mib is not None:
                assert count[each] * (need_mib + CONTEXT_MIB) <= each.memory_mib
            else:
                assert count[each] <= -(-slots // len(known))
    for job_id in placed:
        places.free(job_id)
    again = Places(known, slots, need_mib)
    assert [places.place(str(i)) for i in range(at_once)] == [again.place(str(i)) for i in range(at_once)]


@given(st.integers(1, 6), st.integers(1, 30))
def test_jobs_are_spread_evenly(cards: int, jobs: int) -> None:
    places = Places([gpu(number) for number in range(cards)], jobs)
    count = Counter(places.place(str(job)) for job in range(jobs))
    assert max(count.values()) - min(count[gpu(number)] for number in range(cards)) <= 1


def test_a_job_gets_another_gpu_than_the_one_it_crashed_on_if_there_is_room() -> None:
    places = Places(FOUR[:2], 2)
    assert places.place("crashed") == FOUR[0]
    places.free("crashed")
    assert places.place("crashed", avoid=(FOUR[0],)) == FOUR[1]
    places.free("crashed")
    places.place("other", avoid=(FOUR[0],))
    assert places.place("crashed", avoid=(FOUR[1],)) == FOUR[0]
    with pytest.raises(ValueError, match="no place for third: 2 jobs are placed"):
        places.place("third")


def test_a_gpu_too_small_for_one_job_is_refused() -> None:
    with pytest.raises(RequestError, match=r"GPU 1 \(Model\) has 4000 MiB, of which a job can have 3488; declare less"):
        LocalExecutor(Resources(2, "cuda", 1, gpus=(gpu(0), gpu(1, 4_000)), gpu_memory_mib=3_600))


# --- the command line -------------------------------------------------------------------------------------------------


def how(executor: str = "local", jobs: int | None = None, **more: Any) -> running.How:
    limits = running.Limits(gpu_memory_mib=more.pop("gpu_memory_mib", None))
    return running.How(Engine("cuda"), Path("runs"), Path("data"), executor, jobs, limits, **more)


def test_jobs_at_once_are_one_a_gpu_unless_memory_or_a_number_is_given() -> None:
    assert how(gpus=FOUR).slots == 4
    assert how(gpus=FOUR, gpu_memory_mib=11_000.0).slots == 8
    assert how(gpus=FOUR, gpu_memory_mib=11_000.0, jobs=3).slots == 3
    assert how(gpus=FOUR, gpu_memory_mib=11_000.0, jobs=30).slots == 8
    assert how(gpus=FOUR, jobs=10).slots == 10


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"executor": "ray", "gpus": FOUR}, "the executor 'ray' chooses devices itself"),
        ({"gpu_memory_mib": 100.0}, "give both, or neither"),
        ({"gpus": FOUR, "gpu_memory_mib": 24_000.0}, "a job can have 23488"),
    ],
)
def test_what_can_not_be_placed_is_refused_before_anything_starts(asked: dict[str, Any], said: str) -> None:
    pytest.importorskip("ray", reason="the Ray executor needs the extra `ray`")
    with pytest.raises(RequestError, match=said):
        how(**asked).check()


def test_gpus_and_another_device_exclude_each_other() -> None:
    with pytest.raises(RequestError, match="--gpus '0' means --device cuda, but --device 'cpu' was given"):
        running.gpus_of("0", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
def test_without_a_gpu_the_command_line_says_so(tmp_path: Path) -> None:
    done = avbench("run", "--method", "random", "--dataset", "x", "--ipc", "1", "--gpus", "0,1", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "avbench: --gpus '0,1': torch sees no GPU here; use --device cpu, or look at the driver.\n"


# --- real workers -----------------------------------------------------------------------------------------------------

TELLS = """
    import json, os, pathlib, sys, time
    folder = pathlib.Path(sys.argv[-1])
    names = ("CUDA_VISIBLE_DEVICES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    (folder / "environment.json").write_text(json.dumps({name: os.environ.get(name) for name in names}))
    while not (folder / "end").exists():
        time.sleep(0.02)
"""


def told(folder: Path) -> dict[str, str | None]:
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline
        if (folder / "environment.json").is_file() and (text := (folder / "environment.json").read_text("utf-8")):
            found: dict[str, str | None] = json.loads(text)
            return found
        time.sleep(0.02)


@pytest.fixture
def telling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that tells its environment instead of working: a real process, started as a worker is."""
    script = tmp_path / "telling.py"
    script.write_text(textwrap.dedent(TELLS), encoding="utf-8")
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(program))


def test_each_worker_sees_its_gpu_alone_and_the_memory_it_declared(
    telling: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_ALLOC_CONF", "expandable_segments:True")
    two = (gpu(0, 8_192, visible="GPU-far"), gpu(1, 16_384, visible="7"))
    folders = {f"job{number}": tmp_path / f"job{number}" for number in range(4)}
    executor = LocalExecutor(Resources(9, "cuda", 1, gpus=two, gpu_memory_mib=4_096))
    try:
        for job_id, folder in folders.items():
            folder.mkdir()
            assert executor.has_room()
            executor.start(job_id, folder)
        assert not executor.has_room()  # 8 GiB hold one such job and what CUDA takes, 16 GiB three
        found = [told(folder) for folder in folders.values()]
        assert Counter(each["CUDA_VISIBLE_DEVICES"] for each in found) == {"GPU-far": 1, "7": 3}
        for each in found:
            part = 0.5 if each["CUDA_VISIBLE_DEVICES"] == "GPU-far" else 0.25
            expected = f"expandable_segments:True,per_process_memory_fraction:{part:.6f}"
            assert each["PYTORCH_ALLOC_CONF"] == expected
        (folders["job0"] / "end").touch()
        while not (ended := executor.ended()):
            time.sleep(0.02)
        assert ended[0].job_id == "job0" and executor.has_room()
        again = tmp_path / "again"
        again.mkdir()
        executor.start("again", again)
        assert told(again)["CUDA_VISIBLE_DEVICES"] == found[0]["CUDA_VISIBLE_DEVICES"]  # the place that was freed
    finally:
        executor.stop()
    assert executor.has_room()


def test_torch_knows_the_limit_that_a_worker_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    given = Places(FOUR, 4, 6_000).environment(FOUR[0])["PYTORCH_ALLOC_CONF"]
    torch._C._accelerator_setAllocatorSettings(given)  # what it reads from the environment where there is a GPU
    torch._C._accelerator_setAllocatorSettings("per_process_memory_fraction:1.0")
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    found = Places(FOUR, 4, 6_000).environment(FOUR[0])
    assert found["PYTORCH_CUDA_ALLOC_CONF"] == "max_split_size_mb:512,per_process_memory_fraction:0.250000"
    assert "PYTORCH_ALLOC_CONF" not in found


def test_without_gpus_a_worker_gets_what_there_is(
    telling: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    executor = LocalExecutor(Resources(1, "cuda", 1))
    (tmp_path / "job").mkdir()
    executor.start("job", tmp_path / "job")
    try:
        found = told(tmp_path / "job")
    finally:
        executor.stop()
    assert found == {"CUDA_VISIBLE_DEVICES": "3", "PYTORCH_ALLOC_CONF": None, "PYTORCH_CUDA_ALLOC_CONF": None}
