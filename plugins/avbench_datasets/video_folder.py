"""A user's own videos in folders: one a class, or one a split with one a class inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from avbench.api import (
    ClipOptions,
    Dataset,
    Loss,
    MediaIndex,
    Plan,
    PrepareContext,
    Recording,
    Store,
    carve,
    option,
    prepare_clips,
)
from avbench_datasets._video import SPLIT_WORDS, folder_of, index_of


@dataclass(frozen=True)
class FolderConfig(ClipOptions):
    """Options of a folder of videos."""

    take: Literal["every", "centre"] = option(
        "every", "which samples of a video: every window from its start on, or the one in its middle"
    )
    test_fraction: float = option(0.2, "share of the videos that becomes test where the folders name no split")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.test_fraction < 1.0:
            raise ValueError(f"test_fraction = {self.test_fraction:g}: expected a share between 0 and 1.")


class Folder(Dataset):
    """Your own videos: folders CLASS/*.mp4 (split drawn by video) or SPLIT/CLASS/*.mp4 (.webm, .mkv, .avi, .mov)."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = FolderConfig

    config: FolderConfig

    def prepare(self, context: PrepareContext) -> Store:
        """Read the tree, split it where it is not, decode and write the store.

        Raises:
            RequestError: there is no video under the source.
        """
        source = folder_of(context, "folder")
        plan = self._plan(index_of(source, "folder"))
        if not any(r.split == "test" for r in plan.recordings):
            plan = carve(plan, "train", "test", self.config.test_fraction, self.config.seed)
        return prepare_clips(plan, self.config, context)

    def _plan(self, index: MediaIndex) -> Plan:
        places = [(path, path.relative_to(index.folder).parts) for path in index.files()]
        by_split = any(parts[0].lower() in SPLIT_WORDS and len(parts) > 2 for _, parts in places)
        found, lost = [], []
        for path, parts in places:
            split = SPLIT_WORDS.get(parts[0].lower(), "") if by_split else "train"
            inside = parts[1:] if by_split else parts
            if not split or len(inside) < 2:
                what = "lies in no folder of a split" if not split else "lies in no folder of a class"
                lost.append((path.name, Loss.UNKNOWN_LABEL, what))
                continue
            # The id leaves the split out: the same video in two splits is then seen to be one.
            video = "/".join((*inside[:-1], Path(inside[-1]).stem))
            found.append(Recording(video, path, split, inside[0], take=self.config.take))
        return Plan(
            dataset="folder",
            dataset_version=self.version,
            recordings=found,
            classes=sorted({r.label for r in found}),
            licence="not stated: the user's own data",
            citation="",
            lost=lost,
        )
