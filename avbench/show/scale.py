"""From network input space back to what people see and measure: pixels, decibels, hertz and seconds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from avbench.data.audio import LogMel
from avbench.data.store import StoreInfo

Array = npt.NDArray[np.float64]


def pixels(info: StoreInfo, frames: Tensor) -> tuple[Array, float]:
    """Normalised frames (N, channels, H, W) as pictures (N, H, W, 3) from 0 to 1, and the share that was clipped."""
    channels = (1, len(info.frame_mean), 1, 1)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(channels) for v in (info.frame_mean, info.frame_std))
    found = frames.detach().to("cpu", torch.float64) * std + mean
    outside = float(((found < -1e-6) | (found > 1 + 1e-6)).double().mean())
    if found.shape[1] != 3:
        found = found.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    shown: Array = found.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return shown, outside


def decibels(info: StoreInfo, audio: Tensor) -> Array:
    """Normalised spectrograms (N, 1, mels, frames) as (N, mels, frames) in the store's unit, dB for log-mel."""
    found: Array = (audio.detach().to("cpu", torch.float64)[:, 0] * info.audio_std + info.audio_mean).numpy()
    return found


def transform_of(info: StoreInfo) -> LogMel | None:
    """The transform that made a store's spectrograms; ``None`` where the store does not say, or is not of its shape."""
    told = info.audio_transform
    names = ("sample_rate_hz", "samples", "n_fft", "hop", "mels")
    values = {name: told.get(name) for name in names}
    if told.get("kind") != "log-mel" or told.get("power", 2) != 2 or told.get("win") != told.get("n_fft"):
        return None
    if not all(type(value) is int and value > 0 for value in values.values()):
        return None
    found = LogMel(**values)  # type: ignore[arg-type]  # whole numbers, as was just seen
    return found if found.shape == info.audio_shape else None


def mel_centres_hz(mel: LogMel) -> Array:
    """The centre frequency of each mel band (mels,): equal distances on HTK's scale, 2595·log10(1 + f/700)."""
    top = 2595 * np.log10(1 + (mel.sample_rate_hz // 2) / 700)
    found: Array = 700 * (10 ** (np.linspace(0, top, mel.mels + 2)[1:-1] / 2595) - 1)
    return found


@dataclass(frozen=True)
class Axes:
    """Ticks of a spectrogram: (place in bands or frames, from 0 to their number; label) each."""

    bands: tuple[tuple[float, str], ...]
    times: tuple[tuple[float, str], ...]
    band_label: str
    time_label: str


def axes_of(info: StoreInfo, most: int) -> Axes:
    """At most ``most`` ticks on the frequency axis, in Hz and s; in bands and frames where the store is silent."""
    mel = transform_of(info)
    _, mels, frames = info.audio_shape
    if mel is None:
        return Axes(((0.0, "0"), (float(mels), str(mels))), ((0.0, "0"), (float(frames), str(frames))), "band", "frame")
    centres = mel_centres_hz(mel)
    series = [first * 10.0**power for power in range(1, 6) for first in (1, 2, 5)]
    places = [(float(np.interp(hz, centres, np.arange(mels))) + 0.5, hz) for hz in series if hz <= centres[-1]]
    # A number at the very edge would meet its neighbour's.
    places = [(at, hz) for at, hz in places if hz >= centres[0] and 0.08 * mels < at < 0.92 * mels]
    gap = mels / max(most, 1)
    kept: list[tuple[float, float]] = []
    for at, hz in reversed(places):
        if not kept or kept[-1][0] - at >= gap * 0.8:
            kept.append((at, hz))
    end_s = mel.samples / mel.sample_rate_hz
    width = mel.samples / mel.hop  # the frame at the clip's end; frames are centred on multiples of the hop
    times = ((0.5, "0"), (width + 0.5, f"{end_s:g}"))
    return Axes(tuple((at, f"{hz:g}") for at, hz in kept[:most]), times, "Hz", "s")
