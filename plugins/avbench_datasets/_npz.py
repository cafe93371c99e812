"""Reads and checks the ``.npz`` file of the dataset ``arrays``; every fault is one line with what to do."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from avbench.api import SPLITS, RequestError, nearest, sha256_of
from avbench_datasets import _memory
from avbench_datasets._faults import fail

#: What a key may be called; the first name is the one that messages use.
KEYS: dict[str, tuple[str, ...]] = {
    "audio": ("audio", "waveform", "waveforms"),
    "spectrogram": ("spectrogram", "spectrograms"),
    "image": ("image", "images", "frame", "frames"),
    "label": ("label", "labels"),
    "split": ("split", "splits"),
    "classes": ("classes",),
    "clip_id": ("clip_id", "clip_ids", "video", "videos"),
    "sample_rate_hz": ("sample_rate_hz", "sample_rate"),
}
_SPLIT_CODES = {0: "train", 1: "test", 2: "val"}
_SPLIT_WORDS = {**{split: split for split in SPLITS}, "validation": "val"}
_MAX_CHANNELS = 8  # more is taken for another layout


@dataclass(frozen=True)
class Clips:
    """The checked contents of a file, one row per sample; sounds and pictures are as in the file.

    Attributes:
        audio: waveforms (N, channels, n), int16 or float; or spectrograms (N, mels, frames), float, dB.
        is_waveform: which of the two ``audio`` is.
        sample_rate_hz: of the waveforms; 0 where the file holds spectrograms and does not say.
        images: (N, H, W, channels) or (N, channels, H, W), uint8 or float.
        channels_last: which of the two ``images`` is.
        labels: (N,) index into ``classes``.
        splits: (N,) ``"train"``, ``"val"`` or ``"test"``.
        ids: (N,) clip ids; made up from the row where the file has none.
        sha256: of the file.
    """

    path: Path
    audio: npt.NDArray[Any]
    is_waveform: bool
    sample_rate_hz: int
    images: npt.NDArray[Any]
    channels_last: bool
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    splits: npt.NDArray[np.str_]
    ids: tuple[str, ...]
    sha256: str

    def waveform(self, row: int) -> npt.NDArray[np.float64]:
        """One waveform (channels, n) in [-1, 1].

        Raises:
            RequestError: it holds NaN, infinity or values beyond [-1, 1].
        """
        wave = self.audio[row]
        if wave.dtype == np.int16:
            return wave / 32768.0  # type: ignore[no-any-return]
        self._finite(wave, "audio", row)
        if np.abs(wave).max(initial=0.0) > 1.0:
            raise fail(self.path, f"audio[{row}] exceeds [-1, 1]", "store int16, or divide by full scale")
        return wave.astype(np.float64)  # type: ignore[no-any-return]

    def spectrogram(self, row: int) -> npt.NDArray[np.float32]:
        """One spectrogram (1, mels, frames) in dB.

        Raises:
            RequestError: it holds NaN or infinity.
        """
        values = self.audio[row].astype(np.float32)
        self._finite(values, "spectrogram", row)
        return values[None]  # type: ignore[no-any-return]

    def image(self, row: int) -> npt.NDArray[Any]:
        """One image (channels, H, W): uint8, or float64 on [0, 1].

        Raises:
            RequestError: it holds NaN, infinity or values beyond [0, 1].
        """
        image = self.images[row]
        if self.channels_last:
            image = image.transpose(2, 0, 1)
        if image.dtype == np.uint8:
            return np.ascontiguousarray(image)
        self._finite(image, "image", row)
        if image.min() < 0.0 or image.max() > 1.0:
            raise fail(self.path, f"image[{row}] is float beyond [0, 1]", "store uint8, or divide by 255")
        return np.ascontiguousarray(image, np.float64)

    def _finite(self, values: npt.NDArray[Any], key: str, row: int) -> None:
        if not np.isfinite(values).all():
            raise fail(self.path, f"{key}[{row}] holds NaN or infinity", "repair or leave out that sample")


def read_clips(path: Path | None, sample_rate_hz: int) -> Clips:
    """Read and check a file; ``sample_rate_hz`` is the user's, 0 to take the file's.

    Raises:
        RequestError: it is absent, not an ``.npz``, or not what the documentation of ``arrays`` describes.
    """
    if path is None:
        raise RequestError("arrays needs a file: avbench prepare arrays --source FILE.npz --name NAME.")
    if not path.is_file():
        raise RequestError(f"no file {path}; give --source the path of an .npz file.")
    if not zipfile.is_zipfile(path):
        raise fail(path, "not an .npz file", "write it with numpy.savez or numpy.savez_compressed")
    found = _load(path)
    is_waveform = _kind(path, found)
    labels, classes = _labels(path, found["label"], found.get("classes"))
    images, channels_last = _images(path, found["image"])
    audio = _waveforms(path, found["audio"]) if is_waveform else _spectrograms(path, found["spectrogram"])
    ids = found.get("clip_id")
    _same_length(path, {k: found[k] for k in found if k not in ("classes", "sample_rate_hz")})
    return Clips(
        path=path,
        audio=audio,
        is_waveform=is_waveform,
        sample_rate_hz=_rate(path, found.get("sample_rate_hz"), sample_rate_hz, is_waveform),
        images=images,
        channels_last=channels_last,
        labels=labels,
        classes=classes,
        splits=_splits(path, found["split"]),
        ids=tuple(f"row-{i:06d}" for i in range(len(labels))) if ids is None else tuple(map(str, ids.tolist())),
        sha256=sha256_of(path),
    )


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The arrays that :data:`KEYS` names, by the first name of each."""
    found: dict[str, npt.NDArray[Any]] = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            _check_memory(path, [each.file_size for each in file.zip.infolist()])
            for key, names in KEYS.items():
                present = [name for name in names if name in file.files]
                if len(present) > 1:
                    raise fail(path, f"holds both {' and '.join(map(repr, present))}", "keep one of them")
                if present:
                    found[key] = np.asarray(file[present[0]])
            others = list(file.files)
    except RequestError:
        raise
    except Exception as error:  # on a damaged archive its readers raise almost anything
        advice = "write it again; Python objects are never unpickled, so store numbers and fixed-width text"
        raise fail(path, f"can't be read ({error})", advice) from None
    for key in ("image", "label", "split"):
        if key not in found:
            raise fail(path, f"has no key {key!r} (it has: {', '.join(others) or 'nothing'})", f"add {key!r}")
    for key in ("label", "split", "clip_id"):
        if key in found and found[key].ndim != 1:
            raise fail(path, f"{key!r} has shape {found[key].shape}", "give one entry per sample: (N,)")
    return found


