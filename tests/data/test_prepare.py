"""Preparing: an embedded dataset's name is its own, and nobody's store is replaced in silence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Small

from avbench.data.prepare import current, ensure, prepare
from avbench.errors import RequestError, StoreError


def silent(done: int, total: int, what: str) -> None:
    """No progress."""


def test_an_embedded_dataset_s_name_is_refused_to_others(tmp_path: Path) -> None:
    (tmp_path / "mine.npz").touch()
    with pytest.raises(RequestError, match="--name avdigits: this is the name of an embedded dataset, not of 'arrays'"):
        prepare("arrays", {}, tmp_path / "mine.npz", "avdigits", tmp_path / "data", silent)
    assert not (tmp_path / "data").exists()


@pytest.fixture
def taken(small: Small, tmp_path: Path) -> Iterator[Path]:
    """A data folder in which somebody's store has the name ``avdigits``, as older versions let it happen."""
    shutil.copytree(small.data / "small1", tmp_path / "avdigits")
    info = json.loads((tmp_path / "avdigits" / "store.json").read_text(encoding="utf-8"))
    info["name"] = "avdigits"
    (tmp_path / "avdigits" / "store.json").write_text(json.dumps(info), encoding="utf-8")
    yield tmp_path


def test_a_store_of_another_dataset_is_never_replaced(taken: Path) -> None:
    before = {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match="was made by 'small'"):
        ensure("avdigits", taken, silent)
    assert {path: path.read_bytes() for path in taken.rglob("*") if path.is_file()} == before


def test_an_absent_embedded_dataset_is_not_current_and_a_prepared_one_is(tmp_path: Path, avdigits_data: Path) -> None:
    assert current("avdigits", tmp_path) is None
    info = current("avdigits", avdigits_data)
    assert info is not None and info.name == "avdigits"
