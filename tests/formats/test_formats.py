"""Foreign layouts: read as they are, held to the dataset, never executed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from avbench.api import RequestError, StoreInfo
from avbench.formats import Reading, read_sets

CLASSES = 4


@pytest.fixture
def info(small: Any) -> StoreInfo:
    found: StoreInfo = small.stores[3].info
    return found


def arrays(ipc: int = 2, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    count = CLASSES * ipc
    return {
        "audio": rng.normal(size=(count, 1, 16, 24)).astype(np.float32),
        "frames": rng.normal(size=(count, 3, 16, 16)).astype(np.float32),
        "labels": np.repeat(np.arange(CLASSES), ipc),
    }


def plain(folder: Path, kind: str, **changed: Any) -> Path:
    found = {name: value for name, value in (arrays() | changed).items() if value is not None}
    path = folder / f"set.{kind}"
    if kind == "npz":
        np.savez(path, **found)
    else:
        save_file({name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in found.items()}, path)
    return path


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_plain_arrays_come_out_as_they_went_in(tmp_path: Path, info: StoreInfo, kind: str) -> None:
    (found,) = read_sets(plain(tmp_path, kind), info, Reading(seed=3))
    assert found.seed == 3
    assert found.set.modality == "av"
    assert found.set.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for name, key in (("a", "audio"), ("v", "frames")):
        assert np.array_equal(found.set.items[name].numpy(), arrays()[key])


@pytest.mark.parametrize(("scale", "dtype"), [(1, np.float32), (255, np.float32), (255, np.uint8)])
def test_pixels_are_told_by_their_range_and_normalised(
    tmp_path: Path, info: StoreInfo, scale: int, dtype: type[np.generic]
) -> None:
    pixels = (np.random.default_rng(0).random((8, 3, 16, 16)) * scale).astype(dtype)
    pixels[0, 0, 0, 0] = scale
    (found,) = read_sets(plain(tmp_path, "npz", frames=pixels), info, Reading())
    mean, std = (np.array(values).reshape(1, 3, 1, 1) for values in (info.frame_mean, info.frame_std))
    expected = (pixels.astype(np.float64) / scale - mean) / std
    assert np.allclose(found.set.items["v"].numpy(), expected, atol=1e-5)
    assert f"pixels from 0 to {scale}" in found.set.notes[0]
    (as_is,) = read_sets(plain(tmp_path, "npz", frames=pixels), info, Reading(frames="network"))
    assert np.array_equal(as_is.set.items["v"].numpy(), pixels.astype(np.float32))


def test_raw_decibels_are_normalised_where_asked(tmp_path: Path, info: StoreInfo) -> None:
    (found,) = read_sets(plain(tmp_path, "npz"), info, Reading(audio="raw"))
    expected = (arrays()["audio"] - info.audio_mean) / info.audio_std
    assert np.allclose(found.set.items["a"].numpy(), expected, atol=1e-5)


def joint(folder: Path, experiments: int = 2, iterations: tuple[int, ...] = (100, 5000)) -> Path:
    """The authors' joint layout; values tell experiment and iteration."""
    folder.mkdir()
    for e in range(experiments):
        for it in iterations:
            found = arrays(ipc=1, seed=e * 10 + it)
            torch.save(torch.from_numpy(found["audio"]), folder / f"exp_{e}_audSyn_{it}.pt")
            torch.save(torch.from_numpy(found["frames"]), folder / f"exp_{e}_imgSyn_{it}.pth")
    return folder


def test_the_authors_joint_files_are_the_last_iteration_of_each_experiment(tmp_path: Path, info: StoreInfo) -> None:
    path = joint(tmp_path / "ave_ipc1")
    found = read_sets(path, info, Reading())
    assert [each.seed for each in found] == [0, 1]
    for e, each in enumerate(found):
        assert each.set.factor == 2
        assert each.set.labels.tolist() == [0, 1, 2, 3]
        assert np.array_equal(each.set.items["a"].numpy(), arrays(1, e * 10 + 5000)["audio"])
    early = read_sets(path, info, Reading(iteration=100, factor=1))[0].set
    assert np.array_equal(early.items["v"].numpy(), arrays(1, 100)["frames"]) and early.factor == 1
    with pytest.raises(RequestError, match="no iteration 7 was kept; there are 100, 5000"):
        read_sets(path, info, Reading(iteration=7))


def class_wise(folder: Path, frames: Any = None) -> Path:
    folder.mkdir()
    whole = arrays(ipc=2)
    frames = whole["frames"] if frames is None else frames
    for c in range(CLASSES):
        rows = slice(2 * c, 2 * c + 2)
        content = {
            "audio_syn": {0: torch.zeros(2, 1, 16, 24), 5000: torch.from_numpy(whole["audio"][rows])},
            "image_syn": {5000: torch.from_numpy(frames[rows])},
        }
        torch.save(dict.fromkeys(range(3), content), folder / f"class:{c}.pt")
    return folder


