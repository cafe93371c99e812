"""Given weights that evaluation networks start from: read, compared with the networks, kept in the run directory.

A file holds an encoder's tensors under the letter of its modality, ``a.…`` and ``v.…``, as the trained networks of a
run directory do; whatever else it holds, such as heads, is left aside. What counts is the content: the key of the
weights is a hash of the encoders' tensors, so that the same weights in another file, under another name, are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from avbench.cells import PluginRef
from avbench.configure import reconstruct
from avbench.data.clips import sha256_of
from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.formats.authors import load_restricted
from avbench.results import RunDirectory, write_atomically
from avbench.tensor_files import save_tensors_atomically

_FOLDER = "weights"
_IN_A_RUN = "tensors.safetensors"
_KEY_LENGTH = 20
_SHOWN = 10


@dataclass(frozen=True)
class GivenWeights:
    """The encoders' tensors of a file: ``a.…`` and ``v.…``."""

    path: Path
    tensors: Mapping[str, Tensor]

    @cached_property
    def key(self) -> str:
        """A hash of names, types, shapes and values."""
        return content_hash(self.tensors)

    @property
    def modalities(self) -> str:
        """``"a"``, ``"v"`` or ``"av"``."""
        return "".join(name for name in "av" if any(each.startswith(f"{name}.") for each in self.tensors))


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """The key of tensors, the same for any order and any file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:_KEY_LENGTH]


# --- reading ------------------------------------------------------------------------------------------------------


def read_weights(path: Path) -> GivenWeights:
    """The encoders' weights of a safetensors file, of a state dict in a ``.pt`` file, or of a folder of a run.

    Raises:
        RequestError: absent, damaged, not plain tensors, without encoders, or with values that are not finite.
    """
    file = path / _IN_A_RUN if path.is_dir() else path
    if not file.is_file():
        what = f"the folder holds no {_IN_A_RUN}" if path.is_dir() else "there is no such file"
        raise RequestError(f"weights {path}: {what}.")
    found = _safetensors(file) if file.suffix == ".safetensors" else dict(_flat(load_restricted(file), file, ""))
    encoders = {name: t.detach() for name, t in found.items() if name.startswith(("a.", "v."))}
    if not encoders:
        names = _some(sorted(found)) or "none"
        raise RequestError(
            f"weights {file}: no tensor is named 'a.…' (audio encoder) or 'v.…' (visual encoder); it holds {names}."
        )
    _check_values(encoders, file)
    return GivenWeights(file, encoders)


def _safetensors(file: Path) -> Mapping[str, Tensor]:
    try:
        found: Mapping[str, Tensor] = load_file(file)
    except (OSError, SafetensorError, MemoryError) as error:
        raise RequestError(f"weights {file} can't be read as safetensors: {' '.join(str(error).split())}.") from None
    return found


def _flat(value: Any, file: Path, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Tensors by dotted name: ``{"a": state_dict, "v": state_dict}`` is as good as one dict of ``a.…`` and ``v.…``."""
    if not isinstance(value, Mapping):
        raise RequestError(f"weights {file}: it holds {type(value).__name__}, expected named tensors.")
    for name, inner in value.items():
        if isinstance(inner, Tensor):
            yield f"{prefix}{name}", inner
        elif isinstance(inner, Mapping):
            yield from _flat(inner, file, f"{prefix}{name}.")


def _check_values(tensors: Mapping[str, Tensor], file: Path) -> None:
    odd = [name for name, t in tensors.items() if t.is_complex() or t.is_sparse or t.is_quantized]
    if odd:
        raise RequestError(f"weights {file}: expected plain real tensors, not {_some(odd)}.")
    wrong = [name for name, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]
    if wrong:
        raise RequestError(f"weights {file}: values that are not finite numbers in {_some(wrong)}.")


def _some(names: Sequence[str]) -> str:
    """The first ten, and how many more."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


# --- comparing ----------------------------------------------------------------------------------------------------


def check_fits(given: GivenWeights, architecture: PluginRef, info: StoreInfo, modality: str) -> str:
    """Hold weights to the networks that are to start from them, before any is trained.

    Returns:
        The letters of the modalities that start from them; others of ``modality`` are drawn.

    Raises:
        RequestError: no modality in common, or parameters that do not agree: says which, theirs and ours.
    """
    common = "".join(name for name in modality if name in given.modalities)
    if not common:
        raise RequestError(
            f"weights {given.path} are of modality {given.modalities!r} alone, the networks are judged in {modality!r}."
        )
    plugin = reconstruct("architectures", architecture).build()
    problems = []
    for name in common:
        with torch.device("meta"):
            ours = {f"{name}.{key}": t.shape for key, t in plugin.build(info, name).state_dict().items()}
        theirs = {key: t.shape for key, t in given.tensors.items() if key.startswith(f"{name}.")}
        problems += _differences(theirs, ours)
    if problems:
        shown = "; ".join(problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise RequestError(
            f"weights {given.path} do not fit {architecture.label} on {info.name} ({len(problems)} parameters differ): "
            f"{shown}{more}."
        )
    return common


def _differences(theirs: Mapping[str, torch.Size], ours: Mapping[str, torch.Size]) -> list[str]:
    shapes = [
        f"{key} is {list(theirs[key])}, here {list(ours[key])}"
        for key in ours
        if key in theirs and theirs[key] != ours[key]
    ]
    missing = [f"{key} {list(ours[key])} is missing" for key in ours if key not in theirs]
    unexpected = [f"{key} {list(theirs[key])} is unexpected" for key in theirs if key not in ours]
    return shapes + missing + unexpected


# --- in a run directory -------------------------------------------------------------------------------------------


def keep_weights(given: GivenWeights, directory: RunDirectory) -> None:
    """Copy weights to where workers find them by their key.

    Raises:
        RequestError: the folder can't be written.
    """
    folder = directory.root / _FOLDER
    target = folder / f"{given.key}.safetensors"
    about = {
        "file": given.path.name,
        "sha256": sha256_of(given.path),
        "tensors": len(given.tensors),
        "modalities": given.modalities,
    }
    try:
        write_atomically(folder / f"{given.key}.json", json.dumps(about, indent=2) + "\n")
        if not target.is_file():
            save_tensors_atomically(target, given.tensors)
    except OSError as error:
        raise RequestError(f"{folder} can't be written ({error.strerror}); choose another folder.") from None


def kept_weights(directory: RunDirectory, key: str) -> Mapping[str, Tensor]:
    """The weights of a key, as they were kept.

    Raises:
        RequestError: they were removed or altered since.
    """
    file = directory.root / _FOLDER / f"{key}.safetensors"
    try:
        found = _safetensors(file)
    except RequestError as error:
        raise RequestError(f"{error} Run the command again with the file that it was copied from.") from None
    if content_hash(found) != key:
        raise RequestError(f"weights {file} were altered since they were kept: remove the file and run again.")
    return found
