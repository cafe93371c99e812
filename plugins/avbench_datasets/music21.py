"""MUSIC-21: solo performances on 21 instruments."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from avbench.api import (
    ClipOptions,
    Dataset,
    MediaIndex,
    Plan,
    PrepareContext,
    Recording,
    RequestError,
    Store,
    carve,
    option,
    prepare_clips,
    sha256_of,
)
from avbench_datasets._release import store_from_release
from avbench_datasets._video import annotation, folder_of, index_of, read_split_file

_LIST = "MUSIC21_solo_videos.json"
#: The authors' split has 754, 99 and 238 of 1091 videos.
_TEST_FRACTION, _VAL_FRACTION = 0.218, 0.116
_PAPER_SAMPLES = {"train": 146_908, "val": 7_103, "test": 42_440}
_LICENCE = "List: its owners state none. Videos: their uploaders', under YouTube's terms."
_CITATION = (
    "H. Zhao, C. Gan, A. Rouditchenko, C. Vondrick, J. McDermott and A. Torralba, The Sound of Pixels, ECCV 2018; "
    "H. Zhao, C. Gan, W.-C. Ma and A. Torralba, The Sound of Motions, ICCV 2019."
)


@dataclass(frozen=True)
class Music21Config(ClipOptions):
    """Options of MUSIC-21."""

    test_fraction: float = option(_TEST_FRACTION, "share of all videos that becomes test, drawn by video")
    val_fraction: float = option(_VAL_FRACTION, "share of the other videos that becomes val; 0: none")
    split_file: str = option("", "CSV file vid,split,label with the split, such as the AVDD authors' music_21.csv")
    from_release: bool = option(False, "read the AVDD authors' preprocessed release instead of videos")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.test_fraction < 1.0:
            raise ValueError(f"test_fraction = {self.test_fraction:g}: expected a share between 0 and 1.")


class Music21(Dataset):
    """MUSIC-21: solo videos of 21 instruments; every non-overlapping second is a sample, split by video."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = Music21Config

    config: Music21Config

    def prepare(self, context: PrepareContext) -> Store:
        """Read the list of videos, split them, decode every window and write the store.

        Raises:
            RequestError: the list or the videos are not under the source.
        """
        if self.config.from_release:
            return store_from_release(context, self.config, "music21", self.version, "music_21", _LICENCE, _CITATION)
        source = folder_of(context, "music21")
        index = index_of(source, "music21")
        plan = self._listed(index) if self.config.split_file else self._drawn(source, index)
        return prepare_clips(plan, self.config, context)

    def _listed(self, index: MediaIndex) -> Plan:
        path = Path(self.config.split_file)
        rows = read_split_file(path)
        found = [Recording(r.video, index.find([r.video], [r.label]), r.split, r.label) for r in rows]
        expected = _PAPER_SAMPLES if self.config.seconds == 1.0 else {}
        return self._plan(found, sorted({r.label for r in rows}), path, expected)

    def _drawn(self, source: Path, index: MediaIndex) -> Plan:
        path = annotation(source, [_LIST], "music21")
        videos = read_videos(path)
        found = [
            Recording(video, index.find([video], [label]), "train", label)
            for label, ids in videos.items()
            for video in ids
        ]
        plan = self._plan(found, sorted(videos), path, {})
        return carve(plan, "train", "test", self.config.test_fraction, self.config.seed)

    def _plan(self, found: list[Recording], classes: list[str], path: Path, expected: dict[str, int]) -> Plan:
        return Plan(
            dataset="music21",
            dataset_version=self.version,
            recordings=found,
            classes=classes,
            licence=_LICENCE,
            citation=_CITATION,
            expected=expected,
            sources={path.name: sha256_of(path)},
        )


def read_videos(path: Path) -> dict[str, list[str]]:
    """The ids of each instrument; an id that is listed twice counts once.

    Raises:
        RequestError: the file has another form.
    """
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {str(label): list(dict.fromkeys(map(str, ids))) for label, ids in sorted(videos.items())}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise RequestError(f'{path}: expected {{"videos": {{instrument: [ids]}}}}; download {_LIST} again.') from None
