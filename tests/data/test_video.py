"""Decoding real files: the right frame and the right second, whatever codec, container, rate and start time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import media
import numpy as np
import numpy.typing as npt
import pytest
from media import Media, make

from avbench.data.pictures import Pictures
from avbench.data.video import Clip, ClipFormat, Lost, read_clips
from avbench.data.windows import FrameRule, Loss, Window, spans, windows_of

RATE_HZ = 11_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the referee, the program ffmpeg, is not here")


def clips(path: Path, rule: FrameRule = "centre", size: tuple[int, int] = (48, 64)) -> list[Clip]:
    """Every second of a file that can be had, in order."""
    found = read_clips(path, lambda s: windows_of("every", 0.0, None, 1.0, s), ClipFormat(*size, RATE_HZ, rule))
    return sorted((clip for clip in found if isinstance(clip, Clip)), key=lambda clip: clip.window.start_s)


def at(path: Path, *starts_s: float, duration_s: float = 1.0, rule: FrameRule = "centre") -> list[Clip | Lost]:
    windows = [Window(start_s, duration_s) for start_s in starts_s]
    found = list(read_clips(path, lambda _: windows, ClipFormat(48, 64, RATE_HZ, rule)))
    return sorted(found, key=lambda clip: clip.window.start_s)


def numbers(found: list[Clip]) -> list[int]:
    return [media.number(clip.frame) for clip in found]


def tones(found: list[Clip]) -> list[int]:
    """The tone of each waveform, to 10 Hz."""
    return [round(media.heard_hz(clip.waveform, RATE_HZ), -1) for clip in found]


KINDS = [
    ("h264.mp4", Media(video="h264", audio="aac")),
    ("mpeg4.mp4", Media(video="mpeg4", audio="mp3")),
    ("av1.mp4", Media(video="av1", audio="opus", rate_hz=48_000)),
    ("vp9.webm", Media(video="vp9", audio="opus", rate_hz=48_000, channels=1)),
    ("av1.webm", Media(video="av1", audio="opus", rate_hz=16_000)),
    ("h264.mkv", Media(video="h264", audio="pcm", rate_hz=96_000, channels=6)),
    ("vp9.mkv", Media(video="vp9", audio="aac", rate_hz=22_050, channels=1)),
    ("av1.mkv", Media(video="av1", audio="mp3", rate_hz=32_000)),
    ("h264.mov", Media(video="h264", audio="pcm", rate_hz=8_000, channels=1)),
    ("mpeg4.mkv", Media(video="mpeg4", audio="aac", rate_hz=48_000, channels=6)),
]


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=[name for name, _ in KINDS])
def test_every_codec_gives_the_right_frame_and_the_right_second(tmp_path: Path, name: str, kind: Media) -> None:
    path = make(tmp_path / name, kind)
    found = clips(path)
    assert [clip.window.start_s for clip in found] == [0.0, 1.0, 2.0]
    assert numbers(found) == [12, 37, 62]  # 25 a second: number 12 is shown from 0.48 to 0.52 s
    assert tones(found) == [300, 500, 700]
    assert numbers(clips(path, "grid")) == [10, 35, 60]


def test_what_is_skipped_does_not_change_the_wanted_frames(tmp_path: Path) -> None:
    for name, kind in KINDS:
        path = make(tmp_path / name, kind)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            packets = [p for p in container.demux(stream) if p.size]
            pictures = Pictures(stream, packets, 0.0, 48, 64)
            instants = [0.1, 0.5, 1.9, 2.5]
            few = pictures.shown_before(instants)
        whole = everything(path)
        for instant, frame in zip(instants, few, strict=True):
            times = [time for time, _ in whole]
            expected = whole[max(i for i, time in enumerate(times) if time < instant)][1]
            assert np.array_equal(frame, expected), name


def everything(path: Path) -> list[tuple[float, npt.NDArray[np.uint8]]]:
    """Every frame, decoded in the plain way."""
    with av.open(str(path)) as container:
        return [
            (float(f.time), f.reformat(64, 48, "rgb24", interpolation="BILINEAR").to_ndarray().transpose(2, 0, 1))
            for f in container.decode(video=0)
        ]


def test_avi_whose_packets_have_no_times_of_presentation(tmp_path: Path) -> None:
    for video in ("mpeg4", "h264"):
        found = clips(make(tmp_path / f"{video}.avi", Media(video=video, audio="mp3")))
        # Such a container starts its pictures one frame late.
        assert numbers(found) == [11, 36, 61] and tones(found) == [300, 500, 700]


def test_variable_frame_rate_goes_by_time(tmp_path: Path) -> None:
    times = (0.0, 0.04, 0.45, 0.55, 1.0, 1.9, 2.2, 2.9)
    found = clips(make(tmp_path / "vfr.mkv", Media(times_s=times, audio_s=3.0)))
    assert numbers(found) == [2, 4, 6]


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_is_applied_before_stretching(tmp_path: Path, degrees: int) -> None:
    path = make(tmp_path / "turned.mp4", Media(rotate=degrees))
    (clip, *_) = clips(path)
    upright = np.rot90(clip.frame, k=degrees // 90, axes=(1, 2))  # turned back, anticlockwise
    assert clip.frame.shape == (3, 48, 64) and media.number(np.ascontiguousarray(upright)) == 12


def test_frames_are_stretched_to_the_size(tmp_path: Path) -> None:
    path = make(tmp_path / "wide.mp4", Media(width=320, height=80))
    assert {clip.frame.shape for clip in clips(path, size=(30, 30))} == {(3, 30, 30)}
    assert numbers(clips(path, size=(30, 30))) == [12, 37, 62]


def test_time_counts_from_the_earliest_stream(tmp_path: Path) -> None:
    both = make(tmp_path / "both.mkv", Media(video_offset_s=1.5, audio_offset_s=1.0, audio_s=3.0, audio="pcm"))
    found = clips(both)
    assert tones(found) == [300, 500, 700]
    assert numbers(found) == [0, 25, 50]  # the pictures start half a second after the sound
    late = clips(make(tmp_path / "late.mp4", Media(audio_offset_s=0.5)))
    assert numbers(late) == [12, 37, 62]
    assert not late[0].waveform[:5_000].any() and np.abs(late[0].waveform[5_600:]).max() > 0.3


def test_sound_and_pictures_of_different_length(tmp_path: Path) -> None:
    deaf = make(tmp_path / "deaf.mp4", Media(video_s=3.0, audio_s=1.7))
    found = clips(deaf)
    assert len(found) == 2 and not found[1].waveform[-3_000:].any()  # 0.3 s are silence
    assert at(deaf, 2.0)[0].reason == Loss.PAST_END
    blind = make(tmp_path / "blind.mp4", Media(video_s=1.7, audio_s=3.0))
    found = clips(blind)
    assert numbers(found) == [12, 37] and tones(found) == [300, 500]
    assert at(blind, 2.0)[0].reason == Loss.PAST_END


def test_a_window_past_the_end_says_what_is_there(tmp_path: Path) -> None:
    (lost,) = at(make(tmp_path / "short.mp4"), 7.0)
    assert isinstance(lost, Lost) and lost.reason == Loss.PAST_END
    assert lost.detail == "7 to 8 s was asked, the file has 0% of its sound and 0% of its pictures"


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.webm"])
def test_windows_far_apart_are_sought_and_exact(tmp_path: Path, name: str) -> None:
    codecs = {"video": "vp9", "audio": "opus", "rate_hz": 48_000} if name.endswith("webm") else {}
    shape = {"video_s": 40.0, "keyframe_every": 100, "fps": 10, "width": 80, "height": 60}
    path = make(tmp_path / name, Media(tone_hz=lambda second: 300.0 + 100.0 * second, **shape, **codecs))
    windows = [Window(s, 1.0) for s in (0.0, 1.0, 20.0, 33.0)]
    assert [len(group) for group in spans(windows)] == [2, 1, 1]
    found = at(path, 0.0, 1.0, 20.0, 33.0)
    assert numbers(found) == [5, 15, 205, 335]
    assert tones(found) == [300, 400, 2_300, 3_600]
    near = {clip.window.start_s: clip for clip in at(path, *map(float, range(40)))}
    for clip in found:
        assert np.array_equal(clip.frame, near[clip.window.start_s].frame)
        if name.endswith("mp4"):  # in Matroska times are rounded to 1 ms, so that a sought sound is as exact as that
            np.testing.assert_allclose(clip.waveform, near[clip.window.start_s].waveform, atol=2e-3)


def test_a_file_without_index_is_read_from_its_start(tmp_path: Path) -> None:
    path = make(tmp_path / "long.mkv", Media(video_s=20.0, fps=10, width=80, height=60))
    raw = bytearray(path.read_bytes())
    cues = raw.index(b"\x1c\x53\xbb\x6b", 200)  # the index; its id becomes that of an element to be passed over
    raw[cues : cues + 4] = b"\x1c\x53\xbb\x6c"
    path.write_bytes(raw)
    assert numbers(at(path, 15.0)) == [155]


def test_long_files_are_read_a_minute_at_a_time() -> None:
    windows = [Window(float(s), 1.0) for s in range(150)]
    assert [len(group) for group in spans(windows)] == [60, 60, 30]


def test_ten_seconds_make_one_sample(tmp_path: Path) -> None:
    path = make(tmp_path / "ten.mp4", Media(video_s=10.0, fps=10, width=80, height=60))
    (clip,) = at(path, 0.0, duration_s=10.0)
    assert len(clip.waveform) == 110_000 and media.number(clip.frame) == 50
    (clip,) = at(path, 0.0, duration_s=10.0, rule="grid")
    assert media.number(clip.frame) == 49  # 4.5 s + 3.5/8 s: the last one before 4.9375 s


def test_windows_of_a_stretch() -> None:
    assert [w.start_s for w in windows_of("every", 2.0, 5.0, 1.0, None)] == [2.0, 3.0, 4.0]
    assert [w.start_s for w in windows_of("every", 0.0, None, 1.0, 2.97)] == [0.0, 1.0, 2.0]
    assert [w.start_s for w in windows_of("every", 0.0, None, 1.0, 2.9)] == [0.0, 1.0]
    assert [w.start_s for w in windows_of("centre", 0.0, None, 1.0, 10.0)] == [4.5]
    assert [w.start_s for w in windows_of("centre", 0.0, None, 10.0, 9.98)] == [0.0]


@needs_ffmpeg
@pytest.mark.parametrize(
    ("name", "kind"), [KINDS[0], KINDS[3], ("vfr.mkv", Media(times_s=(0, 0.31, 0.44, 1.3, 1.5, 2.1)))]
)
def test_the_grid_is_that_of_ffmpeg_s_filter(tmp_path: Path, name: str, kind: Media) -> None:
    path = make(tmp_path / name, kind if kind.times_s is None else Media(times_s=kind.times_s, audio_s=3.0))
    found = clips(path, "grid", size=(48, 64))
    asked = ["ffmpeg", "-v", "error", "-i", str(path), "-vf", "fps=8,scale=64:48", "-f", "rawvideo"]
    raw = subprocess.run([*asked, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 48, 64, 3).transpose(0, 3, 1, 2)
    seconds = range(len(frames) // 8)
    assert [media.number(frames[8 * s + 3]) for s in seconds] == numbers(found)[: len(seconds)]
    assert len(seconds) >= 2


LATE = Media(video_offset_s=1.5, audio_offset_s=1.0, audio_s=4.0, video_s=3.5, audio="pcm", channels=1, rate_hz=22_000)


def test_a_late_sound_is_exact_to_the_sample(tmp_path: Path) -> None:
    truth = media.sound(LATE)[0, ::2]  # half of 22 kHz, up to the resampler's filter
    for clip in clips(make(tmp_path / "late.mkv", LATE)):
        start = round(clip.window.start_s * RATE_HZ)
        expected = truth[start : start + RATE_HZ]
        inner = slice(100, -100)  # the tone changes with the second, which no filter follows
        np.testing.assert_allclose(clip.waveform[inner], expected[inner], atol=2e-3)


@needs_ffmpeg
def test_a_late_start_is_counted_as_ffmpeg_s_seek_does(tmp_path: Path) -> None:
    """To the second: the program itself is off by up to 15 ms here, see the test above for what is right."""
    path = make(tmp_path / "late.mkv", LATE)
    for clip in clips(path)[1:]:
        start = ["ffmpeg", "-v", "error", "-ss", f"{clip.window.start_s:g}", "-i", str(path), "-t", "1", "-vn"]
        asked = [*start, "-ar", str(RATE_HZ), "-f", "f32le", "-"]
        heard = np.frombuffer(subprocess.run(asked, capture_output=True, check=True).stdout, np.float32)
        assert media.heard_hz(heard, RATE_HZ) == pytest.approx(media.heard_hz(clip.waveform, RATE_HZ), abs=2)
