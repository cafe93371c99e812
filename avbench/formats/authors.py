"""The AVDD authors' published sets (sakshamsingh1/AVDD, ``syn_data/``): joint files, or one file a class.

Both hold factor-packed items, class after class. Files are unpickled by PyTorch's restricted loader, which makes
tensors, numbers, strings and containers and nothing else.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.data.store import StoreInfo
from avbench.distilled import LearnedSet
from avbench.errors import RequestError
from avbench.formats.base import Format, Found, Reading, learned_set, pixel_scale

_JOINT = re.compile(r"exp_(\d+)_(audSyn|imgSyn)_(\d+)\.pth?")
_CLASS = re.compile(r"class[:_](\d+)\.pth?")
_MODALITY = {"audSyn": "a", "imgSyn": "v"}
#: AVDD packs 2 × 2 (appendix B).
_FACTOR = 2
_DENORMALISED = (
    "frames lie between 0 and 1: they were saved after the normalisation was undone, and are used as they are, as the "
    "authors' evaluation does; --frames pixels normalises them"
)


def load_restricted(path: Path) -> Any:
    """What a ``.pt`` file holds; refuses all that is not tensors, numbers, strings and containers."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise RequestError(
            f"{path} can't be loaded without executing code from it (weights_only=True): refused; ask for a file of "
            "plain tensors."
        ) from None
    except Exception as error:  # a damaged archive fails in many ways
        raise RequestError(
            f"{path} can't be read ({type(error).__name__}: {' '.join(str(error).split())[:200]})."
        ) from None


class AuthorsJoint(Format):
    """``exp_{e}_audSyn_{it}.pt`` and ``exp_{e}_imgSyn_{it}.pt``, tensors (C·ipc, …)."""

    name = "authors"
    layout = "the AVDD authors' exp_{e}_audSyn_{it}.pt with exp_{e}_imgSyn_{it}.pt"

    def reads(self, path: Path) -> bool:
        return path.is_dir() and any(_JOINT.fullmatch(each.name) for each in path.iterdir())

    def read(self, path: Path, info: StoreInfo, reading: Reading) -> list[Found]:
        files: dict[int, dict[int, dict[str, Path]]] = {}
        for each in sorted(path.iterdir()) if path.is_dir() else ():
            match = _JOINT.fullmatch(each.name)
            if match:
                experiment, part, iteration = int(match[1]), _MODALITY[match[2]], int(match[3])
                files.setdefault(experiment, {}).setdefault(iteration, {})[part] = each
        if not files:
            raise RequestError(f"{path} holds no files named exp_{{e}}_audSyn_{{it}}.pt or exp_{{e}}_imgSyn_{{it}}.pt.")
        return [
            Found(self._one(path, info, reading, experiment, kept), reading.seed + number)
            for number, (experiment, kept) in enumerate(sorted(files.items()))
        ]

    def _one(
        self, path: Path, info: StoreInfo, reading: Reading, experiment: int, kept: Mapping[int, Mapping[str, Path]]
    ) -> LearnedSet:
        where = f"{path}, experiment {experiment}"
        iteration = _choose(where, list(kept), reading.iteration)
        items = {}
        for name, file in kept[iteration].items():
            items[name] = _plain(str(file), load_restricted(file))
        return _assemble(where, info, items, reading)


