"""What a dataset of videos says before any is decoded: which stretches of which files, in which split and class.

A dataset plugin reads its annotations into a :class:`Plan` and hands it to :func:`prepare_clips`, which decodes,
counts what broke and writes the store.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from avbench.data.audio import LogMel
from avbench.data.windows import FrameRule, Loss, Take
from avbench.errors import RequestError, nearest
from avbench.options import option

if TYPE_CHECKING:
    from avbench.data.store import Store
    from avbench.dataset import PrepareContext

_SMALLEST_GRID, _DEEPEST, _AUDIO_DEPTH = 3, 5, 3
#: What counts as a video when a folder is searched.
SUFFIXES = frozenset({".mp4", ".webm", ".mkv", ".avi", ".mov", ".m4v"})


@dataclass(frozen=True)
class ClipOptions:
    """Options that all datasets of videos share; a plugin's ``Config`` adds its own."""

    seconds: float = option(1.0, "length of a sample in seconds; 10: the paper's appendix G")
    frame: Literal["centre", "grid"] = option(
        "centre", "which frame stands for a sample: the one shown in its middle, or the 4th of 8 a second"
    )
    size: int = option(224, "side in pixels to which frames are stretched")
    mels: int = option(128, "mel bands")
    sample_rate_hz: int = option(11_000, "rate in Hz to which sound is resampled")
    val_fraction: float = option(0.1, "share of train's videos that becomes val where the dataset has no val; 0: none")
    seed: int = option(0, "seed of the splits that the dataset leaves open")
    classes: str = option("", "only these classes, separated by ';'; empty: all")
    preset: Literal["paper", "quick"] = option("paper", "default preset of runs on this store")

    def __post_init__(self) -> None:
        if not 0.1 <= self.seconds <= 60.0:
            raise ValueError(f"seconds = {self.seconds:g}: expected 0.1 to 60.")
        if self.size < 2 * _SMALLEST_GRID or self.mels < 1:
            raise ValueError(f"size = {self.size}, mels = {self.mels}: expected size from 6, mels from 1.")
        if not 4_000 <= self.sample_rate_hz <= 48_000:
            raise ValueError(f"sample_rate_hz = {self.sample_rate_hz}: expected 4000 to 48000.")
        if not 0.0 <= self.val_fraction < 1.0:
            raise ValueError(f"val_fraction = {self.val_fraction:g}: expected a share from 0 to below 1.")
        left = [side >> (_AUDIO_DEPTH - 1) for side in self.log_mel.shape[1:]]
        if min(left) < self.grid[0]:
            found = f"a spectrogram of {self.mels} x {self.log_mel.shape[2]} is too small for frames of {self.size}"
            raise ValueError(f"{found}: the pooled grid is {self.grid[0]} x {self.grid[1]}; use more mels.")

    @property
    def log_mel(self) -> LogMel:
        return LogMel(
            sample_rate_hz=self.sample_rate_hz, samples=round(self.seconds * self.sample_rate_hz), mels=self.mels
        )

    @property
    def frame_rule(self) -> FrameRule:
        return self.frame

    @property
    def depths(self) -> tuple[int, int]:
        """Blocks of the visual and the audio network: as many as leave the frames a grid of 3 x 3, at most 5; 3."""
        fitting = [d for d in range(1, _DEEPEST + 1) if self.size >> d >= _SMALLEST_GRID]
        return max(fitting), _AUDIO_DEPTH

    @property
    def grid(self) -> tuple[int, int]:
        side = self.size >> self.depths[0]
        return side, side


@dataclass(frozen=True, slots=True)
class Recording:
    """A stretch of a video that gives one or more samples.

    Attributes:
        video: the id that decides over splits: recordings of one id are kept together.
        path: the file; ``None`` where none was found.
        label: the name of its class.
        begin_s, end_s: the stretch, in seconds from the start of the file; ``None``: to its end.
        take: every window of the stretch, or the one in its middle.
    """

    video: str
    path: Path | None
    split: str
    label: str
    begin_s: float = 0.0
    end_s: float | None = None
    take: Take = "every"


@dataclass(frozen=True)
class Plan:
    """All that a dataset of videos says of itself and of a user's copy.

    Attributes:
        recordings: in the order in which their samples stand within a class.
        classes: the names, in the order of their indices.
        expected: samples by split that a complete copy gives; absent where nobody published it.
        sources: what the annotations were read from, with their hashes.
        lost: what annotations promise and can't be planned: (video, reason, detail).
        notes: for the record: how splits were drawn, what was left out on purpose.
    """

    dataset: str
    dataset_version: int
    recordings: Sequence[Recording]
    classes: Sequence[str]
    licence: str
    citation: str
    expected: Mapping[str, int] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    lost: Sequence[tuple[str, Loss, str]] = ()
    notes: Sequence[str] = ()


