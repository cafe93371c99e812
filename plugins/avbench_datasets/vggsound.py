"""VGGSound: ten-second videos in the wild, 309 classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    option,
    prepare_clips,
    sha256_of,
)
from avbench_datasets._release import store_from_release
from avbench_datasets._video import (
    Listed,
    annotation,
    folder_of,
    index_of,
    read_split_file,
    split_of,
    start_of,
    table_of,
)

CSV_NAME = "vggsound.csv"
LICENCE = "Annotations: CC BY 4.0. Videos: their uploaders', under YouTube's terms."
CITATION = "H. Chen, W. Xie, A. Vedaldi and A. Zisserman, VGGSound: A Large-Scale Audio-Visual Dataset, ICASSP 2020."
_CLIP_S = 10.0
#: The second of a clip that the AVDD code takes.
_CODE_SECOND_S = 4.0


@dataclass(frozen=True)
class VGGSoundConfig(ClipOptions):
    """Options of VGGSound and its subsets."""

    second: Literal["code", "centre"] = option(
        "code", "which second of a clip: the one from 4 s on (the AVDD code), or the one in the middle (the paper)"
    )
    layout: Literal["clips", "videos"] = option(
        "clips", "clips: each file is the ten seconds; videos: files are whole videos, cut by the list"
    )
    split_file: str = option("", "CSV file vid,num,label,split of clips to use in place of vggsound.csv")
    from_release: bool = option(False, "read the AVDD authors' preprocessed release instead of videos")

    def stretch(self, start_s: int | None) -> tuple[float, float | None, Literal["every", "centre"]]:
        """(begin, end, take) of a clip that starts at ``start_s`` of its video.

        A file that is shorter than ten seconds still has a middle, so the end of a clip is left to its file.
        """
        offset_s = float(start_s or 0) if self.layout == "videos" else 0.0
        until_s = offset_s + _CLIP_S if self.layout == "videos" else None
        if self.seconds >= _CLIP_S:
            return offset_s, offset_s + self.seconds, "every"
        if self.second == "centre":
            return offset_s, until_s, "centre"
        begin_s = offset_s + _CODE_SECOND_S
        return begin_s, begin_s + self.seconds, "every"


class VGGSound(Dataset):
    """VGGSound: about 199,000 ten-second videos of 309 classes; one second of each is a sample."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = VGGSoundConfig

    config: VGGSoundConfig

    def prepare(self, context: PrepareContext) -> Store:
        """Read the list, decode one window of each clip and write the store.

        Raises:
            RequestError: the list or the videos are not under the source.
        """
        if self.config.from_release:
            return store_from_release(context, self.config, "vggsound", self.version, "vgg", LICENCE, CITATION)
        source = folder_of(context, "vggsound")
        index = index_of(source, "vggsound")
        rows, path = read_list(source, self.config, "vggsound")
        plan = Plan(
            dataset="vggsound",
            dataset_version=self.version,
            recordings=recordings(rows, index, self.config),
            classes=sorted({row.label for row in rows}),
            licence=LICENCE,
            citation=CITATION,
            sources={path.name: sha256_of(path)},
        )
        return prepare_clips(plan, self.config, context)


def read_list(source: Path, config: VGGSoundConfig, dataset: str) -> tuple[list[Listed], Path]:
    """The clips of the user's split file, or else of the official list; and the file.

    Raises:
        RequestError: it is absent or has another form.
    """
    if config.split_file:
        return read_split_file(Path(config.split_file)), Path(config.split_file)
    path = annotation(source, [CSV_NAME], dataset)
    return read_csv(path), path


def read_csv(path: Path) -> list[Listed]:
    """Rows ``id,start second,label,split``, labels quoted where they hold a comma; a header is passed over.

    Raises:
        RequestError: a line of another form.
    """
    rows = []
    for number, row in enumerate(table_of(path), 1):
        if not row or (number == 1 and not "".join(row[1:2]).strip().isdigit()):
            continue
        try:
            video, start, label, split = (each.strip() for each in row)
            if not start.isdigit():
                raise ValueError
            start_s = start_of(start)
        except ValueError:
            raise RequestError(
                f"{path}, line {number}: {','.join(row)!r}; expected id,start second,label,split."
            ) from None
        rows.append(Listed(video, start_s, label, split_of(split, f"{path}, line {number}")))
    return rows


def recordings(rows: Sequence[Listed], index: MediaIndex, config: VGGSoundConfig) -> list[Recording]:
    """The clips with their files.

    Clips are told apart by (id, start): a file named by the id alone stands for a clip only where the id has one,
    or where it is the whole video.
    """
    starts: dict[str, set[int | None]] = {}
    for row in rows:
        starts.setdefault(row.video, set()).add(row.start_s)
    found = []
    for row in rows:
        stems = _stems(row) if config.layout == "clips" else []
        if config.layout == "videos" or len(starts[row.video]) == 1:
            stems.append(row.video)
        begin_s, end_s, take = config.stretch(row.start_s)
        path = index.find(stems, [row.split, row.label, row.label.replace(" ", "_")])
        found.append(Recording(row.video, path, row.split, row.label, begin_s, end_s, take))
    return found


def _stems(row: Listed) -> list[str]:
    """How mirrors name the file of a clip: by its start with six digits, plain, or with start and end in ms."""
    if row.start_s is None:
        return []
    end_s = row.start_s + int(_CLIP_S)
    return [
        f"{row.video}_{row.start_s:06d}",
        f"{row.video}_{row.start_s}",
        f"{row.video}_{row.start_s * 1000}_{end_s * 1000}",
        f"{row.video}_{row.start_s}_{end_s}",
    ]
