"""The kit's datasets: tiny, made from fixed seeds, and unlike each other where a plugin may be tempted to assume."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from avbench.data.store import Store, StoreInfo
from avbench.data.store_writer import StoreWriter

#: Grey square frames and classes of uneven size.
PLAIN = "plain"
#: Colour frames that are not square, sound longer than wide, other counts and normalisation.
UNLIKE = "unlike"
STORES = (PLAIN, UNLIKE)

_COUNTS: dict[str, dict[str, tuple[int, ...]]] = {
    PLAIN: {"train": (6, 9, 7), "val": (2, 2, 2), "test": (3, 4, 3)},
    UNLIKE: {"train": (8, 5, 6, 7), "val": (1, 1, 2, 1), "test": (2, 3, 2, 2)},
}


def describe(name: str) -> StoreInfo:
    """What the store is, before its samples are written."""
    plain = name == PLAIN
    counts = _COUNTS[name]
    return StoreInfo(
        name=name,
        dataset=f"conformance-{name}",
        dataset_version=1,
        classes=("ant", "bee", "cat", "dog")[: len(counts["train"])],
        counts=counts,
        audio_shape=(1, 16, 24) if plain else (1, 32, 20),
        frame_shape=(1, 16, 16) if plain else (3, 20, 28),
        audio_mean=-40.0 if plain else 0.0,
        audio_std=15.0 if plain else 1.0,
        frame_mean=(0.5,) if plain else (0.5, 0.4, 0.3),
        frame_std=(0.25,) if plain else (0.25, 0.2, 0.3),
        visual_depth=2,
        audio_depth=2,
        grid=(4, 4) if plain else (5, 7),
        preset="quick",
        sample_rate_hz=8000,
        audio_transform={},
        licence="CC0-1.0",
        citation="made by avbench.testing",
    )


def write_store(data: Path, name: str, *, secret: int = 0) -> Store:
    """Write a store whose classes are fixed patterns under noise.

    Args:
        secret: seeds validation and test samples alone: stores that differ in it have the same training split.
    """
    info = describe(name)
    patterns = np.random.default_rng(STORES.index(name))
    audio = patterns.normal(size=(len(info.classes), *info.audio_shape))
    frames = patterns.normal(size=(len(info.classes), *info.frame_shape))
    writer = StoreWriter(data, info)
    for number, (split, counts) in enumerate(info.counts.items()):
        rng = np.random.default_rng([STORES.index(name), number, 0 if split == "train" else secret])
        for row, cls in enumerate(np.repeat(np.arange(len(counts)), counts)):
            sound = -40 + 15 * (audio[cls] + rng.normal(size=info.audio_shape))
            pixels = (120 + 50 * (frames[cls] + rng.normal(size=info.frame_shape))).clip(0, 255)
            writer.put(split, row, sound.astype(np.float32), pixels.astype(np.uint8), f"{split}{row}")
    return writer.finish()
