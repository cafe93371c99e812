"""Checkpoints: nested dicts and lists of tensors and scalars in one safetensors file. Nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from avbench.tensor_files import save_tensors_atomically
from avbench.work import State

_FORMAT = "1"


def save_checkpoint(path: Path, step: int, state: State, device: torch.device | str = "cpu") -> None:
    """Write atomically: a reader finds the old checkpoint or the whole new one.

    Args:
        device: on which the run computes: which tensors lie there is written, too.
    """
    tensors: dict[str, Tensor] = {}
    parts = _take_apart(state, tensors, torch.device(device).type)
    skeleton = json.dumps({"step": step, "state": parts}, allow_nan=True)
    save_tensors_atomically(path, tensors, {"format": _FORMAT, "skeleton": skeleton})


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> tuple[int, State] | None:
    """(steps done, state), or ``None`` where there is no whole checkpoint.

    Args:
        device: on which the run computes that goes on: there come back the tensors that lay on the device of the run
            that saved them, be it another one. Others come back to the CPU.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    found = json.loads(metadata["skeleton"])
    state = _put_together(found["state"], tensors, device)
    return found["step"], state


def _take_apart(value: Any, tensors: dict[str, Tensor], device_type: str) -> Any:
    """``value`` as JSON, its tensors moved into ``tensors``. Keys of any scalar type survive."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value
        return {"tensor": name, "on_device": value.device.type == device_type}
    if isinstance(value, dict):
        return {"dict": [[key, _take_apart(item, tensors, device_type)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        items = [_take_apart(item, tensors, device_type) for item in value]
        return {"list": items, "tuple": isinstance(value, tuple)}
    if value is None or isinstance(value, bool | int | float | str):
        return {"scalar": value}
    raise TypeError(f"a checkpoint can't hold {type(value).__name__}: use tensors, numbers, strings, dicts, lists")


def _put_together(value: Any, tensors: dict[str, Tensor], device: torch.device | str) -> Any:
    if "tensor" in value:
        tensor = tensors[value["tensor"]]
        return tensor.to(device) if value.get("on_device") else tensor
    if "dict" in value:
        return {key: _put_together(item, tensors, device) for key, item in value["dict"]}
    if "list" in value:
        items = [_put_together(item, tensors, device) for item in value["list"]]
        return tuple(items) if value["tuple"] else items
    return value["scalar"]
