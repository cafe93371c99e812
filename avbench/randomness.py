"""Random streams that depend on (run seed, purpose, step, class) alone.

Never on method, variant, IPC, factor, job, batch size, order or engine: so variants of a method meet the same
networks, augmentations and real batches, and a resumed run draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

#: Part of every key: raise it when the derivation below changes.
STREAM_SCHEME = 1


@dataclass(frozen=True)
class Streams:
    """The streams of one run seed; call it for a fresh, independent generator."""

    seed: int

    def __call__(self, purpose: str, *, step: int = -1, cls: int = -1) -> np.random.Generator:
        """A counter-based generator for one purpose.

        Args:
            purpose: what is drawn, such as ``"real batch"``.
            step: the distillation step, epoch or repetition; -1 where there is none.
            cls: the class; -1 for draws that all classes share.
        """
        text = f"{STREAM_SCHEME}/{self.seed}/{purpose}/{step}/{cls}"
        # 128 bits: streams of different purposes never collide, which 32-bit torch seeds would.
        key = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "little")
        return np.random.Generator(np.random.Philox(key=key))
