"""From log-mel back to sound, so that one hears what was distilled.

The mel filters are inverted by least squares, the phases found by Griffin and Lim's iteration (IEEE Trans. ASSP 32(2),
1984), both torchaudio's. A log-mel holds no phases and blurs neighbouring frequencies: what comes back is no recording.
"""

from __future__ import annotations

import warnings
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from avbench.data.audio import LogMel, torchaudio
from avbench.errors import RequestError
from avbench.show.room import AbsentError, Clip, Exhibit, Room
from avbench.show.scale import Array, decibels, transform_of
from avbench.show.subject import slug

ITERATIONS = 64
#: Root mean square and highest peak of what is written, of full scale 1; and the most that quiet clips are raised.
LOUDNESS, PEAK, MOST_GAIN = 0.1, 0.95, 10 ** (30 / 20)
_INT16 = 32767
#: Above this a power is no sound any more, and would overflow: +60 dB over full scale.
_LOUDEST_DB = 120.0
Wave = npt.NDArray[np.float64]


def invert(mel: LogMel, spectrogram_db: Array, seed: int) -> Wave:
    """A waveform (samples,) whose log-mel is near ``spectrogram_db`` (mels, frames), at its own level.

    Args:
        seed: of the phases that the iteration starts from.
    """
    transforms = torchaudio().transforms
    power = torch.from_numpy(10 ** (np.minimum(spectrogram_db, _LOUDEST_DB) / 10)).double()
    bins = mel.n_fft // 2 + 1
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.filterwarnings("ignore", message="At least one mel filterbank has all zero values")
        torch.manual_seed(seed)
        # gelsd: an empty mel band leaves the filters without full rank.
        unmel = transforms.InverseMelScale(
            bins, mel.mels, mel.sample_rate_hz, 0.0, float(mel.sample_rate_hz // 2), driver="gelsd"
        ).double()
        phases = transforms.GriffinLim(
            mel.n_fft, ITERATIONS, mel.n_fft, mel.hop, power=2.0, length=mel.samples
        ).double()
        found: Wave = phases(unmel(power)).detach().numpy()
    return found


def levelled(sound: Wave) -> Wave:
    """A clip of common loudness that does not clip; what is nearly silent is raised by 30 dB at most."""
    rms, peak = float(np.sqrt(np.mean(sound**2))), float(np.abs(sound).max(initial=0.0))
    if peak == 0.0:
        return sound
    return sound * min(LOUDNESS / rms, PEAK / peak, MOST_GAIN)


def write_wav(path: Path, sound: Wave, sample_rate_hz: int) -> None:
    """A mono WAV file of 16 bits, from values between -1 and 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes(np.round(np.clip(sound, -1, 1) * _INT16).astype("<i2").tobytes())


def hang_sound(room: Room) -> None:
    """What each class sounds like distilled, and a real sample of it, both through the same inversion.

    Raises:
        AbsentError: the set has no sound, or its store does not say how spectrograms were made.
    """
    if "a" not in room.modality:
        raise AbsentError("this set has no sound")
    mel = transform_of(room.info)
    if mel is None:
        raise AbsentError(
            f"the dataset {room.info.name!r} does not say how its spectrograms were made from sound, so they can't be "
            "inverted"
        )
    real = True
    try:
        _ = room.store
    except (AbsentError, RequestError) as error:
        real = False
        room.miss("sound", f"no real sounds to compare with: {error}")
    rows = tuple((room.info.classes[cls], _clips(room, mel, cls, real)) for cls in room.classes)
    caption = (
        f"Log-mel inverted by least squares and {ITERATIONS} iterations of Griffin-Lim (seed {room.options.seed}); "
        "real ones too, for a fair comparison. All clips have one loudness, -20 dB of full scale (RMS), unless that "
        "would clip them or raise them by more than 30 dB."
    )
    room.exhibits.append(Exhibit("sound", "Sound", caption, clips=rows))


def _clips(room: Room, mel: LogMel, cls: int, real: bool) -> tuple[Clip, ...]:
    """The clips of a class: distilled ones first, then a real one."""
    most = min(room.options.per_class, 3)
    audio = room.items(room.subject.set, cls, most, decoded=True)["a"][:most]
    named = [(f"{room.subject.set.kind} {number}", db) for number, db in enumerate(decibels(room.info, audio), 1)]
    if real:
        row = room.real_rows(cls, 1)
        batch = room.train_set(torch.device("cpu")).batch(row, "a")["a"]
        named.append((f"real, training sample {int(row[0])}", decibels(room.info, batch)[0]))
    found = []
    for number, (label, db) in enumerate(named, 1):
        file = f"sound-{slug(room.info.classes[cls], cls)}-{'real' if label.startswith('real') else number}.wav"
        write_wav(room.folder / file, levelled(invert(mel, db, room.options.seed)), mel.sample_rate_hz)
        found.append(Clip(f"{room.folder.name}/{file}", label))
    return tuple(found)
