"""The files of the AVDD authors' release: which there are, and what each holds, before any sample is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from avbench.api import RequestError
from avbench_datasets._faults import fail
from avbench_datasets._pt import FrameReader, SoundReader, TensorFile, open_file, read_labels

#: Folders between --source and the release's own, such as ``data/``.
_DEEPEST_FOLDERS = 3


@dataclass(frozen=True)
class Part:
    """One file, or one split in it: the keys under which its samples stand, and their classes."""

    path: Path
    split: str
    frames_key: str
    audio_key: str
    labels: npt.NDArray[np.int64]
    frame_shape: tuple[int, ...]
    audio_shape: tuple[int, ...]
    class_names: tuple[str, ...]


class ReleaseFiles:
    """The files of one dataset under a user's folder.

    Args:
        name: as the release spells the dataset.
        say: is told when a file has to be read whole.
    """

    def __init__(self, source: Path, name: str, say: Callable[[str], None]) -> None:
        self.source, self.name, self._say = source, name, say

    def parts(self) -> list[Part]:
        """Every file with samples, training files first.

        Raises:
            RequestError: files are absent, damaged, or hold something else than the release does.
        """
        return [*self._train_parts(), *self._test_parts()]

    def _open(self, path: Path) -> TensorFile:
        return open_file(path, self._say)

    def _train_parts(self) -> list[Part]:
        """Train from its one file where there is one, else from a file a class."""
        name = self.name
        whole = self._find(f"train_data/{name}_train.pt", f"{name}_train.pt")
        if whole is not None:
            return [self._whole(whole, "train")]
        folder = self._find(f"classwise_train_data/class_wise_{name}", f"class_wise_{name}")
        if folder is None or not folder.is_dir():
            raise RequestError(
                f"{self.source}/ holds neither train_data/{name}_train.pt nor classwise_train_data/class_wise_{name}/; "
                "docs/datasets/release.md says what to download, and archives must be unpacked."
            )
        files = _numbered(folder)
        return [self._class_file(path, cls) for cls, path in enumerate(files)]

    def _test_parts(self) -> list[Part]:
        name = self.name
        test = self._find(f"test_data/{name}_test.pt", f"{name}_test.pt")
        if test is not None:
            return [self._whole(test, "test")]
        # The authors' own preprocessing scripts write both splits into one file.
        both = self._find(f"train_data/{name}_train.pt", f"{name}_train.pt")
        if both is not None and "images_test" in self._open(both).values:
            return [self._whole(both, "test")]
        raise RequestError(
            f"{self.source}/ holds no test_data/{name}_test.pt: without a test split nothing can be judged. "
            "docs/datasets/release.md says what to download."
        )

    def _find(self, *names: str) -> Path | None:
        """The first of these paths under the source or up to three folders down, the least deep one."""
        for depth in range(_DEEPEST_FOLDERS + 1):
            for name in names:
                found = sorted(self.source.glob("*/" * depth + name))
                if found:
                    return found[0]
        return None

    def _whole(self, path: Path, split: str) -> Part:
        file = self._open(path)
        labels = read_labels(path, f"labels_{split}", file)
        return self._part(file, split, f"images_{split}", f"audio_{split}", labels)

    def _class_file(self, path: Path, cls: int) -> Part:
        file = self._open(path)
        labels = np.full(len(file.tensor("images")), cls, np.int64)
        return self._part(file, "train", "images", "audio", labels)

    def _part(
        self, file: TensorFile, split: str, frames_key: str, audio_key: str, labels: npt.NDArray[np.int64]
    ) -> Part:
        frames, audio = file.tensor(frames_key), file.tensor(audio_key)
        FrameReader(file.path, frames_key, frames[:0])
        SoundReader(file.path, audio_key, audio[:0])
        if not len(frames) == len(audio) == len(labels) or not len(labels):
            found = f"{frames_key} has {len(frames)} samples, {audio_key} {len(audio)}, their labels {len(labels)}"
            raise fail(file.path, found, "expected one of each, and at least one sample")
        names = file.values.get("classes")
        plausible = isinstance(names, list) and all(isinstance(name, str) for name in names)
        shapes = tuple(frames.shape[1:]), tuple(audio.shape[1:])
        return Part(file.path, split, frames_key, audio_key, labels, *shapes, tuple(names or ()) if plausible else ())


def _numbered(folder: Path) -> list[Path]:
    """``train_0.pt``, ``train_1.pt`` and so on.

    Raises:
        RequestError: there is none, or a number is missing between others.
    """
    found = {int(m[1]): path for path in folder.iterdir() if (m := re.fullmatch(r"train_(\d+)\.pt", path.name))}
    missing = [cls for cls in range(max(found, default=0) + 1) if cls not in found]
    if missing:
        names = enumerated([f"train_{cls}.pt" for cls in missing])
        raise RequestError(f"{folder}/ lacks {names}: the release has one file a class, from train_0.pt on.")
    return [found[cls] for cls in range(len(found))]


def enumerated(names: Sequence[str]) -> str:
    """The first three of them, and how many more there are."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
