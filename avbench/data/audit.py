"""What may be wrong with a store: leaks between splits, repetitions, samples without content, uneven classes.

Reads every byte once, in chunks; what stays in memory is two hashes of 8 bytes a sample, and the ids of the videos.
"""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from avbench.data.store import Store

Progress = Callable[[int, int, str], None]
Level = Literal["leak", "fault", "note"]

#: The check that needs video ids: its total is 0 where there are none.
SAME_VIDEO = "same video"
#: A log-mel is silent where nothing in it is louder: white noise at -92 dB of full scale. Digital silence is -100 dB.
SILENT_DB = -70.0
#: A frame is black where no channel of any pixel is brighter, of 255: video's own black level.
BLACK = 16
#: Classes are called uneven where the largest has more than this many times the samples of the smallest.
UNEVEN = 10.0

_CHUNK_BYTES = 1 << 25
_EXAMPLES = 5
_ODD = np.uint64(0x9E3779B97F4A7C15)
#: 64 bits: among a million samples a chance meeting has a probability below 10^-7.
_HASH_BYTES = 8


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: what was looked for.
        level: ``leak`` between splits, ``fault`` of samples, or ``note``: known of many datasets and worth knowing.
        splits: where.
        count: how many there are, of ``total``; 0 where all is well.
        unit: what is counted.
        examples: some of them.
    """

    check: str
    level: Level
    splits: tuple[str, ...]
    count: int
    total: int
    unit: str
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """All findings on a store, and its fingerprint as recorded and as recomputed."""

    store: str
    fingerprint: str
    recomputed: str
    findings: tuple[Finding, ...]

    @property
    def unchanged(self) -> bool:
        return self.fingerprint == self.recomputed

    @property
    def leaks(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.level == "leak" and f.count)


@dataclass
class _Split:
    """What the reading of a split leaves behind, a row each."""

    frames: npt.NDArray[np.uint64]
    sounds: npt.NDArray[np.uint64]
    blank: npt.NDArray[np.bool_]
    black: npt.NDArray[np.bool_]
    silent: npt.NDArray[np.bool_]
    infinite: npt.NDArray[np.bool_]
    lowest_db: npt.NDArray[np.float32]
    highest_db: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    videos: Counter[str] = field(default_factory=Counter)


def audit(store: Store, progress: Progress) -> Audit:
    """Look at every sample of a store. Memory grows by about 200 bytes a sample."""
    info = store.info
    total, done = sum(info.size(split) for split in info.counts), 0
    splits: dict[str, _Split] = {}
    for split in info.counts:

        def advance(rows: int) -> None:
            nonlocal done
            done += rows
            progress(done, total, "samples read")

        splits[split] = _read(store, split, advance)
    progress(total, total, "samples read; now the fingerprint")
    recomputed = store.recompute_fingerprint()
    findings = [
        *_shared_videos(splits),
        *_shared(splits, "identical frames", lambda s: (s.frames, s.blank | s.black)),
        *_shared(splits, "identical sounds", lambda s: (s.sounds, s.silent)),
        *_repeated(splits, info.classes),
        *_without_content(splits),
        *_bands(splits),
        *_balance(info.counts, info.classes),
    ]
    return Audit(info.name, info.fingerprint, recomputed, tuple(findings))


def _read(store: Store, split: str, advance: Callable[[int], None]) -> _Split:
    audio, frames = store.audio[split], store.frames[split]
    count, mels = len(frames), audio.shape[2]
    found = _Split(
        frames=np.zeros(count, np.uint64),
        sounds=np.zeros(count, np.uint64),
        blank=np.zeros(count, np.bool_),
        black=np.zeros(count, np.bool_),
        silent=np.zeros(count, np.bool_),
        infinite=np.zeros(count, np.bool_),
        lowest_db=np.full(mels, np.inf, np.float32),
        highest_db=np.full(mels, -np.inf, np.float32),
        labels=np.repeat(np.arange(len(store.info.classes)), store.info.counts[split]),
    )
    step = max(1, _CHUNK_BYTES // (frames[:1].nbytes + audio[:1].nbytes)) if count else 1
    for start in range(0, count, step):
        rows = slice(start, min(start + step, count))
        _look(found, rows, np.asarray(frames[rows]), np.asarray(audio[rows]))
        advance(rows.stop - rows.start)
    found.videos.update(filter(None, _videos(store, split)))
    return found


def _look(found: _Split, rows: slice, frames: npt.NDArray[np.uint8], audio: npt.NDArray[np.float32]) -> None:
    """Take in a chunk: frames (n, channels, height, width), audio (n, 1, mels, frames)."""
    for row, frame, sound in zip(range(rows.start, rows.stop), frames, audio, strict=True):
        found.frames[row] = _hash(frame)
        found.sounds[row] = _hash(sound)
    brightest = frames.max(axis=(2, 3))  # (n, channels)
    found.black[rows] = (brightest <= BLACK).all(axis=1)
    found.blank[rows] = (brightest == frames.min(axis=(2, 3))).all(axis=1) & ~found.black[rows]
    highest, lowest = audio.max(axis=(1, 3)), audio.min(axis=(1, 3))  # (n, mels)
    found.silent[rows] = (highest.max(axis=1) <= SILENT_DB) | (highest.max(axis=1) == lowest.min(axis=1))
    found.infinite[rows] = ~np.isfinite(highest - lowest).all(axis=1)
    heard = ~(found.silent[rows] | found.infinite[rows])
    if heard.any():
        np.maximum(found.highest_db, highest[heard].max(axis=0), out=found.highest_db)
        np.minimum(found.lowest_db, lowest[heard].min(axis=0), out=found.lowest_db)


def _hash(sample: npt.NDArray[Any]) -> int:
    return int.from_bytes(hashlib.blake2b(sample.tobytes(), digest_size=_HASH_BYTES).digest(), "little")


def _videos(store: Store, split: str) -> Iterator[str]:
    with (store.folder / split / "samples.csv").open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        next(rows, None)
        yield from (row[0] if row else "" for row in rows)


def _shared_videos(splits: Mapping[str, _Split]) -> Iterator[Finding]:
    for one, other in combinations(splits, 2):
        ids = splits[one].videos.keys(), splits[other].videos.keys()
        shared = sorted(ids[0] & ids[1])
        total = len(ids[0] | ids[1])
        yield Finding(SAME_VIDEO, "leak", (one, other), len(shared), total, "videos", tuple(shared[:_EXAMPLES]))
    for name, split in splits.items():
        known = split.videos.total()
        if known < len(split.labels):
            count = len(split.labels) - known
            yield Finding("no video id: can't be compared", "note", (name,), count, len(split.labels), "samples")


def _shared(
    splits: Mapping[str, _Split],
    check: str,
    look: Callable[[_Split], tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_]]],
) -> Iterator[Finding]:
    """Samples with content whose bytes occur in both of two splits; counted in the second."""
    for one, other in combinations(splits, 2):
        (known, empty), (asked, void) = look(splits[one]), look(splits[other])
        rows = np.flatnonzero(np.isin(asked, known[~empty]) & ~void)
        pairs = [(int(np.argmax(known == asked[row])), row) for row in rows[:_EXAMPLES].tolist()]
        examples = tuple(f"{one} {first} = {other} {row}" for first, row in pairs)
        yield Finding(check, "leak", (one, other), len(rows), len(asked), f"samples of {other}", examples)


def _repeated(splits: Mapping[str, _Split], classes: Sequence[str]) -> Iterator[Finding]:
    """Rows of a split that equal an earlier one in frame and sound; and those among them under another class."""
    for name, split in splits.items():
        both = split.frames * _ODD + split.sounds
        _, first, index = np.unique(both, return_index=True, return_inverse=True)
        earlier = first[index.reshape(-1)]
        rows = np.flatnonzero(earlier != np.arange(len(both)))
        examples = tuple(f"{earlier[row]} = {row}" for row in rows[:_EXAMPLES].tolist())
        yield Finding("repeated sample", "fault", (name,), len(rows), len(both), "samples", examples)
        crossed = rows[split.labels[rows] != split.labels[earlier[rows]]]
        named = tuple(
            f"{earlier[row]} {classes[split.labels[earlier[row]]]} = {row} {classes[split.labels[row]]}"
            for row in crossed[:_EXAMPLES].tolist()
        )
        yield Finding("same sample, two classes", "fault", (name,), len(crossed), len(both), "samples", named)


def _without_content(splits: Mapping[str, _Split]) -> Iterator[Finding]:
    for name, split in splits.items():
        looks = {
            f"silent (at most {SILENT_DB:g} dB, or constant)": split.silent,
            f"black frame (at most {BLACK} of 255)": split.black,
            "frame of one colour": split.blank,
            "sound with NaN or infinity": split.infinite,
        }
        for check, mask in looks.items():
            rows = np.flatnonzero(mask)
            examples = tuple(f"row {row}" for row in rows[:_EXAMPLES].tolist())
            yield Finding(check, "fault", (name,), len(rows), len(mask), "samples", examples)


def _bands(splits: Mapping[str, _Split]) -> Iterator[Finding]:
    """Mel bands that have one value in every sample with sound."""
    lowest = np.min([split.lowest_db for split in splits.values()], axis=0)
    highest = np.max([split.highest_db for split in splits.values()], axis=0)
    bands = np.flatnonzero(lowest == highest)
    examples = tuple(f"band {band}: {lowest[band]:g} dB" for band in bands[:_EXAMPLES].tolist())
    yield Finding("constant mel band", "note", tuple(splits), len(bands), len(lowest), "bands", examples)


def _balance(counts: Mapping[str, Sequence[int]], classes: Sequence[str]) -> Iterator[Finding]:
    for split, held in counts.items():
        if not sum(held):
            continue
        empty = [name for name, count in zip(classes, held, strict=True) if not count]
        level: Level = "note" if split == "val" else "fault"
        yield Finding("class without samples", level, (split,), len(empty), len(held), "classes", tuple(empty[:5]))
        least = min(count for count in held if count)
        uneven = [name for name, count in zip(classes, held, strict=True) if count > UNEVEN * least]
        smallest = classes[list(held).index(least)]
        said = (f"from {least} ({smallest}) to {max(held)} ({classes[list(held).index(max(held))]})",)
        check = f"class over {UNEVEN:g} times the smallest"
        yield Finding(check, "note", (split,), len(uneven), len(held), "classes", said)
