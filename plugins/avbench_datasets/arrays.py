"""A user's own clips from one ``.npz`` file: sounds, pictures, labels and splits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch

from avbench.api import (
    SPLITS,
    Dataset,
    LogMel,
    PrepareContext,
    Store,
    StoreInfo,
    StoreWriter,
    Streams,
    one_thread,
    option,
    resample,
    to_json,
)
from avbench_datasets._faults import fail
from avbench_datasets._npz import Clips, read_clips

#: The paper's statistics of colour frames on [0, 1].
_PAPER_FRAME_MEAN, _PAPER_FRAME_STD = (0.425, 0.396, 0.370), (0.229, 0.224, 0.221)
_SMALLEST_GRID = 3
_DEEPEST = 5
_AUDIO_DEPTH = 3
_SHORTEST_CLIP_S = 0.1


@dataclass(frozen=True)
class ArraysConfig:
    """Options of the dataset ``arrays``."""

    mels: int = option(128, "mel bands of the log-mel made from waveforms")
    clip_s: float = option(1.0, "length of a clip in seconds: longer waveforms are cut, shorter ones padded")
    sample_rate_hz: int = option(0, "rate of the waveforms in Hz; 0: the file's")
    size: int = option(0, "side in pixels to which frames are stretched; 0: as they are")
    normalise: bool = option(False, "mean and std of the training split for all; false: as the paper, raw dB")
    depth: int = option(0, "blocks of the visual network; 0: as many as leave a grid of 3x3, at most 5")
    preset: Literal["paper", "quick"] = option("paper", "default preset of runs on this store")
    val_fraction: float = option(0.1, "share of train that becomes val where the file has no val; 0: none")
    seed: int = option(0, "seed of the draw of val")

    def __post_init__(self) -> None:
        if self.mels < 1 or self.sample_rate_hz < 0 or self.size < 0 or not 0 <= self.depth <= _DEEPEST:
            raise ValueError(f"mels from 1, depth 0 to {_DEEPEST}, size and sample_rate_hz not negative.")
        if not 0.0 <= self.val_fraction < 1.0:
            raise ValueError(f"val_fraction = {self.val_fraction}: expected a share from 0 to below 1.")
        if self.clip_s < _SHORTEST_CLIP_S:
            raise ValueError(f"clip_s = {self.clip_s}: expected at least {_SHORTEST_CLIP_S} seconds.")

    @property
    def log_mel(self) -> LogMel:
        return LogMel(mels=self.mels, samples=round(self.clip_s * LogMel.sample_rate_hz))


class Arrays(Dataset):
    """Your own clips from one .npz file: audio or spectrogram, image, label, split."""

    version: ClassVar[int] = 1
    embedded: ClassVar[bool] = False
    Config: ClassVar[type[Any]] = ArraysConfig

    config: ArraysConfig

    def prepare(self, context: PrepareContext) -> Store:
        """Write the store sample by sample, in memory little more than the arrays of the file.

        Raises:
            RequestError: the file or an option is not what ``docs/datasets/arrays.md`` describes.
        """
        clips = read_clips(context.source, self.config.sample_rate_hz)
        splits, notes = _carve(clips, self.config)
        _check_splits(clips, splits)
        rows = {split: _by_class(np.flatnonzero(splits == split), clips.labels) for split in SPLITS}
        info = self._info(context.name, clips, rows, notes)
        writer = StoreWriter(context.data, info)
        try:
            with one_thread():
                audio, frames = self._write(writer, clips, rows, context)
            writer.info = _with_statistics(info, audio, frames, self.config.normalise)
            return writer.finish()
        except BaseException:
            writer.discard()
            raise

    def _write(
        self,
        writer: StoreWriter,
        clips: Clips,
        rows: Mapping[str, npt.NDArray[np.int64]],
        context: PrepareContext,
    ) -> tuple[_Moments, _Moments]:
        """Write every sample; the statistics of the training split's audio (dB) and frames (0..255)."""
        audio_moments, frame_moments = _Moments(1), _Moments(writer.info.frame_shape[0])
        done, total = 0, len(clips.labels)
        for split, chosen in rows.items():
            for row, i in enumerate(chosen.tolist()):
                audio = self._audio(clips, i)
                frame = _frame(clips.image(i), writer.info.frame_shape[1:])
                writer.put(split, row, audio, frame, clips.ids[i])
                if split == "train":
                    audio_moments.add(audio)
                    frame_moments.add(frame)
                done += 1
                if done % 100 == 0 or done == total:
                    context.progress(done, total, "samples")
        return audio_moments, frame_moments

    def _audio(self, clips: Clips, row: int) -> npt.NDArray[np.float32]:
        """(1, mels, frames) in dB."""
        if not clips.is_waveform:
            return clips.spectrogram(row)
        log_mel = self.config.log_mel
        wave = torch.from_numpy(clips.waveform(row))
        values: npt.NDArray[np.float32] = log_mel(resample(wave, clips.sample_rate_hz, log_mel.sample_rate_hz)).numpy()
        return values

    def _info(
        self, name: str, clips: Clips, rows: Mapping[str, npt.NDArray[np.int64]], notes: tuple[str, ...]
    ) -> StoreInfo:
        log_mel = self.config.log_mel
        audio_shape = log_mel.shape if clips.is_waveform else (1, *clips.audio.shape[1:])
        channels, height, width = clips.image(0).shape
        if self.config.size:
            height = width = self.config.size
        depth = _depth(clips, min(height, width), self.config.depth)
        grid = (height >> depth, width >> depth)
        _check_audio(clips, audio_shape, grid)
        classes = len(clips.classes)
        counts = {
            split: tuple(np.bincount(clips.labels[chosen], minlength=classes).tolist())
            for split, chosen in rows.items()
        }
        return StoreInfo(
            name=name,
            dataset="arrays",
            dataset_version=self.version,
            classes=clips.classes,
            counts=counts,
            audio_shape=audio_shape,
            frame_shape=(channels, height, width),
            audio_mean=0.0,
            audio_std=1.0,
            frame_mean=_PAPER_FRAME_MEAN[:channels],
            frame_std=_PAPER_FRAME_STD[:channels],
            visual_depth=depth,
            audio_depth=_AUDIO_DEPTH,
            grid=grid,
            preset=self.config.preset,
            sample_rate_hz=log_mel.sample_rate_hz if clips.is_waveform else clips.sample_rate_hz,
            audio_transform=log_mel.as_json() if clips.is_waveform else {"kind": "given", "unit": "dB"},
            licence="not stated: the user's own data",
            citation="",
            options=to_json(self.config),
            sources={"file": clips.path.name, "sha256": clips.sha256},
            notes=notes + _length_notes(clips, self.config.clip_s),
        )


