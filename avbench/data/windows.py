"""Which seconds of a file become samples, and which frame stands for each.

Times are presentation times in seconds from the start of the file's earliest stream, as FFmpeg counts them for
``-ss`` before ``-i``: where sound starts at 1.0 s of the container's clock and pictures at 1.5 s, time 0 is the
first sound and the pictures start at 0.5 s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

#: ``every``: each non-overlapping window from the beginning on; ``centre``: the one window in the middle.
Take = Literal["every", "centre"]
#: ``centre``: the frame shown in the middle of the window (the paper). ``grid``: of eight frames a second the
#: fourth, as FFmpeg's filter ``fps=8`` gives them (the AVDD code for AVE).
FrameRule = Literal["centre", "grid"]

_GRID_FPS, _GRID_INDEX = 8, 3
#: Times in files are rounded (Matroska: to 1 ms, floats: to less); this much counts as the same instant.
_INSTANT_S = 1e-6
#: A file a little shorter than whole windows still gives its last one: encoders round lengths to their frames.
_SHORT_SHARE = 0.05
#: A window needs at least this share of sound and of pictures; what is missing of the sound is silence.
COVERED_SHARE = 0.5
#: Windows further apart are read by seeking: reading on would take longer (benchmarks/speed/preparing.py).
SEEK_GAP_S = 5.0
#: The most that is read at once; it bounds the memory of a worker.
_LONGEST_SPAN_S = 60.0
#: No file of the field is longer; damaged headers promise centuries.
_LONGEST_FILE_S = 86_400.0


class Loss(StrEnum):
    """Why a sample could not be made. The words are those of ``prepare-report.json``."""

    MISSING = "missing"
    EMPTY = "empty"
    NOT_MEDIA = "not-media"
    TRUNCATED = "truncated"
    NO_AUDIO = "no-audio"
    NO_VIDEO = "no-video"
    PAST_END = "interval-past-end"
    UNKNOWN_LABEL = "unknown-label"
    UNDECODABLE = "undecodable"
    CRASHED = "decoder-crashed"
    STUCK = "decoder-stuck"


class BrokenVideo(Exception):  # noqa: N818 - a fact about a file, which is counted, rather than an error of ours
    """A file, or a window of it, that gives no sample; never seen by users, but counted by its reason."""

    def __init__(self, reason: Loss, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Window:
    """A stretch of a file that becomes one sample."""

    start_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s

    def frame_before_s(self, rule: FrameRule) -> float:
        """The frame is the last one that starts before this instant."""
        if rule == "centre":
            return self.start_s + self.duration_s / 2 + _INSTANT_S
        middle_second_s = self.start_s + (self.duration_s - 1.0) / 2 if self.duration_s > 1.0 else self.start_s
        # fps=8 moves each frame to the nearest point of the grid, halves up; a point shows the last one moved there.
        return middle_second_s + (_GRID_INDEX + 0.5) / _GRID_FPS - _INSTANT_S

    def covered_share(self, begin_s: float, end_s: float) -> float:
        """The share of the window that lies in [begin_s, end_s]."""
        return max(0.0, min(end_s, self.end_s) - max(begin_s, self.start_s)) / self.duration_s


def windows_of(
    take: Take, begin_s: float, end_s: float | None, duration_s: float, file_s: float | None
) -> list[Window]:
    """The windows of ``duration_s`` in a stretch of a file.

    Args:
        begin_s, end_s: the stretch; ``None``: to the end of the file.
        file_s: the length of the file, as it declares it; ``None`` where it does not.

    Raises:
        BrokenVideo: the stretch has no whole window, or no known end.
    """
    until_s = end_s if end_s is not None else file_s
    if until_s is None:
        raise BrokenVideo(Loss.UNDECODABLE, "the file does not say how long it is")
    if not until_s - begin_s <= _LONGEST_FILE_S:  # a header's word, for which no list of windows is made; NaN too
        raise BrokenVideo(Loss.UNDECODABLE, f"{begin_s:g} to {until_s:g} s is more than a day, or no time")
    whole = int((until_s - begin_s) / duration_s + _SHORT_SHARE + _INSTANT_S)
    if whole < 1:
        found = f"{begin_s:g} to {until_s:.2f} s holds no window of {duration_s:g} s"
        raise BrokenVideo(Loss.PAST_END, found)
    if take == "centre":
        return [Window(max(begin_s, (begin_s + until_s - duration_s) / 2), duration_s)]
    return [Window(begin_s + i * duration_s, duration_s) for i in range(whole)]


def spans(windows: Sequence[Window]) -> Iterator[list[Window]]:
    """``windows``, sorted by start, in groups that are each read in one go."""
    group: list[Window] = []
    for window in sorted(windows, key=lambda w: w.start_s):
        far = group and window.start_s - group[-1].end_s > SEEK_GAP_S
        if far or (group and window.end_s - group[0].start_s > _LONGEST_SPAN_S):
            yield group
            group = []
        group.append(window)
    if group:
        yield group
