"""Waveform to log-mel, exactly as the AVDD paper's data: raw decibels, no normalisation."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class LogMel:
    """Log-mel spectrogram of a clip of fixed length.

    Defaults are those of the AVDD code: one second at 11 kHz, mean of channels, ``n_fft = win = 400`` samples,
    hop 200, power spectrogram, ``10·log10`` clamped at 1e-10 with no ``top_db``. With 128 bands one mel band falls
    between two bins and stays at -100 dB; that is the published data too.
    """

    sample_rate_hz: int = 11_000
    samples: int = 11_000
    n_fft: int = 400
    hop: int = 200
    mels: int = 128

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, mels, frames)."""
        return (1, self.mels, self.samples // self.hop + 1)

    def __call__(self, waveform: Tensor) -> Tensor:
        """Log-mel of ``waveform`` (channels, n) at ``sample_rate_hz``: (1, mels, frames) float32 in dB.

        Shorter clips are padded with silence, longer ones cut. Computed in float64, so that the float32 result
        does not depend on the processor's instruction set.
        """
        mono = waveform.double().mean(dim=0)[: self.samples]
        mono = torch.nn.functional.pad(mono, (0, self.samples - mono.numel()))
        power: Tensor = _transform(self)(mono[None])  # (1, mels, frames)
        return (10.0 * torch.log10(power.clamp(min=1e-10))).float()

    def as_json(self) -> dict[str, Any]:
        return {"kind": "log-mel", "win": self.n_fft, "power": 2, "unit": "dB", **asdict(self)}


@functools.lru_cache(maxsize=8)
def _transform(mel: LogMel) -> torch.nn.Module:
    """The transform in float64; its filter bank takes longer to build than a clip to transform."""
    import torchaudio  # here, for its import takes seconds and workers do not need it

    with warnings.catch_warnings():
        # That one of 128 bands is empty is known and wanted.
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        transform: torch.nn.Module = torchaudio.transforms.MelSpectrogram(
            sample_rate=mel.sample_rate_hz,
            n_fft=mel.n_fft,
            win_length=mel.n_fft,
            hop_length=mel.hop,
            n_mels=mel.mels,
            power=2.0,
        ).double()
    return transform


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread while many clips are transformed one by one.

    A clip is too small to gain from threads, and where other programs hold the cores, threads that wait for
    each other made a build of seconds take minutes.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def resample(waveform: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """``waveform`` (channels, n) at another rate, in float64."""
    if from_hz == to_hz:
        return waveform.double()
    import torchaudio

    result: Tensor = torchaudio.functional.resample(waveform.double(), from_hz, to_hz)
    return result
