"""Files of tensors: whoever writes them, half a file never stands under the file's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from avbench import tensor_files
from avbench.api import LearnedSet
from avbench.checkpoint import save_checkpoint
from avbench.results import RunDirectory
from avbench.tasks.prerequisites import keep_tensors
from avbench.tensor_files import save_tensors_atomically
from avbench.weights import GivenWeights, keep_weights

Writes = Callable[[Path, float, Any], Path]


def a_set(folder: Path, value: float, small: Any) -> Path:
    info = small.stores[1].info
    items = {name: torch.full((4, *info.shape(name)), value) for name in "av"}
    LearnedSet(info, "av", torch.arange(4), items).save(folder)
    return folder / "distilled.safetensors"


def a_checkpoint(folder: Path, value: float, small: Any) -> Path:
    save_checkpoint(folder / "checkpoint.safetensors", 1, {"x": torch.full((100,), value)})
    return folder / "checkpoint.safetensors"


def a_prerequisite(folder: Path, value: float, small: Any) -> Path:
    keep_tensors(folder, {"x": torch.full((100,), value)})
    return folder / "tensors.safetensors"


def weights(folder: Path, value: float, small: Any) -> Path:
    (folder / "theirs").write_bytes(b"")
    given = GivenWeights(folder / "theirs", {"a.x": torch.ones(100)})  # the name is a hash of the content
    keep_weights(given, RunDirectory(folder))
    return folder / "weights" / f"{given.key}.safetensors"


@pytest.mark.parametrize("write", [a_set, a_checkpoint, a_prerequisite])
def test_whoever_reads_a_file_that_is_written_again_goes_on_reading_the_old_one(
    write: Writes, small: Any, tmp_path: Path
) -> None:
    path = write(tmp_path, 1.0, small)
    with safe_open(path, framework="pt") as reading:
        name = next(iter(reading.keys()))
        write(tmp_path, 2.0, small)
        assert reading.get_tensor(name).unique().tolist() == [1.0]
    assert load_file(path)[name].unique().tolist() == [2.0]


@pytest.mark.parametrize("write", [a_set, a_checkpoint, a_prerequisite, weights])
def test_a_disk_that_is_full_leaves_the_old_file_and_no_half_one(
    write: Writes, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, 1.0, small)
    whole = path.read_bytes()
    if write is weights:
        path.unlink()  # what is there already is not written again

    def torn(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
        save_file(dict(tensors), path)
        path.write_bytes(path.read_bytes()[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensor_files, "save_file", torn)
    with pytest.raises(Exception, match="No space left"):
        write(tmp_path, 2.0, small)
    assert not path.exists() if write is weights else path.read_bytes() == whole
    assert not [each for each in tmp_path.rglob("*") if each.name.startswith(".")]


def test_tensors_that_share_memory_or_are_strided_are_written_each(tmp_path: Path) -> None:
    x = torch.arange(6.0).view(2, 3).requires_grad_()
    found = {"whole": x, "again": x, "part": x[1], "turned": x.t(), "none": x[:0], "none too": x[:0]}
    save_tensors_atomically(tmp_path / "deep" / "x", found, {"format": "1"})
    read = load_file(tmp_path / "deep" / "x")
    assert {name: tensor.tolist() for name, tensor in read.items()} == {k: t.tolist() for k, t in found.items()}
    with safe_open(tmp_path / "deep" / "x", framework="pt") as file:
        assert file.metadata() == {"format": "1"}