def _check_memory(path: Path, declared_bytes: list[int]) -> None:
    """Refuse an archive that unpacks to more than memory holds; no reader takes more from it than it declares."""
    available = _memory.available_bytes()
    if available is not None and sum(declared_bytes) > available:
        found = f"unpacks to {sum(declared_bytes) / 1e9:.1f} GB, {available / 1e9:.1f} GB of memory are available"
        raise fail(path, found, "check where it is from, or prepare it on a larger machine")


def _kind(path: Path, found: dict[str, npt.NDArray[Any]]) -> bool:
    """Whether the sound is waveforms rather than spectrograms."""
    if ("audio" in found) == ("spectrogram" in found):
        both = "both 'audio' and 'spectrogram'" if "audio" in found else "neither 'audio' nor 'spectrogram'"
        raise fail(path, f"has {both}", "give waveforms as 'audio' or decibels as 'spectrogram'")
    return "audio" in found


def _same_length(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> None:
    lengths = {key: len(values) for key, values in arrays.items() if values.ndim}
    if len(set(lengths.values())) > 1 or 0 in lengths.values() or len(lengths) < len(arrays):
        said = ", ".join(f"{key} {n}" for key, n in lengths.items())
        raise fail(path, f"lengths differ or are zero ({said})", "give one entry per sample under every key")


def _waveforms(path: Path, audio: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if audio.dtype != np.int16 and audio.dtype.kind != "f":
        raise fail(path, f"'audio' is {audio.dtype}", "store waveforms as int16, or as float in [-1, 1]")
    waves = audio[:, None] if audio.ndim == 2 else audio
    if waves.ndim != 3 or waves.shape[1] > _MAX_CHANNELS or 0 in waves.shape[1:]:
        advice = "expected (N, samples) or (N, channels, samples); spectrograms go under 'spectrogram'"
        raise fail(path, f"'audio' has shape {audio.shape}", advice)
    return waves


def _spectrograms(path: Path, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if values.dtype.kind != "f":
        raise fail(path, f"'spectrogram' is {values.dtype}", "store decibels as float32")
    single = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values
    if single.ndim != 3:
        advice = "expected (N, mels, frames) or (N, 1, mels, frames)"
        raise fail(path, f"'spectrogram' has shape {values.shape}", advice)
    return single


def _images(path: Path, images: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], bool]:
    """The images with a channel axis, and whether it is the last."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise fail(path, f"'image' is {images.dtype}", "store uint8, or float on [0, 1]")
    if images.ndim == 3:
        return images[..., None], True
    if images.ndim == 4 and images.shape[-1] in (1, 3):
        return images, True
    if images.ndim == 4 and images.shape[1] in (1, 3):
        return images, False
    raise fail(path, f"'image' has shape {images.shape}", "expected (N, H, W), (N, H, W, 3) or (N, 3, H, W)")


def _labels(
    path: Path, labels: npt.NDArray[Any], classes: npt.NDArray[Any] | None
) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    """(N,) class indices and the names of the classes."""
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise fail(path, f"'label' is {labels.dtype} {labels.shape}", "store (N,) whole numbers or text")
    if classes is None:
        values, index = np.unique(labels, return_inverse=True)
        return index.astype(np.int64), tuple(str(v) for v in values)
    names = tuple(str(name) for name in np.atleast_1d(classes).tolist())
    if len(set(names)) < len(names):
        raise fail(path, "'classes' names a class twice", "give each class its own name")
    if labels.dtype.kind == "U":
        unknown = sorted(set(labels.tolist()) - set(names))
        if unknown:
            raise fail(path, f"label {unknown[0]!r} is not in 'classes'", nearest(unknown[0], names).rstrip("."))
        return np.array([names.index(label) for label in labels.tolist()], np.int64), names
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if wrong.size:
        advice = f"'classes' names {len(names)}, so labels are 0 to {len(names) - 1}"
        raise fail(path, f"label[{wrong[0]}] is {labels[wrong[0]]}", advice)
    return labels.astype(np.int64), names


def _splits(path: Path, splits: npt.NDArray[Any]) -> npt.NDArray[np.str_]:
    known: dict[Any, str] = dict(_SPLIT_CODES if splits.dtype.kind in "iu" else _SPLIT_WORDS)
    for value in np.unique(splits).tolist():
        if value not in known:
            raise fail(path, f"unknown split {value!r}", "use 0 train, 1 test, 2 val, or these words")
    return np.array([known[value] for value in splits.ravel().tolist()])


def _rate(path: Path, in_file: npt.NDArray[Any] | None, asked: int, is_waveform: bool) -> int:
    found = asked
    if not asked and in_file is not None:
        if in_file.size != 1 or in_file.dtype.kind not in "iuf":
            raise fail(path, f"'sample_rate_hz' is {in_file.dtype} {in_file.shape}", "store one number")
        found = int(in_file.item())
    if found <= 0 and is_waveform:
        raise fail(path, "has no sample rate", "add 'sample_rate_hz' or set the option sample_rate_hz")
    return found
