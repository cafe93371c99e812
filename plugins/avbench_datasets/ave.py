"""AVE: audio-visual events in ten-second videos, 28 classes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from avbench.api import (
    ClipOptions,
    Dataset,
    MediaIndex,
    Plan,
    PrepareContext,
    Recording,
    RequestError,
    Store,
    find_annotation,
    option,
    prepare_clips,
    sha256_of,
)
from avbench_datasets._release import store_from_release
from avbench_datasets._video import LONGEST_S, annotation, folder_of, index_of, read_split_file, text_of

CLASSES = (
    "Church bell",
    "Male speech, man speaking",
    "Bark",
    "Fixed-wing aircraft, airplane",
    "Race car, auto racing",
    "Female speech, woman speaking",
    "Helicopter",
    "Violin, fiddle",
    "Flute",
    "Ukulele",
    "Frying (food)",
    "Truck",
    "Shofar",
    "Motorcycle",
    "Acoustic guitar",
    "Train horn",
    "Clock",
    "Banjo",
    "Goat",
    "Baby cry, infant cry",
    "Bus",
    "Chainsaw",
    "Cat",
    "Horse",
    "Toilet flush",
    "Rodents, rats, mice",
    "Accordion",
    "Mandolin",
)
#: Training videos that the AVDD code leaves out; 27,759 seconds become the paper's 27,726.
LEFT_OUT = ("VWi2ENBuTbw", "0-I1-DOC-r8", "TTYevyM_tUw", "K6F1sogt46U", "MWFQerde_h8", "GmetnCLxFHE")

_LISTS = {"train": "trainSet.txt", "val": "valSet.txt", "test": "testSet.txt"}
_ANNOTATIONS = "Annotations.txt"
_EXPECTED = {"train": 27_726, "val": 3_288, "test": 3_305}
_TRAIN_WITH_LEFT_OUT = 27_759
_CLIP_S = 10.0
_LICENCE = "Annotations: see the owners' page. Videos: their uploaders', under YouTube's terms."
_CITATION = (
    "Y. Tian, J. Shi, B. Li, Z. Duan and C. Xu, Audio-Visual Event Localization in Unconstrained Videos, ECCV 2018."
)


@dataclass(frozen=True)
class AVEConfig(ClipOptions):
    """Options of AVE."""

    frame: Literal["grid", "centre"] = option(
        "grid", "the 4th of 8 frames a second (the AVDD code), or the frame in the middle (the paper)"
    )
    left_out: Literal["code", "none"] = option("code", "code: leave out the six videos that the AVDD code does")
    split_file: str = option("", "CSV file vid,label,split to use in place of the official split")
    from_release: bool = option(False, "read the AVDD authors' preprocessed release instead of videos")


class AVE(Dataset):
    """AVE: 4143 ten-second videos of 28 audio-visual events; each annotated second is a sample."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = AVEConfig

    config: AVEConfig

    def prepare(self, context: PrepareContext) -> Store:
        """Read the official lists, decode the annotated seconds and write the store.

        Raises:
            RequestError: the lists or the videos are not under the source.
        """
        if self.config.from_release:
            return store_from_release(context, self.config, "ave", self.version, "ave", _LICENCE, _CITATION)
        source = folder_of(context, "ave")
        index = index_of(source, "ave")
        rows, files = self._rows(source)
        return prepare_clips(self._plan(rows, files, index), self.config, context)

    def _rows(self, source: Path) -> tuple[list[Row], list[Path]]:
        """The annotated events with their splits, and the files that said so."""
        if self.config.split_file:
            path = Path(self.config.split_file)
            splits = {listed.video: listed.split for listed in read_split_file(path)}
            events = annotation(source, [_ANNOTATIONS], "ave")
            rows = [row for row in read_rows(events, "") if row.video in splits]
            return [replace(row, split=splits[row.video]) for row in rows], [path, events]
        files = {split: annotation(source, [name], "ave") for split, name in _LISTS.items()}
        rows = [row for split, path in files.items() for row in read_rows(path, split)]
        extra = find_annotation(source, [_ANNOTATIONS])
        return rows, [*files.values(), *([extra] if extra else [])]

    def _plan(self, rows: list[Row], files: list[Path], index: MediaIndex) -> Plan:
        config = self.config
        removed = set(LEFT_OUT) if config.left_out == "code" else set()
        whole = config.seconds >= _CLIP_S
        recordings = []
        for row in rows:
            # One of the removed videos is annotated from 0 to 0 s: that promises no second.
            if row.video not in removed and row.end_s > row.begin_s:
                path = index.find([row.video], [row.split])
                # A ten-second sample is the whole video: its event rarely fills it.
                begin_s, end_s = (0.0, config.seconds) if whole else (row.begin_s, row.end_s)
                recordings.append(Recording(row.video, path, row.split, row.label, begin_s, end_s))
        notes = [f"Left out, as the AVDD code does: {', '.join(sorted(removed))}."] if removed else []
        return Plan(
            dataset="ave",
            dataset_version=self.version,
            recordings=recordings,
            classes=class_names({row.label for row in rows}),
            licence=_LICENCE,
            citation=_CITATION,
            expected=self._expected(),
            sources={path.name: sha256_of(path) for path in files},
            notes=notes,
        )

    def _expected(self) -> dict[str, int]:
        if self.config.seconds != 1.0 or self.config.split_file:
            return {}
        return _EXPECTED if self.config.left_out == "code" else {**_EXPECTED, "train": _TRAIN_WITH_LEFT_OUT}


@dataclass(frozen=True)
class Row:
    """An annotated event."""

    video: str
    label: str
    begin_s: float
    end_s: float
    split: str


def class_names(labels: set[str]) -> tuple[str, ...]:
    """The classes in our order; where the lists name as many, but some otherwise, the lists' spelling holds."""
    if len(labels) != len(CLASSES):  # a part of the dataset, or labels that are none of its own
        return CLASSES
    return (*(name for name in CLASSES if name in labels), *sorted(labels.difference(CLASSES)))


def _second(text: str) -> float:
    """A time within a day.

    Raises:
        ValueError: it is none.
    """
    found = float(text)
    if not 0.0 <= found <= LONGEST_S:  # NaN fails too
        raise ValueError
    return found


def read_rows(path: Path, split: str) -> list[Row]:
    """Rows ``Category&VideoID&Quality&StartTime&EndTime``, with or without a header.

    Raises:
        RequestError: a line of another form.
    """
    rows = []
    lines = text_of(path).splitlines()
    for number, line in enumerate(lines, 1):
        parts = [part.strip() for part in line.split("&")]
        if parts == [""] or (number == 1 and parts[0].lower() == "category"):
            continue
        try:
            label, video, _, begin, end = parts
            rows.append(Row(video, label, _second(begin), _second(end), split))
        except ValueError:
            raise RequestError(
                f"{path}, line {number}: {line!r}; expected Category&VideoID&Quality&StartTime&EndTime."
            ) from None
    return rows
