"""Putting a folder in place: at no moment is there none, and what killed processes leave is cleared away."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import avbench.data.placing as placing
from avbench.data.placing import building_folder, put_in_place, remove_leftovers, reserve
from avbench.data.store import open_store
from avbench.testing.stores import PLAIN, write_store


def built(target: Path, text: str) -> Path:
    folder = building_folder(target)
    (folder / "file").write_text(text, encoding="utf-8")
    return folder


def without_exchange(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_exchange", lambda one, other: False)


@pytest.mark.parametrize("exchanges", [True, False])
def test_the_new_one_takes_the_place_of_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    if not exchanges:
        without_exchange(monkeypatch)
    for text in ("first", "second"):
        put_in_place(built(tmp_path / "store", text), tmp_path / "store")
        assert (tmp_path / "store" / "file").read_text(encoding="utf-8") == text
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_fails_to_be_placed_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_exchange(monkeypatch)
    put_in_place(built(tmp_path / "store", "first"), tmp_path / "store")
    folder, rename = built(tmp_path / "store", "second"), Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path == folder and not target.exists():
            raise OSError(errno.EIO, "the disk is broken")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OSError, match="the disk is broken"):
        put_in_place(folder, tmp_path / "store")
    assert (tmp_path / "store" / "file").read_text(encoding="utf-8") == "first"


KILLED = """
import os, signal
from pathlib import Path
import avbench.data.placing as placing
target = Path({target!r})
folder = placing.building_folder(target)
(folder / "file").write_text("second")
placing._exchange = lambda one, other: False
rename = Path.rename
def killed(path, to):
    if path == folder and not to.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(path, to)
Path.rename = killed
placing.put_in_place(folder, target)
"""


def test_one_killed_between_two_renames_is_made_good_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "store"
    put_in_place(built(target, "first"), target)
    done = subprocess.run([sys.executable, "-c", KILLED.format(target=str(target))], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists() and len(list(tmp_path.iterdir())) == 2
    remove_leftovers(target)
    assert (target / "file").read_text(encoding="utf-8") == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_a_living_process_builds_is_left_alone(tmp_path: Path) -> None:
    folder = building_folder(tmp_path / "store")
    remove_leftovers(tmp_path / "store")
    assert folder.is_dir()


def test_room_is_kept_or_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    reserve(path, 4096)
    assert path.stat().st_size == 4096
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            reserve(path, 2 << 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_store_without_room_is_refused_in_words_and_leaves_nothing(tmp_path: Path) -> None:
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))\n"
    program += "from pathlib import Path; from avbench.testing.stores import write_store\n"
    program += "from avbench.errors import RequestError\n"
    program += "try: write_store(Path(sys.argv[1]), 'plain')\nexcept RequestError as error: sys.exit(str(error))"
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "the store 'plain' needs" in done.stderr and "make room and run the same command again" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_writer_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    from avbench.data.store_writer import StoreWriter
    from avbench.testing.stores import describe

    writer = StoreWriter(tmp_path, describe(PLAIN))
    assert len(list(tmp_path.iterdir())) == 1
    del writer
    assert not list(tmp_path.iterdir())


def test_a_child_does_not_take_away_what_its_parent_is_building(tmp_path: Path) -> None:
    from avbench.data.store_writer import StoreWriter
    from avbench.testing.stores import describe

    writer = StoreWriter(tmp_path, describe(PLAIN))
    child = os.fork()
    if not child:
        writer.discard()
        os._exit(0)
    os.waitpid(child, 0)
    assert writer.folder.is_dir()
    writer.discard()
    assert open_store(write_store(tmp_path, PLAIN).folder.parent, PLAIN).info.name == PLAIN
