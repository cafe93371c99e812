"""One video to one shard: what a worker does, and what stays of it in the work folder of a preparation.

A shard holds the samples of one file end to end: frame (3, height, width) uint8, then log-mel (1, mels, frames)
float32. The journal, one JSON line a finished file, says which sample is where and what was lost. A killed
preparation goes on from the journal; a file that changed since, or is asked for other windows, is decoded again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from avbench.data.audio import Filters, LogMel
from avbench.data.video import ClipFormat, Lost, read_clips
from avbench.data.windows import BrokenVideo, Loss, Take, Window, windows_of

#: Raise it when the bytes of a shard or what decodes to them change.
_SHARD_FORMAT = 1


@dataclass(frozen=True)
class Recipe:
    """How windows become samples."""

    duration_s: float
    clip_format: ClipFormat
    log_mel: LogMel

    @property
    def frame_shape(self) -> tuple[int, int, int]:
        return (3, self.clip_format.height, self.clip_format.width)

    @property
    def frame_bytes(self) -> int:
        return int(np.prod(self.frame_shape))

    @property
    def sample_bytes(self) -> int:
        return self.frame_bytes + 4 * int(np.prod(self.log_mel.shape))


class Stretch(NamedTuple):
    """Which windows of a file are wanted, see :func:`avbench.data.windows.windows_of`."""

    take: Take
    begin_s: float
    end_s: float | None


@dataclass(frozen=True)
class Task:
    """A file with its stretches; ``key`` names its shard and tells whether an older one is still right."""

    path: Path
    stretches: tuple[Stretch, ...]
    key: str


@dataclass(frozen=True)
class Done:
    """What became of a task: for each stretch the samples (number in the shard, start in seconds) and the losses."""

    key: str
    kept: tuple[tuple[tuple[int, float], ...], ...]
    lost: tuple[tuple[tuple[float | None, str, str], ...], ...]

    @classmethod
    def nothing(cls, task: Task, reason: Loss, detail: str) -> Done:
        """Every stretch of the task is lost for one reason."""
        each = ((None, str(reason), detail),)
        return cls(task.key, ((),) * len(task.stretches), (each,) * len(task.stretches))


def task_for(path: Path, stretches: Sequence[Stretch], recipe: Recipe) -> Task:
    """The task of a file as it is now: a replaced file gets another key."""
    stat = path.stat()
    about = [_SHARD_FORMAT, version("av"), str(path), stat.st_size, stat.st_mtime_ns, stretches, asdict(recipe)]
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    return Task(path, tuple(stretches), key)


def shard_path(folder: Path, key: str) -> Path:
    """Shards are spread over folders: some file systems are slow with 200,000 files in one."""
    return folder / key[:2] / f"{key}.samples"


def decode_task(task: Task, recipe: Recipe, filters: Filters, folder: Path) -> Done:
    """Decode a file and write its shard; a shard is whole or absent."""
    target = shard_path(folder, task.key)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}")
    choice = _Choice(task.stretches, recipe.duration_s)
    numbers: dict[Window, int] = {}
    try:
        with temporary.open("wb") as file:
            for clip in read_clips(task.path, choice, recipe.clip_format):
                if isinstance(clip, Lost):
                    choice.lose(clip)
                    continue
                file.write(clip.frame.tobytes())
                file.write(recipe.log_mel.of(clip.waveform, filters).tobytes())
                numbers[clip.window] = len(numbers)
    except BrokenVideo as error:
        temporary.unlink(missing_ok=True)
        return Done.nothing(task, error.reason, error.detail)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    temporary.replace(target)
    return Done(task.key, choice.kept(numbers), choice.losses())


class _Choice:
    """The windows of several stretches of a file: each is decoded once, however many stretches want it."""

    def __init__(self, stretches: Sequence[Stretch], duration_s: float) -> None:
        self._stretches, self._duration_s = stretches, duration_s
        self._windows: list[list[Window]] = []
        self._losses: list[list[tuple[float | None, str, str]]] = [[] for _ in stretches]

    def __call__(self, file_s: float | None) -> list[Window]:
        for stretch, losses in zip(self._stretches, self._losses, strict=True):
            windows: list[Window] = []
            try:
                windows = windows_of(*stretch, self._duration_s, file_s)
            except BrokenVideo as error:
                losses.append((None, str(error.reason), error.detail))
            self._windows.append(windows)
        return sorted({w for windows in self._windows for w in windows}, key=lambda w: w.start_s)

    def lose(self, lost: Lost) -> None:
        for stretch, windows, losses in zip(self._stretches, self._windows, self._losses, strict=True):
            # Nobody promised the windows of a stretch without an end: that such a file has less is no loss.
            promised = stretch.end_s is not None or stretch.take == "centre" or lost.reason != Loss.PAST_END
            if lost.window in windows and (promised or len(windows) == 1):
                losses.append((lost.window.start_s, str(lost.reason), lost.detail))

    def kept(self, numbers: Mapping[Window, int]) -> tuple[tuple[tuple[int, float], ...], ...]:
        return tuple(tuple((numbers[w], w.start_s) for w in windows if w in numbers) for windows in self._windows)

    def losses(self) -> tuple[tuple[tuple[float | None, str, str], ...], ...]:
        return tuple(map(tuple, self._losses))


def read_samples(
    path: Path, numbers: Sequence[int], recipe: Recipe
) -> Iterator[tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]]:
    """Samples of a shard by number: (log-mel, frame)."""
    with path.open("rb") as file:
        for number in numbers:
            file.seek(number * recipe.sample_bytes)
            raw = file.read(recipe.sample_bytes)
            frame = np.frombuffer(raw, np.uint8, recipe.frame_bytes).reshape(recipe.frame_shape)
            mel = np.frombuffer(raw, np.float32, offset=recipe.frame_bytes).reshape(recipe.log_mel.shape)
            yield mel, frame


class Journal:
    """The finished tasks of a work folder, appended line by line."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "journal.jsonl"
        self.done = {done.key: done for done in self._read()}
        # A last line that a kill cut short must not run into the next one.
        self._file = self._path.open("a", encoding="utf-8")
        self._file.write("\n")

    def _read(self) -> Iterator[Done]:
        if not self._path.is_file():
            return
        with self._path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    values = json.loads(line)
                    done = Done(values["key"], _tuples(values["kept"]), _tuples(values["lost"]))
                except (ValueError, KeyError, TypeError):
                    continue
                size = 1 + max((n for kept in done.kept for n, _ in kept), default=-1)
                if not size or shard_path(self.folder, done.key).is_file():
                    yield done

    def add(self, done: Done) -> None:
        self.done[done.key] = done
        self._file.write(json.dumps(asdict(done)) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _tuples(values: Any) -> Any:
    return tuple(map(_tuples, values)) if isinstance(values, list) else values
