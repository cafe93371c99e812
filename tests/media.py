"""Real media files for the tests, made with PyAV: every frame tells its number, every second has a tone of its own.

A frame is ten vertical stripes, black or white: its number in binary, the lowest bit on the left. The sound of
second ``s`` is a tone of ``300 + 200·s`` Hz. So a decoded frame says which one it is, and a waveform which second.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

BITS = 10
#: What a user calls a codec → FFmpeg's encoder, its options, and the sample format that it takes.
VIDEO = {
    "h264": ("libx264", {"preset": "ultrafast", "bf": "2", "crf": "23"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1": ("libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
    "mpeg4": ("mpeg4", {"bf": "2", "qscale": "3"}),
}
AUDIO = {
    "aac": ("aac", "fltp"),
    "opus": ("libopus", "flt"),
    "mp3": ("libmp3lame", "fltp"),
    "pcm": ("pcm_s16le", "s16"),
}
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


@dataclass(frozen=True)
class Media:
    """What to make. ``None`` for ``video`` or ``audio`` leaves that stream out.

    Attributes:
        times_s: presentation time of each frame; ``None``: ``fps`` frames a second for ``video_s``.
        video_offset_s, audio_offset_s: when each stream starts.
        audio_s: length of the sound; ``None``: as long as the video.
        tone_hz: the tone of a second; ``None``: 300 + 200·s.
        keyframe_every: frames between keyframes.
    """

    video: str | None = "h264"
    audio: str | None = "aac"
    width: int = 160
    height: int = 120
    fps: int = 25
    video_s: float = 3.0
    audio_s: float | None = None
    rate_hz: int = 44_100
    channels: int = 2
    times_s: tuple[float, ...] | None = None
    video_offset_s: float = 0.0
    audio_offset_s: float = 0.0
    rotate: int = 0
    keyframe_every: int = 12
    tone_hz: Callable[[int], float] | None = None
    channel_gains: Sequence[float] = ()

    @property
    def frame_times_s(self) -> tuple[float, ...]:
        if self.times_s is not None:
            return self.times_s
        return tuple(i / self.fps for i in range(round(self.video_s * self.fps)))


def make(path: Path, media: Media | None = None) -> Path:
    """Write a file; its suffix chooses the container."""
    media = media or Media()
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        makers = []
        if media.video:
            makers.append(_video(container, media))
        if media.audio:
            makers.append(_audio(container, media))
        _interleave(container, makers)
    if media.rotate:
        _rotate(path, media.rotate)
    return path


def _interleave(container: av.container.OutputContainer, makers: list[Iterator[tuple[float, list[av.Packet]]]]) -> None:
    """Mux the packets of all streams, the earliest first."""
    waiting = [next(maker, None) for maker in makers]
    while any(item is not None for item in waiting):
        first = min((i for i, item in enumerate(waiting) if item is not None), key=lambda i: waiting[i][0])
        container.mux(waiting[first][1])
        waiting[first] = next(makers[first], None)


def _video(container: av.container.OutputContainer, media: Media) -> Iterator[tuple[float, list[av.Packet]]]:
    encoder, options = VIDEO[media.video]
    stream = container.add_stream(encoder, rate=media.fps, options=options)
    stream.width, stream.height, stream.pix_fmt = media.width, media.height, "yuv420p"
    stream.codec_context.gop_size = media.keyframe_every
    stream.codec_context.thread_count = 1
    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000 if media.times_s else media.fps * 10)

    def packets() -> Iterator[tuple[float, list[av.Packet]]]:
        for number, time_s in enumerate(media.frame_times_s):
            frame = av.VideoFrame.from_ndarray(picture(number, media.width, media.height), "rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts = round((time_s + media.video_offset_s) / stream.codec_context.time_base)
            frame.time_base = stream.codec_context.time_base
            yield time_s + media.video_offset_s, stream.encode(frame)
        yield time_s + media.video_offset_s, stream.encode(None)

    return packets()


def picture(number: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """The frame that says ``number``: (height, width, 3)."""
    columns = np.arange(width) * BITS // width
    row = ((number >> columns) & 1) * 219 + 18
    return np.broadcast_to(row[None, :, None], (height, width, 3)).astype(np.uint8)


def number(frame: npt.NDArray[np.uint8]) -> int:
    """What a decoded frame (channels, height, width) says."""
    side = frame.shape[2]
    centres = ((np.arange(BITS) + 0.5) * side / BITS).astype(int)
    rows = slice(frame.shape[1] // 4, 3 * frame.shape[1] // 4)
    bits = frame[:, rows, centres].mean(axis=(0, 1)) > 127
    return int((bits << np.arange(BITS)).sum())


def tone_hz(second: int) -> float:
    return 300.0 + 200.0 * second


def sound(media: Media) -> npt.NDArray[np.float32]:
    """The waveform before encoding: (channels, samples)."""
    length_s = media.audio_s if media.audio_s is not None else len(media.frame_times_s) / media.fps
    time_s = np.arange(round(length_s * media.rate_hz)) / media.rate_hz
    hz = media.tone_hz or tone_hz
    frequencies = np.array([hz(second) for second in range(int(length_s) + 1)])[time_s.astype(int)]
    wave = 0.4 * np.sin(2 * np.pi * np.cumsum(frequencies) / media.rate_hz)
    gains = np.array(media.channel_gains or [1.0] * media.channels)
    return (gains[:, None] * wave).astype(np.float32)


def _audio(container: av.container.OutputContainer, media: Media) -> Iterator[tuple[float, list[av.Packet]]]:
    encoder, sample_format = AUDIO[media.audio]
    stream = container.add_stream(encoder, rate=media.rate_hz, layout=LAYOUTS[media.channels])
    stream.codec_context.format = sample_format
    waves, block = sound(media), 1024
    resampler = av.AudioResampler(format=sample_format, layout=LAYOUTS[media.channels], rate=media.rate_hz)
    fifo = av.AudioFifo()

    size = stream.codec_context.frame_size or block

    def packets() -> Iterator[tuple[float, list[av.Packet]]]:
        done = round(media.audio_offset_s * media.rate_hz)
        for start in range(0, waves.shape[1], block):
            part = np.ascontiguousarray(waves[:, start : start + block])
            frame = av.AudioFrame.from_ndarray(part, "fltp", LAYOUTS[media.channels])
            frame.sample_rate = media.rate_hz
            for piece in resampler.resample(frame):
                piece.pts = None
                fifo.write(piece)
            last = start + block >= waves.shape[1]
            while ready := fifo.read(size) or (last and fifo.read(0, partial=True)):
                ready.pts, ready.time_base = done, Fraction(1, media.rate_hz)
                done += ready.samples
                yield done / media.rate_hz, stream.encode(ready)
        yield done / media.rate_hz, stream.encode(None)

    return packets()


def heard_hz(wave: npt.NDArray[np.floating], rate_hz: int) -> float:
    """The loudest frequency of a waveform."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    return float(np.argmax(spectrum)) * rate_hz / len(wave)


def _rotate(path: Path, degrees: int) -> None:
    """Write a display matrix into the first track of an MP4 file; degrees clockwise."""
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40
    one, minus_one = 0x00010000, 0xFFFF0000
    turn = {90: (0, one, minus_one, 0), 180: (minus_one, 0, 0, minus_one), 270: (0, minus_one, one, 0)}[degrees]
    a, b, c, d = turn
    content[at : at + 36] = struct.pack(">9I", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(content)
