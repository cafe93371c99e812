"""Decoding with PyAV: the waveform and the frame of each requested window, each stream decoded at most once.

Sound and the times of all frames are read first; then, of the pictures, only what the wanted frames depend on is
decoded: from the keyframe before each to the frame itself, without those frames that nothing else refers to.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import numpy.typing as npt

from avbench.data.pictures import Pictures
from avbench.data.sound import Sound
from avbench.data.windows import COVERED_SHARE, SEEK_GAP_S, BrokenVideo, FrameRule, Loss, Window, spans

#: Read before a span when seeking, so that audio decoders and the resampler have settled.
_PREROLL_S = 0.5
#: Read after a span: streams are interleaved loosely, and the resampler looks ahead.
_MARGIN_S = 0.5
#: A file that ends this much before it says is truncated.
_TRUNCATED_S = 0.5
_MICROSECONDS = 1_000_000
#: Formats whose files hold all they show. FFmpeg goes by contents: a playlist named clip.mp4 would open other files and
#: addresses.
_CONTAINED = {
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,ogg,asf",
    "protocol_whitelist": "file",
}
#: A header may promise a frame of gigabytes; the largest that cameras make (8K) has half of this.
_DECODED = {"max_pixels": str(1 << 26)}
#: How the containers of the field begin: (offset, bytes). Such a file is media, if it can't be opened it is cut.
_SIGNATURES = ((4, b"ftyp"), (0, b"\x1a\x45\xdf\xa3"), (0, b"RIFF"), (4, b"moov"), (4, b"mdat"), (4, b"free"))


@dataclass(frozen=True)
class ClipFormat:
    """What every sample of a dataset looks like before the log-mel."""

    height: int
    width: int
    sample_rate_hz: int
    frame_rule: FrameRule


class Clip(NamedTuple):
    """A decoded window: waveform (n,) float32 and frame (3, height, width) uint8; or why there is none."""

    window: Window
    waveform: npt.NDArray[np.float32]
    frame: npt.NDArray[np.uint8]


class Lost(NamedTuple):
    """A window that gives no sample."""

    window: Window
    reason: Loss
    detail: str


def read_clips(
    path: Path, choose: Callable[[float | None], Sequence[Window]], clip_format: ClipFormat
) -> Iterator[Clip | Lost]:
    """Decode the windows of a file, in the order of time; memory is bounded by a minute of the file.

    Args:
        choose: the windows, given the length of the file in seconds (``None`` where it does not say).

    Raises:
        BrokenVideo: nothing can be read from the file.
    """
    with _opened(path) as file:
        wanted = list(spans(choose(file.declared_s)))
        for number, group in enumerate(wanted):
            yield from _read_span(file, group, clip_format, first=number == 0)


@dataclass
class _File:
    """An open container with its best streams."""

    container: Any
    video: Any
    audio: Any
    origin_s: float
    declared_s: float | None

    def __post_init__(self) -> None:
        # As floats: exact to well below a sample, where fractions took a quarter of the time of reading.
        self.tick_s = float(self.video.time_base)
        self._tick_s = {self.video.index: self.tick_s, self.audio.index: float(self.audio.time_base)}

    def time_s(self, stamp: int, stream: Any) -> float:
        """A time stamp of one of the two streams, in seconds from the file's start."""
        return stamp * self._tick_s[stream.index] - self.origin_s


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[_File]:
    """Open a file and choose its streams.

    Raises:
        BrokenVideo: absent, empty, not media, truncated beyond opening, or without sound or pictures.
    """
    if not path.is_file():
        raise BrokenVideo(Loss.MISSING, f"there is no file {path.name}")
    if path.stat().st_size == 0:
        raise BrokenVideo(Loss.EMPTY, "the file has no bytes")
    try:
        # Absolute: FFmpeg takes what stands before a colon for a protocol.
        container = av.open(str(path.absolute()), metadata_errors="ignore", container_options=_CONTAINED)
    except (av.FFmpegError, OSError, ValueError) as error:
        reason = Loss.TRUNCATED if _is_media(path) else Loss.NOT_MEDIA
        raise BrokenVideo(reason, _told(error)) from None
    with container:
        video, audio = container.streams.best("video"), container.streams.best("audio")
        if video is None:
            raise BrokenVideo(Loss.NO_VIDEO, "the file has no video stream")
        if audio is None:
            raise BrokenVideo(Loss.NO_AUDIO, "the file has no audio stream")
        for stream in (video, audio):
            if stream.codec_context is None:
                raise BrokenVideo(Loss.UNDECODABLE, f"there is no decoder for its {stream.type}")
            # One process per core decodes faster than threads do, and gives the same bits on any machine.
            stream.codec_context.thread_count = 1
            stream.codec_context.options = _DECODED
        # A start before zero is an encoder's delay, which FFmpeg 8.1 drops in Matroska and older ones let through.
        origin_s = max(container.start_time or 0, 0) / _MICROSECONDS
        yield _File(container, video, audio, origin_s, _declared_s(container))


def _declared_s(container: Any) -> float | None:
    """How long the file says it is, from the start of its earliest stream; ``None`` where it does not say."""
    if not container.duration:
        return None
    # These headers count from the container's zero, not from the first stream's start.
    from_zero = any(name in container.format.name for name in ("matroska", "mov"))
    start = max(container.start_time or 0, 0) if from_zero else 0
    return float((container.duration - start) / _MICROSECONDS)


