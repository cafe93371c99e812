"""Checkpoints: what goes in comes out; half a file is no checkpoint; nothing is pickled."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from avbench.checkpoint import load_checkpoint, save_checkpoint

scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=8)
keys = st.integers(-5, 5) | st.text(max_size=8)
states = st.dictionaries(
    keys,
    st.recursive(scalars, lambda s: st.lists(s, max_size=3) | st.dictionaries(keys, s, max_size=3), max_leaves=8),
    max_size=4,
)


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def round_trip(path: Path, state: dict[Any, Any], step: int = 3) -> dict[Any, Any]:
    save_checkpoint(path, step, state)
    found = load_checkpoint(path)
    assert found is not None and found[0] == step
    return found[1]


@settings(max_examples=60, deadline=None)
@given(state=states)
def test_nested_scalars_come_back_with_their_types(tmp_path_factory: pytest.TempPathFactory, state: dict) -> None:
    assert_same(round_trip(tmp_path_factory.mktemp("c") / "x", state), state)


@pytest.mark.parametrize(
    "dtype",
    [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int16, torch.uint8, torch.bool],
)
def test_tensors_of_every_kind(tmp_path: Path, dtype: torch.dtype) -> None:
    x = torch.arange(12).view(3, 4).to(dtype)
    state = {"x": x, 1: [x[0], (x.t(), 2.5)], "scalar": x[1, 1], "empty": x[:0]}
    assert_same(round_trip(tmp_path / "x", state), state)


def test_tensors_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    x = torch.arange(6.0)
    found = round_trip(tmp_path / "x", {"whole": x, "part": x[2:4], "again": x})
    found["whole"].zero_()
    assert found["part"].tolist() == [2, 3] and found["again"].tolist() == x.tolist()


def test_numbers_that_are_not_finite_survive(tmp_path: Path) -> None:
    found = round_trip(tmp_path / "x", {"loss": math.nan, "high": math.inf})
    assert math.isnan(found["loss"]) and found["high"] == math.inf


def test_an_empty_state(tmp_path: Path) -> None:
    assert round_trip(tmp_path / "deep" / "er" / "x", {}, step=0) == {}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_an_optimiser_s_state(tmp_path: Path, kind: type) -> None:
    x = torch.ones(3, requires_grad=True)
    optimiser = kind([x], lr=0.1, **({"momentum": 0.5} if kind is torch.optim.SGD else {}))
    x.sum().backward()
    optimiser.step()
    assert_same(round_trip(tmp_path / "x", optimiser.state_dict()), optimiser.state_dict())


@pytest.mark.parametrize(
    "value",
    [np.zeros(2), np.int64(3), {1, 2}, b"bytes", object(), torch.Generator(), random.Random, Path("x"), 1j],
    ids=lambda v: type(v).__name__,
)
def test_what_would_need_pickling_is_refused(tmp_path: Path, value: Any) -> None:
    save_checkpoint(tmp_path / "x", 1, {"kept": 1})
    with pytest.raises(TypeError, match=f"can't hold {type(value).__name__}"):
        save_checkpoint(tmp_path / "x", 2, {"deep": [{"value": value}]})
    assert load_checkpoint(tmp_path / "x") == (1, {"kept": 1}), "the old checkpoint stays"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_the_file_is_safetensors_with_a_json_skeleton(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", 1, {"tensor": torch.ones(2), "n": 3})
    raw = (tmp_path / "x").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    assert json.loads(header["__metadata__"]["skeleton"])["step"] == 1


def test_no_truncated_file_is_a_checkpoint(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", 1, {"tensor": torch.arange(50.0), "n": 3})
    raw = (tmp_path / "x").read_bytes()
    for length in (0, 1, 7, 8, 9, 50, len(raw) // 2, len(raw) - 1):
        (tmp_path / "cut").write_bytes(raw[:length])
        assert load_checkpoint(tmp_path / "cut") is None, length


def test_what_is_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "absent") is None
    assert load_checkpoint(tmp_path) is None
    (tmp_path / "text").write_text("not a checkpoint at all, but long enough to look like a header")
    assert load_checkpoint(tmp_path / "text") is None
    save_file({"x": torch.ones(1)}, tmp_path / "foreign")
    assert load_checkpoint(tmp_path / "foreign") is None


def test_saving_again_replaces(tmp_path: Path) -> None:
    for step in range(3):
        save_checkpoint(tmp_path / "x", step, {"x": torch.full((2,), float(step))})
    step, state = load_checkpoint(tmp_path / "x")
    assert step == 2 and state["x"].tolist() == [2, 2]
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
