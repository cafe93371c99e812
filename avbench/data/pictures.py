"""From the packets of a stretch of video to the few frames that are wanted, decoding no more than they depend on."""

from __future__ import annotations

import bisect
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter

Frame = npt.NDArray[np.uint8]

_QUARTER_TURN = 90
#: FFmpeg's name of a container whose packets carry no times of presentation.
_UNTIMED = "avi"


class Pictures:
    """The frames of a stretch, given its packets in the order of decoding.

    Args:
        stream: the video stream; its decoder is left flushed.
        packets: from a keyframe on.
        height, width: the size to which frames are stretched, after their rotation is applied.
    """

    def __init__(self, stream: Any, packets: Sequence[Any], origin_s: float, height: int, width: int) -> None:
        self._stream, self._packets, self._origin_s = stream, packets, origin_s
        self._height, self._width = height, width
        self._reformatter = VideoReformatter()
        self._stamps = sorted(p.pts if p.pts is not None else p.dts or 0 for p in packets)
        # In AVI and where times lack, the n-th frame that comes out is shown at the n-th time.
        self._timed = _UNTIMED not in stream.container.format.name and all(p.pts is not None for p in packets)

    def shown_before(self, instants_s: Sequence[float]) -> list[Frame | None]:
        """For each instant the last frame that starts before it, the first frame where none does.

        ``None`` where the frame can't be decoded.
        """
        if not self._stamps:
            return [None] * len(instants_s)
        wanted = [self._stamp_before(instant_s) for instant_s in instants_s]
        found: dict[int, Frame] = {}
        for stamp, frame in self._decoded(sorted(set(wanted))):
            if stamp not in found:
                found[stamp] = self._shaped(frame)
        return [found.get(stamp) for stamp in wanted]

    def _stamp_before(self, instant_s: float) -> int:
        limit = (instant_s + self._origin_s) / float(self._stream.time_base)
        return self._stamps[max(0, bisect.bisect_left(self._stamps, limit) - 1)]

    def _decoded(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """The wanted stamps with their frames; where decoding only part fails to give one, all is decoded."""
        missing = set(wanted)
        if self._timed:
            for frame in self._needed(missing):
                if frame.pts in missing:
                    missing.discard(frame.pts)
                    yield frame.pts, frame
        if missing:
            yield from self._in_order(sorted(missing))

    def _needed(self, wanted: set[int]) -> Iterator[Any]:
        """Frames, decoded from the keyframe before each wanted one up to it."""
        decoder, fed, key = self._stream.codec_context, 0, 0
        keys = [i for i, packet in enumerate(self._packets) if packet.is_keyframe]
        for position, packet in enumerate(self._packets):
            if packet.pts not in wanted:
                continue
            # A frame that is shown before the keyframe that precedes it in the file depends on the one before.
            for candidate in keys:
                if key < candidate <= position and self._packets[candidate].pts <= packet.pts:
                    key = candidate
            if key > fed:
                yield from self._drained()
                fed = key
            for each in self._packets[fed : position + 1]:
                # Frames that no other refers to are left out, unless wanted.
                decoder.skip_frame = "DEFAULT" if each.pts in wanted else "NONREF"
                yield from _decode(decoder, each)
            fed = position + 1
        decoder.skip_frame = "DEFAULT"
        yield from self._drained()

    def _drained(self) -> Iterator[Any]:
        """What the decoder still holds; then it is as new."""
        yield from _decode(self._stream.codec_context, None)
        self._stream.codec_context.flush_buffers()

    def _in_order(self, wanted: list[int]) -> Iterator[tuple[int, Any]]:
        """Decode everything; frames are told apart by their times, or by their order where those can't be trusted."""
        last: Any = None
        left = list(wanted)
        for number, frame in enumerate(self._all()):
            ranked = self._stamps[min(number, len(self._stamps) - 1)]
            stamp = frame.pts if self._timed and frame.pts is not None else ranked
            while left and stamp > left[0] and last is not None:
                yield left.pop(0), last
            last = frame
        if last is not None:
            yield from ((stamp, last) for stamp in left)

    def _all(self) -> Iterator[Any]:
        self._stream.codec_context.flush_buffers()
        for packet in self._packets:
            yield from _decode(self._stream.codec_context, packet)
        yield from self._drained()

    def _shaped(self, frame: Any) -> Frame:
        """A frame as RGB (3, height, width), upright and stretched."""
        turns = round(frame.rotation / _QUARTER_TURN) % 4
        height, width = (self._width, self._height) if turns % 2 else (self._height, self._width)
        image = np.rot90(self._stretched(frame, height, width), k=turns)
        return np.ascontiguousarray(image.transpose(2, 0, 1))

    def _stretched(self, frame: Any, height: int, width: int) -> Frame:
        """A frame as RGB (height, width, 3)."""
        asked: dict[str, Any] = {"width": width, "height": height, "format": "rgb24", "interpolation": "BILINEAR"}
        try:
            # PyAV would start a thread per core for every file, in every worker.
            small = self._reformatter.reformat(frame, **asked, threads=1)
        except TypeError:  # an older PyAV, which starts none
            small = self._reformatter.reformat(frame, **asked)
        image: Frame = small.to_ndarray().astype(np.uint8, copy=False)
        return image


def _decode(decoder: Any, packet: Any) -> list[Any]:
    try:
        frames: list[Any] = decoder.decode(packet)
    except (av.FFmpegError, EOFError):
        return []  # damage here may leave the wanted frames whole
    return frames