class AuthorsClassWise(Format):
    """``class:{c}.pt`` = {experiment: {"audio_syn": {iteration: tensor}, "image_syn": {…}}}."""

    name = "authors-classwise"
    layout = "their class:{c}.pt, one a class"

    def reads(self, path: Path) -> bool:
        return path.is_dir() and any(_CLASS.fullmatch(each.name) for each in path.iterdir())

    def read(self, path: Path, info: StoreInfo, reading: Reading) -> list[Found]:
        files = {}
        for each in path.iterdir() if path.is_dir() else ():
            match = _CLASS.fullmatch(each.name)
            if match:
                files[int(match[1])] = each
        missing = sorted(set(range(len(info.classes))) - set(files))
        if missing or len(files) != len(info.classes):
            raise RequestError(
                f"{path} holds files of {len(files)} classes, {info.name} has {len(info.classes)}; "
                f"missing: {', '.join(map(str, missing[:10])) or 'none'}."
            )
        loaded = [_experiments(files[cls]) for cls in sorted(files)]
        common = sorted(set.intersection(*(set(each) for each in loaded)))
        if not common:
            raise RequestError(f"{path}: no experiment is in the files of all classes.")
        found = []
        for number, experiment in enumerate(common):
            where = f"{path}, experiment {experiment}"
            of_classes = [_class_items(where, each[experiment], reading.iteration) for each in loaded]
            names = set.intersection(*(set(each) for each in of_classes))
            items = {name: _joined(where, [each[name] for each in of_classes]) for name in sorted(names)}
            found.append(Found(_assemble(where, info, items, reading), reading.seed + number))
        return found


def _experiments(file: Path) -> Mapping[Any, Any]:
    found = load_restricted(file)
    if not isinstance(found, dict) or not all(type(k) is int and isinstance(each, dict) for k, each in found.items()):
        raise RequestError(f"{file} holds no experiments: expected {{experiment: {{'audio_syn': …, 'image_syn': …}}}}.")
    return found


def _class_items(where: str, values: Mapping[str, Any], iteration: int | None) -> dict[str, Tensor]:
    """One class's tensors (ipc, …), by modality."""
    found = {}
    for name, key in (("a", "audio_syn"), ("v", "image_syn")):
        kept = values.get(key)
        if isinstance(kept, dict) and kept:
            found[name] = _plain(f"{where}: {key}", kept[_choose(where, list(kept), iteration)])
    return found


def _plain(where: str, value: Any) -> Tensor:
    """A value from a file as a tensor (N, channels, height, width) that holds its numbers itself."""
    if not isinstance(value, Tensor):
        raise RequestError(f"{where} holds {type(value).__name__}, expected a tensor.")
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu" or value.ndim != 4:
        raise RequestError(f"{where} holds a tensor {value.dtype} {tuple(value.shape)}, expected a plain one (N, …).")
    if value.untyped_storage().nbytes() < value.numel() * value.element_size():  # strides that repeat few numbers
        raise RequestError(f"{where} holds fewer numbers than its shape {tuple(value.shape)} has.")
    return value.detach()


def _joined(where: str, tensors: list[Tensor]) -> Tensor:
    if len({(each.shape[1:], each.dtype) for each in tensors}) > 1:
        raise RequestError(f"{where}: the classes' tensors differ in shape or type.")
    return torch.cat(tensors)


def _choose(where: str, iterations: list[int], wanted: int | None) -> int:
    if not all(type(each) is int for each in iterations):
        raise RequestError(f"{where}: the iterations are no whole numbers.")
    if wanted is None:
        return max(iterations)
    if wanted not in iterations:
        kept = ", ".join(str(each) for each in sorted(iterations))
        raise RequestError(f"{where}: no iteration {wanted} was kept; there are {kept}.")
    return wanted


def _assemble(where: str, info: StoreInfo, items: Mapping[str, Tensor], reading: Reading) -> LearnedSet:
    """Items of all classes, class after class, as a set."""
    counts = {len(tensor) for tensor in items.values()}
    classes = len(info.classes)
    if len(counts) != 1 or (count := next(iter(counts))) == 0 or count % classes:
        raise RequestError(f"{where}: {sorted(counts)} items do not divide into the {classes} classes of {info.name}.")
    labels = torch.arange(classes).repeat_interleave(count // classes)
    as_is = reading.frames == "auto"  # the authors' evaluation takes them as they are
    told = Reading(reading.factor, "network" if as_is else reading.frames, reading.audio, None, reading.seed)
    found = learned_set(where, info, items, labels, told, reading.factor or _FACTOR)
    if as_is and "v" in items and pixel_scale(items["v"]) == 1:
        return replace(found, notes=(*found.notes, _DENORMALISED))
    return found
