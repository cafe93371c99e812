"""The AVDD authors' preprocessed release, read directly: whole-split files and class-wise files.

A dataset plugin describes its part of the release with :class:`Release` and calls :func:`release_store`. Layouts,
keys and traps: ``docs/datasets/release.md``. Files are mapped, and samples pass through one at a time, so that memory
does not grow with them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from avbench.api import SPLITS, ClipOptions, LogMel, PrepareContext, RequestError, Store, StoreInfo, StoreWriter
from avbench_datasets._faults import fail
from avbench_datasets._pt import FrameReader, SoundReader, open_file
from avbench_datasets._release_parts import Part, ReleaseFiles, enumerated
from avbench_datasets._release_places import Places, place

#: Length of a clip in seconds and what the release appends to a dataset's name for it.
SUFFIX_OF_SECONDS = {1.0: "", 10.0: "_10s"}
#: Of colour frames on [0, 1]: what the release's authors normalise with.
_FRAME_MEAN, _FRAME_STD = (0.425, 0.396, 0.370), (0.229, 0.224, 0.221)
#: The options of a dataset of videos that the release leaves open.
_OPTIONS = ("from_release", "seconds", "size", "val_fraction", "seed", "preset")
_SMALLEST_GRID, _DEEPEST, _AUDIO_DEPTH = 3, 5, 3


@dataclass(frozen=True)
class Release:
    """Which part of the release a dataset is, and what its store says of it.

    Attributes:
        dataset, version: the plugin's name and version.
        short_name: as the release's files spell the dataset: ``ave``, ``vgg``, ``vgg_subset``, ``music_21``.
        classes: names in the order of the release's numbers; empty where that order is not known.
        seconds: length of a clip, 1 or 10.
        size: side in pixels to which frames are stretched; 0: as they are.
        val_fraction: share of train that becomes val; 0: none.
        seed: of that draw.
        options: of the plugin, for the record.
    """

    dataset: str
    version: int
    short_name: str
    licence: str
    citation: str
    classes: Sequence[str] = ()
    seconds: float = 1.0
    size: int = 0
    val_fraction: float = 0.1
    seed: int = 0
    preset: str = "paper"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.short_name + SUFFIX_OF_SECONDS[self.seconds]


def store_from_release(
    context: PrepareContext,
    config: ClipOptions,
    dataset: str,
    version: int,
    short_name: str,
    licence: str,
    citation: str,
    classes: Sequence[str] = (),
) -> Store:
    """What a plugin does under its option ``from_release``; see :class:`Release` for the arguments.

    Raises:
        RequestError: see :func:`release_store`; or an option that the release leaves no choice of.
    """
    for each in fields(config):
        value = getattr(config, each.name)
        if each.name not in _OPTIONS and value != each.default:
            raise RequestError(
                f"{dataset}.{each.name} = {value!r}: the release is already preprocessed; with from_release only "
                f"{', '.join(_OPTIONS[1:])} can be chosen."
            )
    given = {name: getattr(config, name) for name in _OPTIONS}
    choices = {name: value for name, value in given.items() if name != "from_release"}
    return release_store(
        context, Release(dataset, version, short_name, licence, citation, tuple(classes), options=given, **choices)
    )


def release_store(context: PrepareContext, release: Release) -> Store:
    """Write the store from the release's files under ``context.source``.

    Raises:
        RequestError: files are absent, damaged, or hold something else than the release does.
    """
    if release.seconds not in SUFFIX_OF_SECONDS:
        raise RequestError(f"the release has clips of 1 and of 10 seconds, not of {release.seconds:g}: set seconds=1.")
    if context.source is None or not context.source.is_dir():
        given = f"--source {context.source} is not a folder" if context.source else "--source is missing"
        raise RequestError(f"{given}: give the folder that holds the release's train_data/ and test_data/.")
    return _Reading(context, release, context.source).store()


class _Reading:
    """One release becoming one store."""

    def __init__(self, context: PrepareContext, release: Release, source: Path) -> None:
        self.context, self.release, self.source = context, release, source
        self._notes: list[str] = []

    def store(self) -> Store:
        parts = ReleaseFiles(self.source, self.release.name, self._say).parts()
        classes = self._classes(parts)
        self._check(parts, classes)
        places = place(parts, len(classes), self.release.val_fraction, self.release.seed)
        info = self._info(parts, classes, places)
        _check_disk(self.context.data, info)
        writer = StoreWriter(self.context.data, info)
        try:
            notes = self._copy(writer, parts, places)
            writer.info = replace(writer.info, notes=(*writer.info.notes, *notes))
            return writer.finish()
        except BaseException:
            writer.discard()
            raise

    def _say(self, text: str) -> None:
        self.context.progress(0, 0, text)

    def _classes(self, parts: Sequence[Part]) -> tuple[str, ...]:
        """The plugin's names, else those in a file where they can be names of these classes, else numbers."""
        if self.release.classes:
            return tuple(self.release.classes)
        count = 1 + max(int(part.labels.max()) for part in parts)
        for part in parts:
            if len(set(part.class_names)) == len(part.class_names) == count:
                return part.class_names
        self._notes.append("The release numbers its classes without naming them: class 0, class 1 and so on.")
        return tuple(f"class {cls}" for cls in range(count))

    def _check(self, parts: Sequence[Part], classes: Sequence[str]) -> None:
        first = parts[0]
        train = np.zeros(len(classes), np.int64)
        for part in parts:
            highest = int(part.labels.max())
            if highest >= len(classes):
                found = f"labels run to {highest}, and {self.release.dataset} has {len(classes)} classes"
                raise fail(part.path, found, f"expected 0 to {len(classes) - 1}: is this the file of another dataset?")
            if (part.frame_shape, part.audio_shape) != (first.frame_shape, first.audio_shape):
                found = f"holds frames {part.frame_shape} and sound {part.audio_shape}"
                advice = f"{first.path.name} has {first.frame_shape} and {first.audio_shape}: give files of one dataset"
                raise fail(part.path, found, advice)
            if part.split == "train":
                train += np.bincount(part.labels, minlength=len(classes))
        if not train.all():
            lacking = classes[int(np.argmin(train))]
            raise fail(first.path, f"class {lacking!r} has no training sample", "is a file of the release missing?")

    def _info(self, parts: Sequence[Part], classes: tuple[str, ...], places: Sequence[Places]) -> StoreInfo:
        release, first = self.release, parts[0]
        height, width = (release.size,) * 2 if release.size else first.frame_shape[1:]
        audio_shape = (1, first.audio_shape[1], first.audio_shape[2])
        depth, grid = _plan(first.path, (height, width), audio_shape)
        log_mel = LogMel(samples=round(release.seconds * LogMel.sample_rate_hz))
        counts = np.sum([each.counts for each in places], axis=0)
        transform = log_mel.as_json() if audio_shape == log_mel.shape else {"kind": "given", "unit": "dB"}
        return StoreInfo(
            name=self.context.name,
            dataset=release.dataset,
            dataset_version=release.version,
            classes=classes,
            counts={split: tuple(counts[i].tolist()) for i, split in enumerate(SPLITS)},
            audio_shape=audio_shape,
            frame_shape=(3, height, width),
            audio_mean=0.0,
            audio_std=1.0,
            frame_mean=_FRAME_MEAN,
            frame_std=_FRAME_STD,
            visual_depth=depth,
            audio_depth=_AUDIO_DEPTH,
            grid=grid,
            preset=release.preset,
            sample_rate_hz=log_mel.sample_rate_hz,
            audio_transform=transform,
            licence=release.licence,
            citation=release.citation,
            options=dict(release.options),
            sources={f"{part.split} {part.path.name}": f"{part.path.stat().st_size} bytes" for part in parts},
            notes=(*self._notes, *_split_notes(counts, release, first.frame_shape[1:] != (height, width))),
        )

    def _copy(self, writer: StoreWriter, parts: Sequence[Part], places: Sequence[Places]) -> list[str]:
        """Every sample to its place, in the order of the files; how images became bytes."""
        size = writer.info.frame_shape[1:]
        done, total = 0, sum(len(part.labels) for part in parts)
        said: dict[str, list[str]] = {}
        for part, spots in zip(parts, places, strict=True):
            file = open_file(part.path, self._say)
            read_frame = FrameReader(part.path, part.frames_key, file.tensor(part.frames_key))
            read_audio = SoundReader(part.path, part.audio_key, file.tensor(part.audio_key))
            for i, (split, row) in enumerate(spots):
                # The release has no video ids: an empty one says so, where a made-up one would look like one.
                writer.put(split, row, read_audio(i), _stretched(read_frame(i), size), "", "")
                done += 1
                if done % 100 == 0 or done == total:
                    self.context.progress(done, total, "samples")
            for note in filter(None, (read_frame.note(), "" if file.mapped else "torch's old format, read whole")):
                said.setdefault(note, []).append(part.path.name)
        return [f"{enumerated(names)}: {note}." for note, names in said.items()]


