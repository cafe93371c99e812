"""Files that mean harm, made by hand, and how often they are varied."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

MIB = 1 << 20
#: The suite's examples are the same every time; ``pytest -m slow`` draws fifty times as many, anew.
FUZZED = pytest.mark.parametrize(
    "depth", [pytest.param(1, id="suite"), pytest.param(50, id="deep", marks=pytest.mark.slow)]
)
#: Names that mean something in a path, or on some system.
NAMES = (
    "../../x",
    "..",
    "/etc/x",
    "~/x",
    "a/b",
    "a\\b",
    "C:\\x",
    "con",
    "nul.txt",
    ".hidden",
    "x\0y",
    "x\ny",
    "x" * 300,
)


def vary(depth: int, examples: int, strategy: st.SearchStrategy[Any], body: Callable[[Any], None]) -> None:
    """Call ``body`` with so many examples."""
    tried = settings(
        max_examples=depth * examples,
        deadline=None,
        database=None,
        derandomize=depth == 1,
        suppress_health_check=list(HealthCheck),
    )(given(strategy)(body))
    tried()


#: JSON of any shape.
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """Bytes with some changed, and perhaps an end that is gone."""
    found = bytearray(whole)
    for at in draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=24)):
        found[at] = draw(st.integers(0, 255))
    keep = draw(st.sampled_from([len(whole)] * 3 + [len(whole) // 2, len(whole) - 1, 9]))
    return bytes(found[:keep])


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to everything in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, each in inner for found in ((*at, key), *places(each, (*at, key)))]


def with_junk(value: Any, way: tuple[Any, ...], junk: Any) -> Any:
    """A copy of a JSON value with one place changed."""
    found = json.loads(json.dumps(value))
    inner = found
    for key in way[:-1]:
        inner = inner[key]
    inner[way[-1]] = junk
    return found


@contextmanager
def memory_below(limit_bytes: int) -> Iterator[None]:
    """Fail where Python and NumPy take more at any time."""
    tracemalloc.start()
    try:
        yield
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < limit_bytes


# --- formats ------------------------------------------------------------------------------------------------------


def safetensors_bytes(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header, and any claim of the header's length."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    """A ``.npy`` file with any header."""
    text = header.encode("latin-1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npz_file(path: Path, members: Mapping[str, bytes | np.ndarray]) -> Path:
    """A zip archive of arrays, or of bytes that claim to be some."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            if isinstance(content, np.ndarray):
                buffer = io.BytesIO()
                np.save(buffer, content)
                archive.writestr(f"{name}.npy", buffer.getvalue())
            else:
                archive.writestr(f"{name}.npy", content)
    return path


def claim_size(path: Path, size_bytes: int) -> None:
    """Let the directory of a zip archive say that each member unpacks to so many bytes (at most 4 GiB)."""
    found = bytearray(path.read_bytes())
    at = found.find(b"PK\x01\x02")
    while at >= 0:
        found[at + 24 : at + 28] = struct.pack("<I", size_bytes)
        at = found.find(b"PK\x01\x02", at + 4)
    path.write_bytes(found)
