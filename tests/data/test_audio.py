"""Log-mel as the paper's data: against torchaudio, against a plain reading, and its known oddity."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio
from packages import avbench

from avbench.data.audio import LogMel, one_thread, resample


def noise(channels: int = 1, samples: int = 11_000) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return 0.1 * torch.randn((channels, samples), generator=generator, dtype=torch.float64)


def tone(frequency_hz: float, sample_rate_hz: int, duration_s: float = 1.0) -> torch.Tensor:
    time_s = torch.arange(int(sample_rate_hz * duration_s), dtype=torch.float64) / sample_rate_hz
    return torch.sin(2 * torch.pi * frequency_hz * time_s)[None]


@pytest.mark.filterwarnings("ignore:At least one mel filterbank")
@pytest.mark.parametrize("mels", [32, 64, 128])
def test_equals_torchaudio(mels: int) -> None:
    wave = noise()
    mel = torchaudio.transforms.MelSpectrogram(11_000, n_fft=400, hop_length=200, n_mels=mels)
    to_db = torchaudio.transforms.AmplitudeToDB(stype="power", top_db=None)
    torch.testing.assert_close(LogMel(mels=mels)(wave), to_db(mel(wave.float())), rtol=0, atol=5e-3)


def test_equals_a_plain_reading() -> None:
    wave = noise().numpy()[0]
    padded = np.pad(wave, 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)  # periodic Hann
    frames = np.stack([padded[200 * i : 200 * i + 400] * window for i in range(56)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    bank = torchaudio.functional.melscale_fbanks(201, 0.0, 5_500.0, 32, 11_000).double().numpy()
    expected = 10 * np.log10(np.maximum(power @ bank, 1e-10)).T
    np.testing.assert_allclose(LogMel(mels=32)(noise())[0].numpy(), expected, atol=1e-4)


def test_128_bands_have_exactly_one_that_is_always_silent() -> None:
    values = LogMel()(noise())
    assert values.shape == LogMel().shape == (1, 128, 56) and values.dtype == torch.float32
    assert ((values[0] == -100.0).all(dim=1)).sum() == 1


def test_the_known_empty_band_raises_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        LogMel(mels=127, samples=5_000)(noise())


def test_silence_is_minus_100_db_and_short_clips_end_in_it() -> None:
    assert (LogMel(mels=32)(torch.zeros(1, 11_000)) == -100.0).all()
    short = LogMel(mels=32)(noise(samples=4_000))
    assert short.shape == (1, 32, 56)
    assert (short[..., 22:] == -100.0).all() and (short[..., :20] > -100.0).all()


def test_long_clips_are_cut_and_channels_averaged() -> None:
    mel, wave = LogMel(mels=32), noise(channels=2)
    assert torch.equal(mel(torch.cat([wave, noise(2, 500)], dim=1)), mel(wave))
    assert torch.equal(mel(wave), mel(wave.mean(dim=0, keepdim=True)))


def test_does_not_depend_on_threads() -> None:
    wave = noise()
    with one_thread():
        assert torch.get_num_threads() == 1
        alone = LogMel(mels=32)(wave)
    assert torch.equal(LogMel(mels=32)(wave), alone)


def test_one_thread_gives_the_threads_back() -> None:
    before = torch.get_num_threads()
    with pytest.raises(KeyError), one_thread():
        raise KeyError
    assert torch.get_num_threads() == before


def test_resampling_keeps_a_tone() -> None:
    found = resample(tone(440.0, 22_050), 22_050, 11_000)
    assert found.dtype == torch.float64 and found.shape == (1, 11_000)
    inner = slice(500, -500)  # the filter runs out at the edges
    torch.testing.assert_close(found[:, inner], tone(440.0, 11_000)[:, inner], rtol=0, atol=2e-3)


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    found = resample(tone(9_000.0, 22_050), 22_050, 11_000)
    assert found[:, 500:-500].abs().max() < 0.02


def test_same_rate_is_left_alone() -> None:
    assert torch.equal(resample(noise(), 11_000, 11_000), noise())


def test_the_record_says_all() -> None:
    assert LogMel(mels=32).as_json() == {
        "kind": "log-mel",
        "unit": "dB",
        "power": 2,
        "sample_rate_hz": 11_000,
        "samples": 11_000,
        "n_fft": 400,
        "win": 400,
        "hop": 200,
        "mels": 32,
    }


def test_a_torchaudio_for_another_torch_is_one_line_that_says_what_to_do(tmp_path: Path) -> None:
    """As torchaudio 2.11.1 beside torch 2.11: its import ends in an OSError of the dynamic linker."""
    (tmp_path / "torchaudio.py").write_text("raise OSError('libtorchaudio.so: undefined symbol')", encoding="utf-8")
    command = ["run", "--method", "random", "--dataset", "avdigits", "--ipc", "1"]
    done = avbench(*command, "--data", str(tmp_path / "data"), "--out", str(tmp_path / "runs"), site=tmp_path)
    assert done.returncode == 3 and "Traceback" not in done.stderr
    assert "torchaudio can't be imported (libtorchaudio.so: undefined symbol): `avbench env` says" in done.stderr
