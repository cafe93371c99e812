"""Archives and records of others: checked before they are unpacked, and believed only where they hold together."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import FUZZED, JSON, MIB, NAMES, damaged, memory_below, places, vary, with_junk
from hypothesis import strategies as st

from avbench.errors import AvbenchError, RequestError
from avbench.results import Unreadable, read_record
from avbench.verification.archive import unpacked, write_archive
from avbench.verification.integrity import check_integrity
from avbench.verification.submission import Submission

# --- archives -----------------------------------------------------------------------------------------------------


def archive(path: Path, fill: Callable[[tarfile.TarFile], object]) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        fill(opened)
    return path


def member(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_an_extended_header_is_not_read_into_memory(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(member("x", 64 * MIB, kind).tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(MIB))
        file.write(member("x/y").tobuf() + bytes(1024))
    assert path.stat().st_size < MIB
    with memory_below(8 * MIB), pytest.raises(RequestError, match="header of 67108864 bytes"), unpacked(path):
        pass


def test_headers_of_headers_end(tmp_path: Path) -> None:
    path = tmp_path / "chain.tar.gz"
    one = member("x", 512, tarfile.XHDTYPE).tobuf() + b"11 path=a\n\n".ljust(512, b"\0")
    path.write_bytes(gzip.compress(one * 3000))
    with pytest.raises(RequestError, match="can't be read as an archive"), unpacked(path):
        pass


def test_a_negative_size_does_not_go_round_for_ever(tmp_path: Path) -> None:
    path = tmp_path / "back.tar.gz"
    path.write_bytes(gzip.compress(member("x/y", -512).tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(RequestError), unpacked(path):
        pass


def test_an_archive_of_petabytes_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    path = tmp_path / "large.tar.gz"
    path.write_bytes(gzip.compress(member("x/y", 1 << 50).tobuf(tarfile.GNU_FORMAT) + bytes(1024)))
    with pytest.raises(RequestError, match=r"unpacks to more|can't be read"), unpacked(path):
        pass


@FUZZED
def test_any_names_stay_inside_or_are_refused(depth: int, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    path = outside / "made.tar.gz"
    names = st.lists(
        st.sampled_from([*NAMES, "a", "a/b", "a/./b", "a//b", "a/../b", "."]) | st.text(max_size=8), max_size=4
    )

    def body(found: list[str]) -> None:
        try:
            archive(path, lambda opened: [opened.addfile(member(each, 3), io.BytesIO(b"abc")) for each in found])
        except (ValueError, UnicodeError):
            return  # no archive can hold this name
        try:
            with unpacked(path) as root:
                assert all(each.resolve().is_relative_to(root.resolve()) for each in root.rglob("*"))
        except RequestError as error:
            assert "made.tar.gz" in str(error)

    vary(depth, 60, names, body)
    assert [each.name for each in tmp_path.iterdir()] == ["outside"] and len(list(outside.iterdir())) == 1


@FUZZED
def test_a_damaged_archive_is_refused_or_read(depth: int, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "submission.json").write_bytes(os.urandom(3000))
    write_archive(source, tmp_path / "whole.tar.gz", "mine")
    whole, path = (tmp_path / "whole.tar.gz").read_bytes(), tmp_path / "damaged.tar.gz"
    plain = gzip.decompress(whole)

    def body(content: bytes) -> None:
        path.write_bytes(content)
        try:
            with unpacked(path) as root:
                assert root.is_dir()
        except RequestError as error:
            assert "damaged" in str(error)

    vary(depth, 40, damaged(whole), body)
    vary(depth, 60, damaged(plain[:1024]).map(lambda head: gzip.compress(head + plain[len(head) :], 1)), body)


@pytest.mark.parametrize("name", [*NAMES, "Mine", "é", ""])
def test_a_submission_is_never_named_like_a_path(name: str) -> None:
    with pytest.raises(RequestError, match=r"name a folder|this is a device"):
        Submission(name).check()


# --- records ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def copy(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A copy of the small finished run of the tests of verification, which is made once a session."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "verification"))
    from tampering import Copy, finish_run

    folder = tmp_path_factory.mktemp("records")
    return Copy(finish_run(small, folder / "runs"), folder / "copy")


@FUZZED
@pytest.mark.parametrize("pattern", ["distil/*/record.json", "evaluate/*/record.json", "distil/*/distilled.json"])
def test_whatever_a_record_says_it_is_verified_or_found_wrong(pattern: str, depth: int, copy: Any) -> None:
    path = sorted(copy.root.glob(pattern))[0]
    original = path.read_text(encoding="utf-8")
    record = json.loads(original)
    ways = st.sampled_from(places(record))

    def body(found: tuple[tuple[Any, ...], Any]) -> None:
        path.write_text(json.dumps(with_junk(record, *found)), encoding="utf-8")
        try:
            check_integrity(copy.root)
        except AvbenchError as error:
            assert str(error)
        finally:
            path.write_text(original, encoding="utf-8")

    vary(depth, 25, st.tuples(ways, JSON | st.sampled_from([1 << 62, -1, 1e308, [[]], "../../x"])), body)
    assert not check_integrity(copy.root).findings.problems


@pytest.mark.parametrize(
    ("kind", "name", "value", "said"),
    [
        ("distil", "planned_seeds", 1 << 62, r"seeds \[.*\] and \d+ more of 4611686018427387904 planned are missing"),
        ("evaluate", "planned_networks", 1 << 62, "planned were 0 to 4611686018427387903"),
        ("distil", "prerequisites", {"features": [1]}, r"prerequisites\.features is"),
    ],
)
def test_what_a_record_claims_is_not_counted_out_in_memory(
    kind: str, name: str, value: Any, said: str, copy: Any
) -> None:
    path = sorted(copy.root.glob(f"{kind}/*/record.json"))[0]
    original = path.read_text(encoding="utf-8")
    path.write_text(json.dumps({**json.loads(original), name: value}), encoding="utf-8")
    try:
        with memory_below(64 * MIB):
            problems = check_integrity(copy.root).findings.problems
    finally:
        path.write_text(original, encoding="utf-8")
    assert [each for each in problems if re.search(said, each.text)]


@pytest.mark.parametrize(
    ("name", "value"), [("content_hash", []), ("content_hash", None), ("kind", {}), ("kind", 3), ("step_size", 7)]
)
def test_a_set_described_by_values_of_other_types_is_found_wrong(name: str, value: Any, copy: Any) -> None:
    path = sorted(copy.root.glob("distil/*/distilled.json"))[0]
    original = path.read_text(encoding="utf-8")
    path.write_text(json.dumps({**json.loads(original), name: value}), encoding="utf-8")
    try:
        problems = check_integrity(copy.root).findings.problems
    finally:
        path.write_text(original, encoding="utf-8")
    assert [each for each in problems if f"distilled.json can't be read: {name} = " in each.text]


def test_a_record_that_is_a_pipe_or_endless_is_not_waited_for(tmp_path: Path) -> None:
    pipe, large = tmp_path / "pipe", tmp_path / "large"
    os.mkfifo(pipe)
    with large.open("wb") as file:
        file.truncate(1 << 40)
    for path in (pipe, large, Path("/dev/zero"), tmp_path):
        found = read_record(path)
        assert isinstance(found, Unreadable) and "no plain file" in found.reason
