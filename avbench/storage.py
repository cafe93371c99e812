"""Bytes that must be stored to train on a set of a given size: asked of the distilled sets themselves.

The formulas stand in :meth:`LearnedSet.storage_bytes` and :meth:`SelectedSet.storage_bytes` alone. Here a set of the
wanted size is made of tensors without memory, so that a plan counts exactly what a record will say.
"""

from __future__ import annotations

import torch

from avbench.data.store import StoreInfo
from avbench.distilled import LearnedSet, SelectedSet

_NOWHERE = torch.device("meta")


def learned_bytes(info: StoreInfo, modality: str, ipc: int) -> int:
    """Bytes of a learned set: float32 in each modality, and the labels. A learned step size would add 4 each."""
    count = ipc * len(info.classes)
    labels = torch.empty(count, dtype=torch.int64, device=_NOWHERE)
    items = {name: torch.empty((count, *info.shape(name)), device=_NOWHERE) for name in modality}
    return LearnedSet(info, modality, labels, items).storage_bytes()


def selected_bytes(info: StoreInfo, modality: str, ipc: int) -> int:
    """Bytes of a selection: uint8 frames, float32 log-mel, and the labels."""
    labels = torch.empty(ipc * len(info.classes), dtype=torch.int64, device=_NOWHERE)
    return SelectedSet(info, modality, labels, labels).storage_bytes()


def ipc_of_equal_storage(info: StoreInfo, modality: str, ipc: int) -> int:
    """The most real samples a class that take no more bytes than ``ipc`` learned items a class."""
    return learned_bytes(info, modality, ipc) // selected_bytes(info, modality, 1)
