"""Where each sample of the AVDD authors' release goes: splits sorted by class, with a val taken from train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from avbench.api import SPLITS, Streams
from avbench_datasets._release_parts import Part


class Places:
    """Where each sample of a part goes: (split, row), in the order of the file."""

    def __init__(self, labels: npt.NDArray[np.int64], splits: npt.NDArray[np.int8], classes: int) -> None:
        self._labels, self._splits = labels, splits
        self.counts = np.stack([np.bincount(labels[splits == i], minlength=classes) for i in range(len(SPLITS))])
        #: The next free row of each split and class; set once the counts of all parts are known.
        self.next: npt.NDArray[np.int64] = np.zeros_like(self.counts)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        free = self.next.copy()
        for cls, split in zip(self._labels.tolist(), self._splits.tolist(), strict=True):
            yield SPLITS[split], int(free[split, cls])
            free[split, cls] += 1


def place(parts: Sequence[Part], classes: int, val_fraction: float, seed: int) -> list[Places]:
    """The place of every sample, with val taken from train class by class.

    The release says nothing of videos, but its rows stand in the order of the annotations. So val is one run of
    neighbours in each class: only the two videos at its ends can also be in train.
    """
    held = sum(np.bincount(part.labels, minlength=classes) for part in parts if part.split == "train")
    seen = np.zeros(classes, np.int64)
    begin, end = np.zeros((2, classes), np.int64)
    for cls, count in enumerate(np.asarray(held).tolist()):
        wanted = min(round(val_fraction * count), count - 1)
        begin[cls] = Streams(seed)("release val", cls=cls).integers(0, count - wanted, endpoint=True)
        end[cls] = begin[cls] + wanted
    places = []
    for part in parts:
        splits = np.full(len(part.labels), SPLITS.index(part.split), np.int8)
        if part.split == "train":
            for cls in np.unique(part.labels).tolist():
                rows = np.flatnonzero(part.labels == cls)
                nth = seen[cls] + np.arange(len(rows))
                splits[rows[(nth >= begin[cls]) & (nth < end[cls])]] = SPLITS.index("val")
                seen[cls] += len(rows)
        places.append(Places(part.labels, splits, classes))
    total = np.sum([each.counts for each in places], axis=0)  # (splits, classes)
    free = np.cumsum(total, axis=1) - total
    for each in places:
        each.next = free.copy()
        free = free + each.counts
    return places
