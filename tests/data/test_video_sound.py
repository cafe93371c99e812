"""Sound from files: gaps, channels, rates; and the log-mel against torchaudio on what the program ffmpeg decodes."""

from __future__ import annotations

import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torchaudio
from media import Media, make

from avbench.data.audio import LogMel
from avbench.data.sound import Sound, mean_of_channels
from avbench.data.video import Clip, ClipFormat, read_clips
from avbench.data.windows import BrokenVideo, Loss, Window, windows_of

RATE_HZ = 11_000
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the referee, the program ffmpeg, is not here")


def frame(samples: np.ndarray, rate_hz: int = 8_000, kind: str = "fltp", layout: str = "mono") -> av.AudioFrame:
    made = av.AudioFrame.from_ndarray(samples, kind, layout)
    made.sample_rate, made.time_base = rate_hz, Fraction(1, rate_hz)
    return made


def waveforms(path: Path) -> list[np.ndarray]:
    found = read_clips(path, lambda s: windows_of("every", 0.0, None, 1.0, s), ClipFormat(16, 16, RATE_HZ, "centre"))
    return [clip.waveform for clip in found if isinstance(clip, Clip)]


@needs_ffmpeg
@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aac.mp4", Media(channels=2, channel_gains=(1.0, 0.3))),
        ("opus.webm", Media(video="vp9", audio="opus", rate_hz=48_000)),
        ("mp3.mov", Media(audio="mp3", rate_hz=32_000)),
        ("pcm.mkv", Media(audio="pcm", rate_hz=96_000, channels=6, channel_gains=(1, 0, 0.5, 0, 0.2, 0))),
        ("low.mkv", Media(audio="pcm", rate_hz=8_000, channels=1)),
    ],
)
def test_log_mel_agrees_with_torchaudio_on_what_ffmpeg_decodes(tmp_path: Path, name: str, kind: Media) -> None:
    """Within 0.05 dB in what is louder than -60 dB of the loudest cell; below that, coders' rounding is compared.

    AAC and MP3 in Matroska are left out: Debian's ffmpeg 5.1 plays their encoder's delay there, FFmpeg 8 skips it.
    """
    path = make(tmp_path / name, kind)
    asked = ["ffmpeg", "-v", "error", "-i", str(path), "-vn", "-f", "f32le", "-c:a", "pcm_f32le", "-"]
    heard = np.frombuffer(subprocess.run(asked, capture_output=True, check=True).stdout, np.float32)
    mono = torch.from_numpy(heard.reshape(-1, kind.channels).mean(axis=1, dtype=np.float64).astype(np.float32))
    wav = tmp_path / "mono.f32"
    mono.numpy().tofile(wav)
    asked = ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", str(kind.rate_hz), "-ac", "1", "-i", str(wav)]
    resampled = subprocess.run(
        [*asked, "-ar", str(RATE_HZ), "-f", "f32le", "-"], capture_output=True, check=True
    ).stdout
    whole = torch.from_numpy(np.frombuffer(resampled, np.float32).copy())
    mel = torchaudio.transforms.MelSpectrogram(RATE_HZ, n_fft=400, hop_length=200, n_mels=128)
    to_db = torchaudio.transforms.AmplitudeToDB(stype="power", top_db=None)
    log_mel, found = LogMel(), waveforms(path)
    assert len(found) == 3
    for second, wave in enumerate(found):
        reference = whole[second * RATE_HZ :][:RATE_HZ]
        reference = torch.nn.functional.pad(reference, (0, RATE_HZ - len(reference)))
        expected = to_db(mel(reference[None])).numpy()
        ours = log_mel.of(wave, log_mel.filters())
        loud = expected > expected.max() - 60.0
        assert loud.mean() > 0.01
        assert np.abs(ours - expected)[loud].max() < 0.05


def test_channels_are_averaged_plainly() -> None:
    left, right = np.full(100, 0.5, np.float32), np.full(100, -0.1, np.float32)
    np.testing.assert_allclose(mean_of_channels(frame(np.stack([left, right]), layout="stereo")), 0.2, atol=1e-7)
    six = np.zeros((6, 100), np.float32)
    six[3] = 0.6  # FFmpeg's own downmix drops this one, the low frequencies
    np.testing.assert_allclose(mean_of_channels(frame(six, layout="5.1")), 0.1, atol=1e-7)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("s16", np.array([[16_384, -16_384] * 2], np.int16)),
        ("s16p", np.array([[16_384] * 2, [-16_384] * 2], np.int16)),
        ("s32", np.array([[2**30, -(2**30)] * 2], np.int32)),
        ("u8", np.array([[192, 64] * 2], np.uint8)),
        ("flt", np.array([[0.5, -0.5] * 2], np.float32)),
        ("dblp", np.array([[0.5] * 2, [-0.5] * 2], np.float64)),
    ],
)
def test_every_sample_format_has_the_same_full_scale(kind: str, values: np.ndarray) -> None:
    np.testing.assert_array_equal(mean_of_channels(frame(values, kind=kind, layout="stereo")), [0.0, 0.0])
    alone = frame(values[:1].reshape(1, -1)[:, :1].copy(), kind=kind)
    np.testing.assert_array_equal(mean_of_channels(alone), [0.5])


def test_gaps_become_silence_and_overlaps_are_heard_once() -> None:
    ones = np.ones((1, 800), np.float32)
    sound = Sound(8_000)
    sound.add(frame(ones), 0.0)
    sound.add(frame(ones), 0.5)  # 0.4 s after the first one ended
    sound.add(frame(ones), 0.4)  # begins 0.2 s before that one ended
    sound.add(frame(ones), None)
    assert sound.begin_s == 0.0 and sound.end_s == pytest.approx(0.7)
    (wave,) = sound.cut([Window(0.0, 1.0)])
    assert wave[:800].all() and not wave[800:4_000].any() and wave[4_000:5_600].all() and not wave[5_600:].any()


def test_times_that_are_merely_rounded_leave_no_gap() -> None:
    sound = Sound(8_000)
    for i in range(10):
        sound.add(frame(np.ones((1, 100), np.float32)), round(i * 0.0125, 2))
    assert sound.end_s == pytest.approx(0.125)


@pytest.mark.parametrize("rate_hz", [8_000, 11_025, 44_100, 48_000])
def test_a_sound_that_starts_midway_keeps_its_place(rate_hz: int) -> None:
    click = np.zeros((1, rate_hz), np.float32)
    click[0, rate_hz // 4] = 1.0
    sound = Sound(RATE_HZ)
    sound.add(frame(click, rate_hz), 7.123)
    (wave,) = sound.cut([Window(7.0, 1.0)])
    assert np.abs(wave).argmax() == pytest.approx(RATE_HZ * 0.373, abs=1)


def test_a_changing_sample_rate_is_told() -> None:
    sound = Sound(RATE_HZ)
    sound.add(frame(np.ones((1, 100), np.float32), 8_000), 0.0)
    with pytest.raises(BrokenVideo, match="changes from 8000 to 16000 Hz") as caught:
        sound.add(frame(np.ones((1, 100), np.float32), 16_000), 0.0125)
    assert caught.value.reason == Loss.UNDECODABLE
