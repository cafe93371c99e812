"""The files of a release: read without running them or holding them in memory; what is no such file is refused."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from releases import FRAME, LABELS, TEST_LABELS, prepare, samples, save, split_file, write_release

from avbench.api import RequestError
from avbench_datasets import _memory


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_release(tmp_path / "release")


class Harmful:
    """Would make a folder if it were unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(release: Path, tmp_path: Path, zipped: bool) -> None:
    values = {**split_file("train", LABELS), "more": Harmful(tmp_path / "harm")}
    save(release / "train_data/ave_train.pt", values, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RequestError, match=r"holds posix\.mkdir, and only tensors are ever read"):
        prepare(release)
    (release / "train_data/ave_train.pt").write_bytes(pickle.dumps(Harmful(tmp_path / "harm")))
    with pytest.raises(RequestError, match=r"ave_train\.pt"):
        prepare(release)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep_share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(release: Path, keep_share: float, zipped: bool) -> None:
    path = save(release / "train_data/ave_train.pt", split_file("train", LABELS), _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep_share * len(whole))])
    with pytest.raises(RequestError, match=r"ave_train\.pt.*fetch the file again"):
        prepare(release)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404</html>", "a web page"),
        (b"nothing of torch's", "fetch the file again"),
    ],
)
def test_a_download_that_is_not_the_file_is_named(release: Path, content: bytes, words: str) -> None:
    (release / "train_data/ave_train.pt").write_bytes(content)
    with pytest.raises(RequestError, match=words):
        prepare(release)


def test_a_compressed_archive_is_refused_rather_than_taken_for_numbers(release: Path) -> None:
    path = release / "train_data/ave_train.pt"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(RequestError, match="compressed archive"):
        prepare(release)


def test_torch_s_old_format_is_read_whole_with_its_memory_said_first(
    release: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = prepare(release)
    path = release / "train_data/ave_train.pt"
    save(path, split_file("train", LABELS), _use_new_zipfile_serialization=False)
    said: list[str] = [""]
    old = prepare(release, said)
    assert old.info.fingerprint == new.info.fingerprint
    assert any("old format: reading it whole takes 0.0 GB of memory" in text for text in said)
    assert any("torch's old format" in note for note in old.info.notes)
    monkeypatch.setattr(_memory, "available_bytes", lambda: 1000)
    with pytest.raises(RequestError, match="write it anew on a larger machine"):
        prepare(release)


def test_a_file_larger_than_memory_is_mapped_shared(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux maps no file privately that is larger than memory, and private maps are what torch makes."""
    plain, load, shared_only = prepare(release), torch.UntypedStorage.from_file, []

    def refusing(path: str, shared: bool, size: int) -> Any:
        if not shared:
            raise RuntimeError(f"unable to mmap {size} bytes from file <{path}>: Cannot allocate memory (12)")
        shared_only.append(path)
        return load(path, shared, size)

    before = (release / "train_data/ave_train.pt").read_bytes()
    monkeypatch.setattr(torch.UntypedStorage, "from_file", refusing)
    assert prepare(release).info.fingerprint == plain.info.fingerprint and shared_only
    assert (release / "train_data/ave_train.pt").read_bytes() == before
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RequestError, match=r"ave_train\.pt: is read-only; let it be written to"):
        prepare(release)


MEASURE = """
import sys, threading, time
from pathlib import Path
from avbench.api import PrepareContext
from avbench.executors.memory import anonymous_mib
from avbench_datasets._release import Release, release_store
import torch, os
peak = [0.0]
def watch():
    while True:
        peak[0] = max(peak[0], anonymous_mib(os.getpid()))
        time.sleep(0.002)
before = anonymous_mib(os.getpid())
threading.Thread(target=watch, daemon=True).start()
source = Path(sys.argv[1])
context = PrepareContext(source / "data", "mine", source, lambda *told: None)
release_store(context, Release("ave", 1, "ave", "", ""))
print(peak[0] - before)
"""


def test_memory_stays_far_below_the_size_of_the_file(tmp_path: Path) -> None:
    """320 float frames are 184 MiB; what is held of them at once is one."""
    _, audio = samples(320)
    images, labels = torch.full((320, *FRAME), 7.0), torch.arange(320) % 3
    values = {"images_train": images, "audio_train": audio / 4, "labels_train": labels}
    path = save(tmp_path / "train_data/ave_train.pt", values)
    save(tmp_path / "test_data/ave_test.pt", split_file("test", TEST_LABELS))
    assert path.stat().st_size > 190 * 2**20
    done = subprocess.run([sys.executable, "-c", MEASURE, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 60.0