class _Moments:
    """Running mean and std per channel, in float64."""

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sum, self._squares = np.zeros(channels), np.zeros(channels)

    def add(self, sample: npt.NDArray[Any]) -> None:
        """Take in one sample (channels, height, width)."""
        values = sample.reshape(len(sample), -1).astype(np.float64)
        self._count += values.shape[1]
        self._sum += values.sum(axis=1)
        self._squares += (values**2).sum(axis=1)

    def mean_std(self, scale: float, decimals: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Per channel, divided by ``scale`` and rounded; a std of zero, which can't divide, becomes 1."""
        mean = self._sum / self._count
        std = np.sqrt(np.maximum(self._squares / self._count - mean**2, 0.0))
        means = tuple(round(float(m) / scale, decimals) for m in mean)
        return means, tuple(round(float(s) / scale, decimals) or 1.0 for s in std)


def _with_statistics(info: StoreInfo, audio: _Moments, frames: _Moments, normalise: bool) -> StoreInfo:
    """``info`` with what was measured: grey frames always, colour frames and audio where the user asks."""
    if normalise or info.frame_shape[0] == 1:
        means, stds = frames.mean_std(255.0, 3)
        info = replace(info, frame_mean=means, frame_std=stds)
    if normalise:
        (mean,), (std,) = audio.mean_std(1.0, 2)
        info = replace(info, audio_mean=mean, audio_std=std)
    return info


def _frame(image: npt.NDArray[Any], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image (channels, H, W), uint8 or float on [0, 1], as uint8 at ``size`` (height, width)."""
    if image.dtype == np.uint8 and image.shape[1:] == size:
        return image
    values = torch.from_numpy(image).double()
    if image.dtype != np.uint8:
        values = values * 255.0
    if image.shape[1:] != size:
        values = torch.nn.functional.interpolate(
            values[None], size=size, mode="bilinear", align_corners=False, antialias=True
        )[0]
    frame: npt.NDArray[np.uint8] = values.round().clamp(0, 255).to(torch.uint8).numpy()
    return frame


def _by_class(rows: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Rows sorted by class; within a class they keep their order."""
    return rows[np.argsort(labels[rows], kind="stable")]


def _carve(clips: Clips, config: ArraysConfig) -> tuple[npt.NDArray[np.str_], tuple[str, ...]]:
    """The split of each row, where need be with a val taken from train; and notes.

    Whole clip ids move, so that none is in both; each class keeps at least one of its ids in train.
    """
    splits = clips.splits.astype("<U5")
    notes: tuple[str, ...] = ()
    train, test = (np.flatnonzero(splits == split).tolist() for split in ("train", "test"))
    shared = {clips.ids[i] for i in train} & {clips.ids[i] for i in test}
    if shared:
        notes = (f"{len(shared)} clip ids occur in both train and test, as in the file.",)
    if "val" in splits or not config.val_fraction:
        return splits, notes
    rows_of: dict[str, list[int]] = {}
    for i in train:
        rows_of.setdefault(clips.ids[i], []).append(i)
    streams = Streams(config.seed)
    for cls in range(len(clips.classes)):
        # An id with rows of several classes stays in train: moving it would take from other classes, too.
        own = [rows for rows in rows_of.values() if all(clips.labels[i] == cls for i in rows)]
        wanted = round(config.val_fraction * sum(map(len, own)))
        for choice in streams("arrays val", cls=cls).permutation(len(own))[1:].tolist():
            if len(own[choice]) <= wanted:
                splits[own[choice]] = "val"
                wanted -= len(own[choice])
    moved = int((splits == "val").sum())
    drawn = f"val: {moved} of {len(train)} training samples, drawn by clip id (seed {config.seed})."
    return splits, (*notes, drawn)


def _check_splits(clips: Clips, splits: npt.NDArray[np.str_]) -> None:
    if "test" not in splits:
        raise fail(clips.path, "the test split is empty", "mark some samples as split 1 or 'test'")
    counts = np.bincount(clips.labels[splits == "train"], minlength=len(clips.classes))
    if not counts.all():
        name = clips.classes[int(np.argmin(counts))]
        raise fail(clips.path, f"class {name!r} has no training sample", "add some, or leave the class out")


def _depth(clips: Clips, side: int, asked: int) -> int:
    """Blocks of the visual network for frames whose shorter side is ``side`` pixels."""
    least = 1 if asked else _SMALLEST_GRID
    fitting = [d for d in range(1, _DEEPEST + 1) if side >> d >= least]
    if not fitting or asked > max(fitting):
        advice = f"use the option size, at least {2 * _SMALLEST_GRID} pixels, or fewer blocks"
        raise fail(clips.path, f"frames of {side} pixels are too small for the visual network", advice)
    return asked or max(fitting)


def _check_audio(clips: Clips, shape: tuple[int, ...], grid: tuple[int, int]) -> None:
    left = [side >> (_AUDIO_DEPTH - 1) for side in shape[1:]]
    if left[0] < grid[0] or left[1] < grid[1]:
        advice = "use more mels, longer clips, smaller frames (option size) or a larger depth"
        asked = f"the grid {grid[0]}x{grid[1]} of the frames"
        found = f"a spectrogram of {shape[1]}x{shape[2]} is too small for {asked}"
        raise fail(clips.path, found, advice)


def _length_notes(clips: Clips, clip_s: float) -> tuple[str, ...]:
    if not clips.is_waveform:
        return ()
    length_s = clips.audio.shape[-1] / clips.sample_rate_hz
    if math.isclose(length_s, clip_s, abs_tol=1e-3):
        return ()
    return (f"Waveforms of {length_s:.3f} s are {'cut' if length_s > clip_s else 'padded'} to {clip_s:g} s.",)
