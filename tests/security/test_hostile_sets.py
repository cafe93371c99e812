"""Distilled sets of others: safetensors, ``.npz``, ``.pt`` and descriptions; nothing but sets or refusals comes out."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hostile import (
    FUZZED,
    JSON,
    MIB,
    claim_size,
    damaged,
    memory_below,
    npy_bytes,
    npz_file,
    places,
    safetensors_bytes,
    vary,
    with_junk,
)
from hypothesis import strategies as st

import avbench
from avbench.data.store import StoreInfo
from avbench.distilled import LearnedSet
from avbench.errors import AvbenchError, RequestError
from avbench.formats.authors import AuthorsClassWise, AuthorsJoint, load_restricted
from avbench.formats.base import Reading
from avbench.formats.export import export_set
from avbench.formats.plain import Npz, Safetensors
from avbench_datasets._npz import read_clips

HUGE = 1 << 60


@pytest.fixture(scope="module")
def info(small: Any) -> StoreInfo:
    found: StoreInfo = small.stores[1].info
    return found


@pytest.fixture
def folder(info: StoreInfo, tmp_path: Path) -> Path:
    items = {"a": torch.zeros(4, 1, 16, 24), "v": torch.zeros(4, 1, 16, 16)}
    LearnedSet(info, "av", torch.arange(4), items).save(tmp_path / "set")
    return tmp_path / "set"


def refused_or_read(read: Callable[[], object]) -> None:
    try:
        read()
    except AvbenchError as error:
        assert str(error)


# --- safetensors --------------------------------------------------------------------------------------------------


def tensor(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


HEADERS: dict[str, bytes] = {
    "a header of exabytes": safetensors_bytes({}, length=HUGE),
    "a header of 99 MB that is not there": safetensors_bytes({}, length=99_000_000),
    "overlapping tensors": safetensors_bytes({"a": tensor(), "labels": tensor(offsets=(2, 6))}, bytes(6)),
    "offsets beyond the file": safetensors_bytes({"a": tensor(offsets=(0, HUGE), shape=(HUGE // 4,))}, bytes(4)),
    "offsets backwards": safetensors_bytes({"a": tensor(offsets=(4, 0))}, bytes(4)),
    "a shape that overflows": safetensors_bytes({"a": tensor(shape=(1 << 40, 1 << 40))}, bytes(4)),
    "a negative shape": safetensors_bytes({"a": tensor(shape=(-1,))}, bytes(4)),
    "an unknown dtype": safetensors_bytes({"a": tensor("F7")}, bytes(4)),
    "a dtype that torch lacks": safetensors_bytes({"a": tensor("F4", (8,))}, bytes(4)),
    "a dtype of another size": safetensors_bytes({"a": tensor("F64")}, bytes(4)),
    "deep JSON": safetensors_bytes(b"[" * 100_000),
    "no JSON": safetensors_bytes(b"\xff" * 64),
    "a list": safetensors_bytes([]),
    "nothing": b"",
    "eight bytes": bytes(8),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_hostile_headers_are_refused_and_take_no_memory(content: bytes, info: StoreInfo, folder: Path) -> None:
    plain = folder.parent / "set.safetensors"
    for path, read in (
        (plain, lambda: Safetensors().read(plain, info, Reading())),
        (folder / "distilled.safetensors", lambda: avbench.load(folder)),
    ):
        path.write_bytes(content)
        with pytest.raises(RequestError), memory_below(MIB * 16):
            read()


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "BF16", "F16", "BOOL", "I8", "U8", "U16", "U64", "C64"])
def test_labels_and_items_of_any_dtype_are_read_or_refused(dtype: str, info: StoreInfo, folder: Path) -> None:
    size = {"F8_E4M3": 1, "F8_E5M2": 1, "BOOL": 1, "I8": 1, "U8": 1, "U64": 8, "C64": 8}.get(dtype, 2)
    ends = [0, 4 * size, 4 * size * (1 + 384), 4 * size * (1 + 384 + 256)]
    shapes = {"labels": (4,), "a": (4, 1, 16, 24), "v": (4, 1, 16, 16)}
    header = {name: tensor(dtype, shape, ends[i : i + 2]) for i, (name, shape) in enumerate(shapes.items())}
    content = safetensors_bytes(header, bytes(ends[-1]))
    plain = folder.parent / "set.safetensors"
    plain.write_bytes(content)
    (folder / "distilled.safetensors").write_bytes(content)
    with pytest.raises(RequestError):  # of another content, and its labels are all 0
        Safetensors().read(plain, info, Reading())
    with pytest.raises(RequestError):
        avbench.load(folder)


@FUZZED
def test_damaged_tensors_are_refused(depth: int, folder: Path) -> None:
    path = folder / "distilled.safetensors"
    whole = path.read_bytes()

    def body(content: bytes) -> None:
        path.write_bytes(content)
        if content == whole:
            avbench.load(folder)
        else:
            refused_or_read(lambda: avbench.load(folder))

    vary(depth, 60, damaged(whole[:700]).map(lambda head: head + whole[len(head) :]), body)


# --- descriptions -------------------------------------------------------------------------------------------------


@FUZZED
def test_any_description_gives_a_set_or_a_refusal(depth: int, folder: Path) -> None:
    path = folder / "distilled.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    ways = st.sampled_from(places(about))

    def body(found: tuple[tuple[Any, ...], Any]) -> None:
        path.write_text(json.dumps(with_junk(about, *found)), encoding="utf-8")
        refused_or_read(lambda: avbench.load(folder).content_hash)

    vary(depth, 150, st.tuples(ways, JSON), body)


@FUZZED
def test_any_description_that_fits_its_hash_is_exported_or_refused(depth: int, folder: Path, tmp_path: Path) -> None:
    """A hash keeps nobody from lying: whoever writes a description writes its hash."""
    path = folder / "distilled.json"
    about = json.loads(path.read_text(encoding="utf-8"))
    ways = st.sampled_from([way for way in places(about) if way[0] in ("dataset_info", "factor", "step_size", "notes")])
    out = tmp_path / "out"

    def body(found: tuple[tuple[Any, ...], Any]) -> None:
        changed = with_junk(about, *found)
        path.write_text(json.dumps(changed), encoding="utf-8")
        try:
            changed["content_hash"] = _honest(folder)
            path.write_text(json.dumps(changed), encoding="utf-8")
            export_set(folder, "folder", out / str(len(list(tmp_path.glob("out/*")))), tmp_path, True)
        except AvbenchError as error:
            assert str(error)

    vary(depth, 40, st.tuples(ways, JSON), body)
    assert {each.name for each in tmp_path.iterdir()} <= {"set", "out"}


def _honest(folder: Path) -> str:
    """The hash that a description would have to name: from the refusal's own arithmetic."""
    from avbench import distilled

    about = json.loads((folder / "distilled.json").read_text(encoding="utf-8"))
    tensors = distilled.load_file(folder / "distilled.safetensors")
    try:
        return distilled._assemble(about, tensors, folder).content_hash
    except (TypeError, ValueError, RuntimeError) as error:
        raise RequestError(str(error)) from None


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "9" * 5000 + "}", "\x00", "null", '{"format": 1}'])
def test_descriptions_that_break_parsers_are_refused(text: str, folder: Path) -> None:
    (folder / "distilled.json").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError):
        avbench.load(folder)


