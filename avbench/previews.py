"""A distilled set as people see and hear it: pictures and sounds of a few of its samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from avbench.data.samples import TrainSet
from avbench.data.store import open_store
from avbench.distilled import load

#: The phases of a sound that is made from a spectrogram start from this seed.
_PHASES = 0


@dataclass(frozen=True)
class Preview:
    """One training sample of a distilled set.

    Attributes:
        name: its class.
        picture: (height, width, 3) from 0 to 1; ``None`` where the set has no pictures.
        sound: (samples,) from -1 to 1 at ``sample_rate_hz``, found from the spectrogram: no recording, but near to what
            was distilled; ``None`` where the set has no sound, its store does not say how spectrograms were made, or
            none was asked for.
    """

    name: str
    picture: npt.NDArray[np.float64] | None
    sound: npt.NDArray[np.float64] | None
    sample_rate_hz: int


def previews(folder: Path, data: Path, *, most: int = 10, sounds: int = 3) -> Iterator[Preview]:
    """The first sample of each of the first ``most`` classes, as networks train on it: decoded.

    Args:
        folder: of the distilled set.
        data: of the stores; a selected set is read from there.
        most: classes of which there is a preview.
        sounds: how many of them come with their sound, which takes about a second each to find.

    Raises:
        RequestError: there is no readable set, or its store is absent or another.
    """
    # Here: it imports far more than a worker needs.
    from avbench.show.scale import decibels, pixels, transform_of
    from avbench.show.sound import invert, levelled

    found = load(folder)
    train = TrainSet(open_store(data, found.dataset.name), torch.device("cpu"))
    samples, mel = found.samples(train), transform_of(found.dataset)
    for number, label in enumerate(sorted(set(samples.labels.tolist()))[:most]):
        row = np.flatnonzero(samples.labels.numpy() == label)[:1]
        batch = samples.batch(row, found.modality)
        picture = pixels(found.dataset, batch["v"])[0][0] if "v" in batch else None
        sound = None
        if "a" in batch and mel is not None and number < sounds:
            sound = levelled(invert(mel, decibels(found.dataset, batch["a"])[0], _PHASES))
        yield Preview(found.dataset.classes[label], picture, sound, found.dataset.sample_rate_hz)
