"""Writing files of tensors, so that a kill or a full disk never leaves half of one under its name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from avbench.results import replacing


def save_tensors_atomically(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors of any device and layout: a reader finds the old file or the whole new one.

    Who has the old one open may go on reading it.
    """
    with replacing(path) as partial:
        save_file(_apart(tensors), partial, metadata=None if metadata is None else dict(metadata))


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors in the CPU's memory, each with a storage of its own: safetensors refuses those that share one."""
    found: dict[str, Tensor] = {}
    taken = set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        # Copied only where it must be: a set or a checkpoint may take gigabytes.
        if storage.nbytes() != own.nbytes or storage.data_ptr() in taken:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        found[name] = own
    return found
