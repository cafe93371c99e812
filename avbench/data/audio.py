"""Waveform to log-mel, exactly as the AVDD paper's data: raw decibels, no normalisation.

torchaudio makes the filters; the transform itself needs numpy alone. So a worker that decodes videos is handed the
filters and starts without torch, in a tenth of the time and memory.
"""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from avbench.errors import AvbenchError

if TYPE_CHECKING:
    from torch import Tensor

_FLOOR = 1e-10  # of the power: -100 dB


class Filters(NamedTuple):
    """What a log-mel is computed with: the window (n_fft,) and the mel filters (n_fft // 2 + 1, mels), float64."""

    window: npt.NDArray[np.float64]
    bank: npt.NDArray[np.float64]


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

        Shorter clips are padded with silence, longer ones cut.
        """
        import torch

        return torch.from_numpy(self.of(waveform.double().mean(dim=0).numpy(), self.filters()))

    def filters(self) -> Filters:
        """The window and the filter bank; remembered, for they take longer to make than a clip to transform."""
        return _filters(self)

    def of(self, mono: npt.NDArray[Any], filters: Filters) -> npt.NDArray[np.float32]:
        """Log-mel of a waveform (n,) of one channel.

        Computed in float64, so that the float32 result does not depend on the processor's instruction set.
        """
        clip = np.zeros(self.samples)
        known = min(len(mono), self.samples)
        clip[:known] = mono[:known]
        # Frames are centred on multiples of the hop; at the ends the clip is mirrored.
        padded = np.pad(clip, self.n_fft // 2, mode="reflect")
        pieces = np.lib.stride_tricks.sliding_window_view(padded, self.n_fft)[:: self.hop]
        power = np.abs(np.fft.rfft(pieces * filters.window)) ** 2  # (frames, n_fft // 2 + 1)
        # Not by BLAS: its threads wait for each other on so small a product, and its sums depend on the processor.
        bands = np.einsum("tf,fm->mt", power, filters.bank)
        decibels: npt.NDArray[np.float32] = (10.0 * np.log10(np.maximum(bands, _FLOOR))).astype(np.float32)
        return decibels[None]

    def as_json(self) -> dict[str, Any]:
        return {"kind": "log-mel", "win": self.n_fft, "power": 2, "unit": "dB", **asdict(self)}


def torchaudio() -> Any:
    """The package; its import takes seconds, and not every program needs it.

    Raises:
        AvbenchError: it can't be imported, as where it was built for another torch.
    """
    try:
        import torchaudio as package
    except (ImportError, OSError) as error:
        raise AvbenchError(f"torchaudio can't be imported ({error}): `avbench env` says what to install.") from error
    return package


@functools.lru_cache(maxsize=8)
def _filters(mel: LogMel) -> Filters:
    import torch

    with warnings.catch_warnings():
        # That one of 128 bands is empty is known and wanted.
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        bank = torchaudio().functional.melscale_fbanks(
            mel.n_fft // 2 + 1, 0.0, float(mel.sample_rate_hz // 2), mel.mels, mel.sample_rate_hz
        )
    return Filters(torch.hann_window(mel.n_fft).double().numpy(), bank.double().numpy())


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread while many clips are transformed one by one.

    A clip is too small to gain from threads, and where other programs hold the cores, threads that wait for
    each other made a build of seconds take minutes.
    """
    import torch

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
    result: Tensor = torchaudio().functional.resample(waveform.double(), from_hz, to_hz)
    return result