# --- .npz ---------------------------------------------------------------------------------------------------------

ARRAY = npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,), }")
MEMBERS: dict[str, bytes | np.ndarray] = {
    "a shape of exabytes": ARRAY,
    "a shape that overflows": npy_bytes(
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"
    ),
    "a negative shape": npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,), }", bytes(16)),
    "Python objects": npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", pickle.dumps([print])),
    "fields": npy_bytes("{'descr': [('x', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(4)),
    "objects in fields": npy_bytes("{'descr': [('x', '|O')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
    "code": npy_bytes("__import__('os').getcwd()"),
    "deep": npy_bytes("(" * 9000),
    "no literal": npy_bytes("{'descr': "),
    "dates": np.array(["2020-01-01"], dtype="M8[D]"),
    "big-endian": np.zeros(4, ">f4"),
    "complex": np.zeros(4, "c8"),
    "text": np.array(["x"] * 4),
    "no array": b"plain text",
    "nothing": b"",
}


@pytest.mark.parametrize("key", ["labels", "audio", "factor"])
@pytest.mark.parametrize("content", MEMBERS.values(), ids=MEMBERS)
def test_hostile_arrays_are_refused_and_take_no_memory(
    key: str, content: bytes | np.ndarray, info: StoreInfo, tmp_path: Path
) -> None:
    good = {"labels": np.arange(4), "audio": np.zeros((4, 1, 16, 24), "f4")}
    if isinstance(content, np.ndarray) and content.dtype.kind == "U" and key == "factor":
        return  # text is passed over, and a set says its factor only where it is not 1
    path = npz_file(tmp_path / "set.npz", {**good, key: content})
    with pytest.raises(RequestError), memory_below(MIB * 16):
        Npz().read(path, info, Reading())


@pytest.mark.parametrize("content", MEMBERS.values(), ids=MEMBERS)
def test_the_dataset_of_arrays_refuses_them_too(content: bytes | np.ndarray, tmp_path: Path) -> None:
    good = {"audio": np.zeros((4, 800), "f4"), "image": np.zeros((4, 8, 8), "u1"), "label": np.arange(4)}
    path = npz_file(tmp_path / "set.npz", {**good, "split": np.zeros(4, int), "audio": content})
    with pytest.raises(RequestError), memory_below(MIB * 16):
        read_clips(path, 8000)


READERS: list[Callable[[Path, StoreInfo], object]] = [
    lambda path, info: Npz().read(path, info, Reading()),
    lambda path, info: read_clips(path, 8000),
]


@pytest.mark.parametrize("read", READERS, ids=["set", "dataset"])
def test_a_bomb_is_refused_before_it_is_unpacked(
    read: Callable[[Path, StoreInfo], object], info: StoreInfo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = np.zeros(64 * MIB, np.uint8)
    path = npz_file(tmp_path / "bomb.npz", {"labels": bomb, "label": bomb})
    del bomb
    assert path.stat().st_size < MIB
    for where in ("avbench.formats.plain.available_bytes", "avbench_datasets._memory.available_bytes"):
        monkeypatch.setattr(where, lambda: 50 * MIB)
    with memory_below(16 * MIB), pytest.raises(RequestError, match=r"unpacks to 0\.1 GB"):
        read(path, info)
    claim_size(path, 1000)  # a lie in the other direction: no more than was promised is unpacked
    with memory_below(80 * MIB), pytest.raises(RequestError):
        read(path, info)


def test_what_nobody_asked_for_is_not_unpacked(info: StoreInfo, tmp_path: Path) -> None:
    good = {"labels": np.arange(4), "audio": np.zeros((4, 1, 16, 24), "f4")}
    path = npz_file(tmp_path / "set.npz", {**good, "else": np.zeros(64 * MIB, np.uint8)})
    with memory_below(16 * MIB):
        (found,) = Npz().read(path, info, Reading())
    assert found.set.modality == "a"


@FUZZED
def test_a_damaged_npz_is_read_or_refused(depth: int, info: StoreInfo, tmp_path: Path) -> None:
    good = {"labels": np.arange(4), "audio": np.zeros((4, 1, 16, 24), "f4"), "label": np.arange(4)}
    path = npz_file(tmp_path / "set.npz", good)
    whole = path.read_bytes()

    def body(content: bytes) -> None:
        path.write_bytes(content)
        for read in READERS:
            refused_or_read(partial(read, path, info))

    vary(depth, 80, damaged(whole), body)


# --- .pt ----------------------------------------------------------------------------------------------------------


class Runs:
    """Unpickled by anybody but a restricted loader, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_runs_nothing(zipped: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "exp_0_audSyn_1.pt", tmp_path / "trace"
    torch.save(Runs(trace), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(RequestError, match="weights_only=True"):
        load_restricted(path)
    assert not trace.exists()


VALUES: dict[str, Any] = {
    "a number": 3,
    "text": "x",
    "a scalar": torch.tensor(1.0),
    "sparse": torch.zeros(4, 1, 16, 24).to_sparse(),
    "complex": torch.zeros(4, 1, 16, 24, dtype=torch.complex64),
    "endless by its strides": torch.zeros(1).expand(1 << 20, 1 << 20, 16, 24),
    "empty": torch.zeros(0, 1, 16, 24),
    "no dictionary of tensors": {"x": [torch.zeros(1)]},
    "keys of two kinds": {1: torch.zeros(1), "x": 2},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_of_pt_files_that_are_no_sets_are_refused(value: Any, info: StoreInfo, tmp_path: Path) -> None:
    joint, classes = tmp_path / "joint", tmp_path / "classes"
    joint.mkdir()
    classes.mkdir()
    torch.save(value, joint / "exp_0_audSyn_1.pt")
    wrapped = ({0: {"audio_syn": {1: value}}}, {0: {"audio_syn": value}}, {0: value}, value)
    with memory_below(MIB * 16), pytest.raises(RequestError):
        AuthorsJoint().read(joint, info, Reading())
    for each in wrapped:
        for number in range(4):
            torch.save(each, classes / f"class:{number}.pt")
        with memory_below(MIB * 16), pytest.raises(RequestError):
            AuthorsClassWise().read(classes, info, Reading())


@FUZZED
def test_a_damaged_pt_is_refused_or_read(depth: int, info: StoreInfo, tmp_path: Path) -> None:
    path = tmp_path / "exp_0_audSyn_1.pt"
    torch.save(torch.zeros(16, 1, 4, 6), path)
    whole = path.read_bytes()

    def body(content: bytes) -> None:
        path.write_bytes(content)
        refused_or_read(lambda: AuthorsJoint().read(tmp_path, info, Reading()))

    vary(depth, 60, damaged(whole), body)