def _is_media(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(16)
    return any(head[at : at + len(sign)] == sign for at, sign in _SIGNATURES)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


@dataclass
class _Span:
    """What one go through the packets gathered."""

    sound: Sound
    packets: list[Any] = field(default_factory=list)
    video_begin_s: float = math.inf
    video_end_s: float = -math.inf
    ended: bool = False  # the file did, or reading it
    audio_faults: int = 0


def _read_span(file: _File, group: list[Window], clip_format: ClipFormat, first: bool) -> Iterator[Clip | Lost]:
    """Read one group of windows; where a seek landed too late, read again from the file's start."""
    seek_s = group[0].start_s - _PREROLL_S if group[0].start_s > SEEK_GAP_S or not first else None
    span = _gather(file, group, clip_format, seek_s)
    if seek_s is not None and _begins_late(span, group[0], clip_format):
        span = _gather(file, group, clip_format, 0.0)
    kept = []
    for window in group:
        lost = _lost(file, span, window)
        if lost is not None:
            yield lost
        else:
            kept.append(window)
    if not kept:
        return
    pictures = Pictures(file.video, span.packets, file.origin_s, clip_format.height, clip_format.width)
    frames = pictures.shown_before([w.frame_before_s(clip_format.frame_rule) for w in kept])
    for window, waveform, frame in zip(kept, span.sound.cut(kept), frames, strict=True):
        if frame is None:
            yield Lost(window, Loss.UNDECODABLE, "its frame can't be decoded")
        else:
            yield Clip(window, waveform, frame)


def _begins_late(span: _Span, window: Window, clip_format: ClipFormat) -> bool:
    """Whether what was read begins after the wanted sound or frame, as where an index is wrong or absent."""
    return span.video_begin_s > window.frame_before_s(clip_format.frame_rule) or span.sound.begin_s > window.start_s


def _gather(file: _File, group: list[Window], clip_format: ClipFormat, seek_s: float | None) -> _Span:
    """Decode the sound of a stretch of the file and keep the packets of its pictures."""
    span = _Span(Sound(clip_format.sample_rate_hz))
    begin_s, end_s = group[0].start_s - _PREROLL_S, group[-1].end_s + _MARGIN_S
    if seek_s is not None:
        with contextlib.suppress(av.FFmpegError):  # a file that can't be sought is read from where it stands
            file.container.seek(round((seek_s + file.origin_s) * _MICROSECONDS))
    passed: set[str] = set()
    try:
        for packet in file.container.demux(file.video, file.audio):
            stamp = packet.dts if packet.dts is not None else packet.pts
            if packet.size == 0:
                continue  # PyAV's mark of the end of a stream
            at_s = file.time_s(stamp, packet.stream) if stamp is not None else begin_s
            if at_s > end_s:
                passed.add(packet.stream.type)
            if packet.stream is file.video:
                _note_picture(file, span, packet, at_s <= end_s)
            elif begin_s <= at_s <= end_s:
                _hear(file, span, packet)
            if len(passed) == 2:
                return span
        _hear(file, span, None)
    except (av.FFmpegError, OSError):
        pass  # what was read until here counts; what lacks is told window by window
    span.ended = True
    return span


def _note_picture(file: _File, span: _Span, packet: Any, within: bool) -> None:
    shown_s = file.time_s(packet.pts if packet.pts is not None else packet.dts or 0, file.video)
    length_s = (packet.duration or 0) * file.tick_s or 1.0 / float(file.video.average_rate or 25)
    span.video_begin_s = min(span.video_begin_s, shown_s)
    # A later frame proves that the one before it is shown until then, whatever their durations say.
    span.video_end_s = max(span.video_end_s, shown_s + (length_s if within else 0.0))
    if within:
        span.packets.append(packet)


def _hear(file: _File, span: _Span, packet: Any) -> None:
    try:
        for frame in file.audio.codec_context.decode(packet):
            time_s = file.time_s(frame.pts, file.audio) if frame.pts is not None else None
            span.sound.add(frame, time_s)
    except (av.FFmpegError, ValueError):
        span.audio_faults += 1


def _lost(file: _File, span: _Span, window: Window) -> Lost | None:
    """Why a window can't become a sample; ``None`` where it can."""
    ends_s = {"sound": span.sound.end_s, "pictures": span.video_end_s}
    shares = {
        "sound": window.covered_share(span.sound.begin_s, span.sound.end_s),
        "pictures": window.covered_share(span.video_begin_s, span.video_end_s),
    }
    short = [name for name, share in shares.items() if share < COVERED_SHARE]
    if not short:
        return None
    if span.audio_faults and not math.isfinite(span.sound.end_s):
        return Lost(window, Loss.UNDECODABLE, "its sound can't be decoded")
    at = f"{window.start_s:g} to {window.end_s:g} s"
    declared_s = file.declared_s or 0.0
    if span.ended and max(ends_s.values()) < min(declared_s - _TRUNCATED_S, window.end_s):
        return Lost(window, Loss.TRUNCATED, f"{at} was asked, the file breaks off before its {declared_s:.1f} s")
    said = " and ".join(f"{shares[name]:.0%} of its {name}" for name in short)
    return Lost(window, Loss.PAST_END, f"{at} was asked, the file has {said}")
