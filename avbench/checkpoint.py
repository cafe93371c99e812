"""Checkpoints: nested dicts and lists of tensors and scalars in one safetensors file. Nothing is pickled."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avbench.work import State

_FORMAT = "1"


def save_checkpoint(path: Path, step: int, state: State) -> None:
    """Write atomically: a reader finds the old checkpoint or the whole new one."""
    tensors: dict[str, Tensor] = {}
    skeleton = json.dumps({"step": step, "state": _take_apart(state, tensors)}, allow_nan=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        save_file(tensors, partial, metadata={"format": _FORMAT, "skeleton": skeleton})
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):  # on a full disk half a checkpoint would take the room of the record
            partial.unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> tuple[int, State] | None:
    """(steps done, state), or ``None`` where there is no whole checkpoint."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    found = json.loads(metadata["skeleton"])
    state = _put_together(found["state"], tensors)
    return found["step"], state


def _take_apart(value: Any, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON, its tensors moved into ``tensors``. Keys of any scalar type survive."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # A copy of its own: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[key, _take_apart(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_take_apart(item, tensors) for item in value], "tuple": isinstance(value, tuple)}
    if value is None or isinstance(value, bool | int | float | str):
        return {"scalar": value}
    raise TypeError(f"a checkpoint can't hold {type(value).__name__}: use tensors, numbers, strings, dicts, lists")


def _put_together(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "dict" in value:
        return {key: _put_together(item, tensors) for key, item in value["dict"]}
    if "list" in value:
        items = [_put_together(item, tensors) for item in value["list"]]
        return tuple(items) if value["tuple"] else items
    return value["scalar"]