def prepare_clips(plan: Plan, options: ClipOptions, context: PrepareContext) -> Store:
    """Decode the plan's recordings and write the store; see :func:`avbench.data.making.make_store`."""
    from avbench.data.making import make_store  # here: runs on prepared data need no decoder

    return make_store(plan, options, context)


def known_labels(plan: Plan) -> Plan:
    """``plan`` without recordings whose label is not one of its classes; those are lost for that reason."""
    known = set(plan.classes)
    unknown = [r for r in plan.recordings if r.label not in known]
    lost = [(r.video, Loss.UNKNOWN_LABEL, f"{r.label!r} is not a class; {nearest(r.label, known)}") for r in unknown]
    kept = [r for r in plan.recordings if r.label in known]
    return replace(plan, recordings=kept, lost=(*plan.lost, *lost))


def only_classes(plan: Plan, asked: str) -> Plan:
    """``plan`` with the classes of the option ``classes`` alone, in the plan's order.

    Raises:
        RequestError: a name that is no class of the dataset.
    """
    names = [name.strip() for name in asked.split(";") if name.strip()]
    if not names:
        return plan
    for name in names:
        if name not in plan.classes:
            raise RequestError(f"{plan.dataset}.classes: there is no class {name!r}; {nearest(name, plan.classes)}")
    kept = [r for r in plan.recordings if r.label in set(names)]
    notes = (*plan.notes, f"Only {len(names)} of {len(plan.classes)} classes, by the option classes.")
    classes = [name for name in plan.classes if name in names]
    return replace(plan, recordings=kept, classes=classes, expected={}, notes=notes)


def carve(plan: Plan, source: str, target: str, fraction: float, seed: int) -> Plan:
    """Move a share of a split's videos to another split, class by class: whole videos, the same on every machine.

    A video whose recordings have several classes stays, and each class keeps at least one video.
    """
    labels_of: dict[str, set[str]] = {}
    for r in plan.recordings:
        if r.split == source:
            labels_of.setdefault(r.video, set()).add(r.label)
    fixed = {r.video for r in plan.recordings if r.split != source}
    moved: set[str] = set()
    for label in plan.classes:
        own = [video for video, labels in labels_of.items() if labels == {label} and video not in fixed]
        count = min(round(fraction * len(own)), len(own) - 1)
        # The order of a hash, not of a list: a copy of the annotations with a row less moves the same videos.
        moved.update(sorted(own, key=lambda video: _draw(seed, target, video))[: max(count, 0)])
    if not moved:
        return plan
    recordings = [replace(r, split=target) if r.video in moved and r.split == source else r for r in plan.recordings]
    note = f"{target}: {len(moved)} of {len(labels_of)} {source} videos, drawn by video in each class (seed {seed})."
    return replace(plan, recordings=recordings, notes=(*plan.notes, note))


def _draw(seed: int, purpose: str, video: str) -> str:
    return hashlib.sha256(f"{seed}/{purpose}/{video}".encode()).hexdigest()


def shared_videos(recordings: Iterable[Recording]) -> dict[tuple[str, str], int]:
    """How many videos occur in each pair of splits."""
    splits_of: dict[str, set[str]] = {}
    for r in recordings:
        splits_of.setdefault(r.video, set()).add(r.split)
    pairs: Counter[tuple[str, str]] = Counter()
    for splits in splits_of.values():
        ordered = sorted(splits)
        pairs.update((a, b) for i, a in enumerate(ordered) for b in ordered[i + 1 :])
    return dict(pairs)


class MediaIndex:
    """The videos under a folder, found by the stem of their names; hidden files and folders are passed over."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._by_stem: dict[str, list[Path]] = {}
        for path in sorted(folder.rglob("*")):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in SUFFIXES and not hidden:
                self._by_stem.setdefault(path.stem, []).append(path)

    def __len__(self) -> int:
        return sum(map(len, self._by_stem.values()))

    def files(self) -> list[Path]:
        """All of them, sorted."""
        return sorted(path for paths in self._by_stem.values() for path in paths)

    def find(self, stems: Sequence[str], hints: Sequence[str] = ()) -> Path | None:
        """The file with the first of ``stems`` that there is; of several, one whose folders have a hint's name."""
        for stem in stems:
            found = self._by_stem.get(stem)
            if found:
                wanted = {hint.lower() for hint in hints}
                near = [p for p in found if wanted & {part.lower() for part in p.relative_to(self.folder).parts[:-1]}]
                return (near or found)[0]
        return None


def find_annotation(source: Path, names: Sequence[str]) -> Path | None:
    """The annotation file of one of these names under ``source``, the least deep one."""
    wanted = {name.lower() for name in names}
    found = [path for path in source.rglob("*") if path.name.lower() in wanted and path.is_file()]
    return min(found, key=lambda path: (len(path.parts), str(path)), default=None)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file in hexadecimal digits: for the ``sources`` of a :class:`Plan`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
