"""Decoded audio on a timeline: gaps become silence, channels their mean, any rate the one that is asked for."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from avbench.data.windows import BrokenVideo, Loss, Window

#: A frame this far from where the last one ended is a gap or an overlap; below it, timestamps are merely rounded.
_GAP_S = 0.1
_FULL_SCALE = {"s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63}


class Sound:
    """Collects the decoded frames of a stretch of a file, then cuts windows from them at ``rate_hz``."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self._source_hz = 0
        self._first = 0  # index of the first sample on the source's timeline, where 0 is the file's start
        self._next = 0
        self._parts: list[npt.NDArray[np.float32]] = []

    @property
    def begin_s(self) -> float:
        return self._first / self._source_hz if self._parts else math.inf

    @property
    def end_s(self) -> float:
        return self._next / self._source_hz if self._parts else -math.inf

    def add(self, frame: av.AudioFrame, time_s: float | None) -> None:
        """Append a frame that starts at ``time_s``; ``None``: where the last one ended.

        Raises:
            BrokenVideo: the sample rate changes within the stream.
        """
        mono = mean_of_channels(frame)
        rate_hz = frame.sample_rate
        if not self._parts:
            self._source_hz = rate_hz
            self._first = self._next = round((time_s or 0.0) * rate_hz)
        elif rate_hz != self._source_hz:
            found = f"the sample rate changes from {self._source_hz} to {rate_hz} Hz"
            raise BrokenVideo(Loss.UNDECODABLE, found)
        elif time_s is not None:
            gap = round(time_s * rate_hz) - self._next
            if gap > _GAP_S * rate_hz:
                self._append(np.zeros(gap, np.float32))
            elif -gap > _GAP_S * rate_hz:
                mono = mono[-gap:]  # heard already
        self._append(mono)

    def _append(self, samples: npt.NDArray[np.float32]) -> None:
        self._parts.append(samples)
        self._next += len(samples)

    def cut(self, windows: list[Window]) -> list[npt.NDArray[np.float32]]:
        """The waveform (n,) of each window; silent where there was no sound."""
        lengths = [round(w.duration_s * self.rate_hz) for w in windows]
        if not self._parts:
            return [np.zeros(length, np.float32) for length in lengths]
        # Resampling starts at an instant that is a whole number of samples at both rates.
        step = self._source_hz // math.gcd(self._source_hz, self.rate_hz)
        start = self._first // step * step
        silence = np.zeros(self._first - start, np.float32)
        resampled = _resample(np.concatenate([silence, *self._parts]), self._source_hz, self.rate_hz)
        begin = start * self.rate_hz // self._source_hz
        return [
            _slice(resampled, round(w.start_s * self.rate_hz) - begin, length)
            for w, length in zip(windows, lengths, strict=True)
        ]


def _slice(values: npt.NDArray[np.float32], start: int, length: int) -> npt.NDArray[np.float32]:
    """``values[start : start + length]``, zero outside of ``values``."""
    result = np.zeros(length, np.float32)
    first, last = max(start, 0), min(start + length, len(values))
    if last > first:
        result[first - start : last - start] = values[first:last]
    return result


def mean_of_channels(frame: av.AudioFrame) -> npt.NDArray[np.float32]:
    """The mean of a frame's channels (n,), in [-1, 1].

    The plain mean of the AVDD code; FFmpeg's own downmix weighs the channels of 5.1.
    """
    raw: npt.NDArray[Any] = frame.to_ndarray()
    kind = frame.format.name.removesuffix("p")
    if not frame.format.is_planar:
        raw = raw.reshape(-1, frame.layout.nb_channels).T
    if kind == "u8":
        raw = (raw.astype(np.float32) - 128.0) / 128.0
    # In float64: the mean of equal channels is then exactly the channel.
    mono = raw.mean(axis=0, dtype=np.float64) / _FULL_SCALE.get(kind, 1.0)
    result: npt.NDArray[np.float32] = mono.astype(np.float32)
    return result


def _resample(mono: npt.NDArray[np.float32], from_hz: int, to_hz: int) -> npt.NDArray[np.float32]:
    """``mono`` at another rate, by FFmpeg's resampler with its own settings."""
    if from_hz == to_hz:
        return mono
    frame = av.AudioFrame.from_ndarray(mono[None], "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = from_hz, 0, Fraction(1, from_hz)
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=to_hz)
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    result: npt.NDArray[np.float32] = np.concatenate([piece.to_ndarray()[0] for piece in pieces])
    return result