def test_the_authors_class_wise_files_are_joined_in_the_order_of_classes(tmp_path: Path, info: StoreInfo) -> None:
    found = read_sets(class_wise(tmp_path / "set"), info, Reading())
    assert len(found) == 3
    assert np.array_equal(found[0].set.items["a"].numpy(), arrays()["audio"])
    assert found[0].set.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_denormalised_frames_are_told_and_left_as_the_authors_evaluation_has_them(
    tmp_path: Path, info: StoreInfo
) -> None:
    pixels = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32)
    path = class_wise(tmp_path / "set", pixels)
    found = read_sets(path, info, Reading())[0].set
    assert np.array_equal(found.items["v"].numpy(), pixels)
    assert "saved after the normalisation was undone" in found.notes[0]
    normalised, told = read_sets(path, info, Reading(audio="raw"))[0].set.notes
    assert "raw dB" in normalised and told == found.notes[0]
    other = read_sets(path, info, Reading(frames="pixels"))[0].set
    assert not np.array_equal(other.items["v"].numpy(), pixels)


class Malicious:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("layout", ["joint", "class-wise", "npz"])
def test_an_untrusted_file_runs_no_code(tmp_path: Path, info: StoreInfo, layout: str) -> None:
    place, folder = tmp_path / "executed", tmp_path / "set"
    folder.mkdir()
    if layout == "joint":
        torch.save(Malicious(place), folder / "exp_0_audSyn_1.pt")
    elif layout == "class-wise":
        for c in range(CLASSES):
            torch.save({0: Malicious(place)}, folder / f"class:{c}.pt")
    else:
        folder = folder / "set.npz"
        np.savez(folder, labels=np.array([Malicious(place)], dtype=object))
    with pytest.raises(RequestError):
        read_sets(folder, info, Reading())
    assert not place.exists()


BAD = {
    "of other classes": ({"labels": np.repeat(np.arange(8), 1)}, "labels are from 0 to 7, small3 has classes 0 to 3"),
    "with negative labels": ({"labels": np.arange(8) - 1}, "labels are from -1 to 6"),
    "of another size": (
        {"frames": np.zeros((8, 3, 8, 8), np.float32)},
        r"\(8, 3, 8, 8\), small3 needs \(8, 3, 16, 16\)",
    ),
    "with NaN": (
        {"audio": np.full((8, 1, 16, 24), np.nan, np.float32)},
        "'audio'|'a' holds values that are not finite",
    ),
    "uneven": ({"labels": np.array([0, 0, 0, 1, 1, 2, 2, 3])}, "classes have 1 to 3 items"),
    "without labels": ({"labels": None}, "no array 'labels'; found audio, frames"),
    "empty": ({"audio": None, "frames": None}, "neither audio nor frames"),
    "with soft labels": ({"labels": np.full((8, 4), 0.25)}, "soft labels are not read"),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_set_that_does_not_fit_is_refused_in_words(tmp_path: Path, info: StoreInfo, case: str, kind: str) -> None:
    changed, words = BAD[case]
    with pytest.raises(RequestError, match=words):
        read_sets(plain(tmp_path, kind, **changed), info, Reading())


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 300, 3000])
def test_a_truncated_file_is_refused(tmp_path: Path, info: StoreInfo, kind: str, keep: int) -> None:
    path = plain(tmp_path, kind)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(RequestError, match="can't be read"):
        read_sets(path, info, Reading())


def test_what_is_incomplete_is_refused(tmp_path: Path, info: StoreInfo) -> None:
    path = class_wise(tmp_path / "set")
    (path / "class:2.pt").unlink()
    with pytest.raises(RequestError, match="files of 3 classes, small3 has 4; missing: 2"):
        read_sets(path, info, Reading())
    torn = joint(tmp_path / "torn")
    whole = (torn / "exp_0_audSyn_5000.pt").read_bytes()
    (torn / "exp_0_audSyn_5000.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RequestError, match="can't be read"):
        read_sets(torn, info, Reading())


def test_a_factor_that_does_not_fit_and_an_unknown_layout_are_refused(tmp_path: Path, info: StoreInfo) -> None:
    with pytest.raises(RequestError):
        read_sets(plain(tmp_path, "npz"), info, Reading(factor=99))
    with pytest.raises(RequestError, match="in no layout that avbench reads"):
        read_sets(tmp_path, info, Reading())
    with pytest.raises(RequestError, match="no such file"):
        read_sets(tmp_path / "absent.npz", info, Reading())
    with pytest.raises(RequestError, match="did you mean 'npz'"):
        read_sets(plain(tmp_path, "npz"), info, Reading(), "nzp")
