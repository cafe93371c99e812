"""A user's own .npz: what is read, how splits and networks are chosen, and how faults are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avbench.data.audio import LogMel, resample
from avbench.data.store import Store, available
from avbench.dataset import PrepareContext
from avbench.errors import RequestError
from avbench.options import resolve
from avbench_datasets.arrays import Arrays

RECORDED = Path(
    os.environ.get(
        "AVBENCH_TEST_RECORDED_DIGITS",
        Path(__file__).parents[3] / "shared" / "data" / "spoken_written_digits.npz",
    )
)
N = 24


def content(**changes: Any) -> dict[str, Any]:
    """A small good file, with changes; ``None`` leaves a key out."""
    rng = np.random.default_rng(0)
    good = {
        "audio": rng.integers(-9_000, 9_000, (N, 4_000)).astype(np.int16),
        "image": rng.integers(0, 256, (N, 12, 12)).astype(np.uint8),
        "label": np.arange(N) % 2,
        "split": np.arange(N) // 16,
        "sample_rate_hz": 8_000,
        **changes,
    }
    return {key: value for key, value in good.items() if value is not None}


def prepare(tmp_path: Path, arrays: dict[str, Any], **options: Any) -> Store:
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    return prepare_file(tmp_path, path, **options)


def prepare_file(tmp_path: Path, path: Path | None, **options: Any) -> Store:
    config = resolve(Arrays.Config, "arrays", [(options, "test")]).config
    context = PrepareContext(tmp_path / "data", "mine", path, lambda done, total, what: None)
    return Arrays(config).prepare(context)


def test_waveforms_become_the_paper_s_log_mel(tmp_path: Path) -> None:
    arrays = content()
    store = prepare(tmp_path, arrays, mels=32, val_fraction=0)
    wave = torch.from_numpy(arrays["audio"][2] / 32768)[None]  # the second row of class 0
    expected = LogMel(mels=32)(resample(wave, 8_000, 11_000))
    np.testing.assert_array_equal(store.audio["train"][1], expected.numpy())
    np.testing.assert_array_equal(store.frames["train"][1, 0], arrays["image"][2])


def test_defaults_are_the_paper_s(tmp_path: Path) -> None:
    info = prepare(tmp_path, content(image=np.zeros((N, 12, 12, 3), np.uint8))).info
    assert info.audio_shape == (1, 128, 56) and info.preset == "paper"
    assert (info.audio_mean, info.audio_std) == (0.0, 1.0)
    assert info.frame_mean == (0.425, 0.396, 0.370) and info.frame_std == (0.229, 0.224, 0.221)
    assert info.options["mels"] == 128 and len(info.sources["sha256"]) == 64


def test_rows_are_sorted_by_class_and_keep_their_order(tmp_path: Path) -> None:
    store = prepare(tmp_path, content(), val_fraction=0)
    assert store.info.counts == {"train": (8, 8), "val": (0, 0), "test": (4, 4)}
    even, odd = [[f"row-{i:06d}" for i in range(start, 16, 2)] for start in (0, 1)]
    assert [video for video, _ in store.samples("train")] == even + odd


def test_normalise_measures_the_training_split(tmp_path: Path) -> None:
    image = np.random.default_rng(1).integers(0, 256, (N, 3, 12, 12)).astype(np.uint8)
    store = prepare(tmp_path, content(image=image), normalise=True, mels=32)
    audio, frames = store.audio["train"], store.frames["train"] / 255
    assert store.info.audio_mean == pytest.approx(audio.mean(dtype=np.float64), abs=0.006)
    assert store.info.audio_std == pytest.approx(audio.std(dtype=np.float64), abs=0.006)
    np.testing.assert_allclose(store.info.frame_mean, frames.mean(axis=(0, 2, 3)), atol=6e-4)
    np.testing.assert_allclose(store.info.frame_std, frames.std(axis=(0, 2, 3)), atol=6e-4)


def test_grey_frames_are_measured_and_a_constant_is_no_division_by_zero(tmp_path: Path) -> None:
    info = prepare(tmp_path, content(image=np.full((N, 12, 12), 51, np.uint8))).info
    assert (info.frame_mean, info.frame_std) == ((0.2,), (1.0,))


def test_layouts_and_names_that_mean_the_same_give_the_same_store(tmp_path: Path) -> None:
    arrays = content(image=np.random.default_rng(1).integers(0, 256, (N, 12, 12, 3)).astype(np.uint8))
    first = prepare(tmp_path, arrays).info.fingerprint
    same = {
        "waveforms": arrays["audio"][:, None] / 32768.0,
        "images": arrays["image"].transpose(0, 3, 1, 2),
        "labels": arrays["label"].astype(np.uint8),
        "splits": np.where(arrays["split"], "test", "train"),
        "sample_rate": np.float64(8_000),
    }
    assert prepare(tmp_path, same).info.fingerprint == first
    halves = {**same, "images": same["images"] / 255.0, "sample_rate": np.int64(1)}
    assert prepare(tmp_path, halves, sample_rate_hz=8_000).info.fingerprint == first


def test_spectrograms_are_stored_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(2).normal(-30, 9, (N, 1, 20, 30)).astype(np.float32)
    store = prepare(tmp_path, content(audio=None, spectrogram=values), val_fraction=0)
    assert store.info.audio_shape == (1, 20, 30) and store.info.audio_transform["kind"] == "given"
    np.testing.assert_array_equal(store.audio["train"][0], values[0])
    flat = prepare(tmp_path, content(audio=None, spectrogram=values[:, 0]), val_fraction=0)
    assert flat.info.fingerprint == store.info.fingerprint


def test_labels_of_any_kind(tmp_path: Path) -> None:
    assert prepare(tmp_path, content(label=np.array(["cat", "ape"] * 12))).info.classes == ("ape", "cat")
    assert prepare(tmp_path, content(label=np.array([7, -3] * 12))).info.classes == ("-3", "7")
    named = prepare(tmp_path, content(label=np.array(["cat", "ape"] * 12), classes=["cat", "ape"]))
    assert named.info.classes == ("cat", "ape")


@pytest.mark.parametrize(
    ("side", "options", "depth", "grid"),
    [(28, {}, 3, 3), (32, {}, 3, 4), (96, {}, 5, 3), (12, {"size": 32}, 3, 4), (32, {"depth": 2}, 2, 8)],
)
def test_the_network_plan(tmp_path: Path, side: int, options: dict[str, Any], depth: int, grid: int) -> None:
    info = prepare(tmp_path, content(image=np.zeros((N, side, side), np.uint8)), **options).info
    assert (info.visual_depth, info.audio_depth, info.grid) == (depth, 3, (grid, grid))


def test_frames_need_not_be_square_unless_a_size_is_asked(tmp_path: Path) -> None:
    image = np.zeros((N, 24, 40), np.uint8)
    info = prepare(tmp_path, content(image=image)).info
    assert info.frame_shape == (1, 24, 40) and info.grid == (3, 5)
    assert prepare(tmp_path, content(image=image), size=24).info.frame_shape == (1, 24, 24)


def test_resizing_is_antialiased(tmp_path: Path) -> None:
    board = np.indices((48, 48)).sum(axis=0) % 2 * 255
    store = prepare(tmp_path, content(image=np.repeat(board[None].astype(np.uint8), N, 0)), size=12)
    assert np.abs(store.frames["train"].astype(int) - 127).max() < 20


def test_a_val_split_is_carved_by_clip_id(tmp_path: Path) -> None:
    ids = np.array([f"clip{i // 4}" for i in range(N)])
    labels = np.arange(N) // 4 % 2
    store = prepare(tmp_path, content(clip_id=ids, label=labels), val_fraction=0.5)
    train, val = ({video for video, _ in store.samples(split)} for split in ("train", "val"))
    assert store.info.counts["train"] == store.info.counts["val"] == (4, 4)
    assert not train & val
    assert store.info.notes[0] == "val: 8 of 16 training samples, drawn by clip id (seed 0)."


def test_the_carved_val_follows_the_seed(tmp_path: Path) -> None:
    found = [prepare(tmp_path, content(), val_fraction=0.5, seed=seed).samples("val") for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_a_clip_of_two_classes_is_never_carved(tmp_path: Path) -> None:
    ids = np.array(["both"] * 8 + [f"own{i}" for i in range(16)])
    store = prepare(tmp_path, content(clip_id=ids), val_fraction=0.9)
    assert "both" not in {video for video, _ in store.samples("val")}
    assert min(store.info.counts["train"]) > 0


def test_a_given_val_split_is_kept(tmp_path: Path) -> None:
    store = prepare(tmp_path, content(split=np.array([0] * 12 + [2] * 6 + [1] * 6)))
    assert store.info.counts == {"train": (6, 6), "val": (3, 3), "test": (3, 3)} and store.info.notes[1:] == ()


def test_ids_in_train_and_test_are_noted(tmp_path: Path) -> None:
    store = prepare(tmp_path, content(clip_id=np.array(["a", "b"] * 12)))
    assert store.info.notes[0].startswith("2 clip ids occur in both train and test")


def test_clips_of_another_length(tmp_path: Path) -> None:
    store = prepare(tmp_path, content(), clip_s=0.4, mels=32)
    assert store.info.audio_shape == (1, 32, 23)
    assert "Waveforms of 0.500 s are cut to 0.4 s." in store.info.notes


def changed(key: str, row: Any, value: Any, dtype: type = np.float32) -> dict[str, Any]:
    array = (content()[key] / 65_536).astype(dtype)
    array[row] = value
    return {key: array}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"image": None}, "has no key 'image'"),
    ({"audio": None}, "neither 'audio' nor 'spectrogram'"),
    ({"spectrogram": np.zeros((N, 20, 30))}, "both 'audio' and 'spectrogram'"),
    ({"labels": np.zeros(N, int)}, "both 'label' and 'labels'"),
    ({"label": np.zeros(N - 1, int)}, "lengths differ or are zero .*label 23"),
    ({"clip_id": np.array(["x"])}, "lengths differ"),
    ({"label": np.zeros((N, 2), int)}, "'label' has shape"),
    ({"label": np.linspace(0, 1, N)}, "'label' is float64"),
    ({"label": np.arange(N) % 3, "classes": np.array(["a", "b"])}, r"label\[2\] is 2; .*labels are 0 to 1"),
    ({"label": np.array(["a", "dgo"] * 12), "classes": np.array(["a", "dog"])}, "did you mean 'dog'"),
    ({"classes": np.array(["a", "a"])}, "names a class twice"),
    ({"classes": np.array(["a", "b", "c"])}, "class 'c' has no training sample"),
    ({"label": np.arange(N) // 16}, "class '1' has no training sample"),
    ({"split": np.zeros(N, int)}, "test split is empty"),
    ({"split": np.full(N, 3)}, "unknown split 3"),
    ({"split": np.array(["trian"] * N)}, "unknown split 'trian'"),
    ({"label": np.array([{}] * N, object)}, "never unpickled"),
    ({"audio": np.zeros((N, 4_000), np.int32)}, "'audio' is int32"),
    ({"audio": np.zeros((N, 128, 56), np.float32)}, "spectrograms go under 'spectrogram'"),
    (changed("audio", (5, 3), np.nan), r"audio\[5\] holds NaN"),
    (changed("audio", (5, 3), np.inf), r"audio\[5\] holds NaN or infinity"),
    (changed("audio", (5, 3), 1.5), r"audio\[5\] exceeds \[-1, 1\]"),
    ({"sample_rate_hz": None}, "has no sample rate"),
    ({"sample_rate_hz": np.array([1, 2])}, "'sample_rate_hz' is int64"),
    ({"audio": None, "spectrogram": np.full((N, 20, 30), np.nan)}, r"spectrogram\[\d+\] holds NaN"),
    ({"audio": None, "spectrogram": np.zeros((N, 20, 30), int)}, "'spectrogram' is int64"),
    ({"audio": None, "spectrogram": np.zeros((N, 2, 20, 30))}, "'spectrogram' has shape"),
    ({"audio": None, "spectrogram": np.zeros((N, 8, 30))}, "8x30 is too small for the grid 3x3"),
    ({"image": np.zeros((N, 12, 12), np.int64)}, "'image' is int64"),
    ({"image": np.zeros((N, 12, 12, 4), np.uint8)}, "'image' has shape"),
    ({"image": np.full((N, 12, 12), 255.0)}, r"image\[0\] is float beyond \[0, 1\]"),
    ({"image": np.zeros((N, 5, 12), np.uint8)}, "frames of 5 pixels are too small"),
]


@pytest.mark.parametrize(("changes", "message"), FAULTS, ids=[message[:30] for _, message in FAULTS])
def test_a_wrong_file_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        prepare(tmp_path, content(**changes))
    assert "\n" not in str(caught.value) and str(caught.value).startswith("mine.npz: ")
    assert available(tmp_path / "data") == [] and not list(tmp_path.glob("data/.*"))


def test_a_source_that_is_no_npz(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="--source FILE"):
        prepare_file(tmp_path, None)
    with pytest.raises(RequestError, match=r"no file .*absent\.npz"):
        prepare_file(tmp_path, tmp_path / "absent.npz")
    with pytest.raises(RequestError, match="no file"):
        prepare_file(tmp_path, tmp_path)
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(RequestError, match=r"not an \.npz file; write it with numpy.savez"):
        prepare_file(tmp_path, tmp_path / "text.npz")


def test_a_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **content())
    raw = bytearray(path.read_bytes())
    raw[200:400] = bytes(200)
    path.write_bytes(raw)
    with pytest.raises(RequestError, match="can't be read"):
        prepare_file(tmp_path, path)


@pytest.mark.parametrize(
    "options",
    [{"mels": 0}, {"depth": 6}, {"val_fraction": 1.0}, {"clip_s": 0.01}, {"preset": "fast"}, {"size": -1}],
)
def test_a_wrong_option_is_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="arrays"):
        prepare(tmp_path, content(), **options)


@pytest.mark.optional_data
@pytest.mark.skipif(not RECORDED.is_file(), reason=f"the recorded digits are not here: no {RECORDED.name}")
def test_recorded_digits(tmp_path: Path) -> None:
    store = prepare_file(tmp_path, RECORDED, mels=32, size=32, normalise=True, preset="quick")
    info = store.info
    assert info.counts == {"train": (243,) * 10, "val": (27,) * 10, "test": (30,) * 10}
    assert info.classes[0] == "zero" and info.preset == "quick" and info.grid == (4, 4)
    assert store.samples("test")[0][0].startswith("0_")
    assert np.isfinite(store.audio["train"]).all()