def _check_disk(data: Path, info: StoreInfo) -> None:
    """Refuse, before anything is written, a store for which there is no room, with what is to be chosen otherwise.

    A store is written through memory maps, and a disk that fills up under a map kills the process. Its writer reserves
    the room, but not every system and file system can.
    """
    data.mkdir(parents=True, exist_ok=True)
    sample_bytes = math.prod(info.frame_shape) + 4 * math.prod(info.audio_shape)
    needed_bytes = sample_bytes * sum(info.size(split) for split in info.counts)
    free_bytes = shutil.disk_usage(data).free
    if free_bytes < needed_bytes:
        raise RequestError(
            f"the store takes {needed_bytes / 1e9:.1f} GB and {free_bytes / 1e9:.1f} GB are free under {data}/: "
            "give another folder with --data, or set a smaller size."
        )


def _plan(path: Path, sides: tuple[int, int], audio_shape: tuple[int, int, int]) -> tuple[int, tuple[int, int]]:
    """Blocks of the visual network and the grid on which embeddings meet."""
    fitting = [d for d in range(1, _DEEPEST + 1) if min(sides) >> d >= _SMALLEST_GRID]
    if not fitting:
        raise fail(path, f"frames of {sides[0]}x{sides[1]} pixels are too small", "expected at least 6x6")
    grid = (sides[0] >> max(fitting), sides[1] >> max(fitting))
    left = [side >> (_AUDIO_DEPTH - 1) for side in audio_shape[1:]]
    if left[0] < grid[0] or left[1] < grid[1]:
        found = f"log-mels of {audio_shape[1]}x{audio_shape[2]} are too small for frames of {sides[0]}x{sides[1]}"
        raise fail(path, found, "expected 128x56 and 224x224, or set a smaller size")
    return max(fitting), grid


def _stretched(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    if frame.shape[1:] == size:
        return frame
    values = torch.from_numpy(frame).double()[None]
    scaled = torch.nn.functional.interpolate(values, size=size, mode="bilinear", align_corners=False, antialias=True)
    return scaled[0].round().clamp(0, 255).to(torch.uint8).numpy()


def _split_notes(counts: npt.NDArray[np.int64], release: Release, stretched: bool) -> tuple[str, ...]:
    notes = ["Read from the AVDD authors' preprocessed release, which has no video ids."]
    train, val = counts[SPLITS.index("train")].sum(), counts[SPLITS.index("val")].sum()
    if val:
        drawn = f"val: {val} of {train + val} training samples, a run of neighbours in each class (seed {release.seed})"
        notes.append(f"{drawn}; without video ids it can't be drawn by video.")
    if stretched:
        notes.append(f"Frames are stretched to {release.size}x{release.size}.")
    return tuple(notes)
