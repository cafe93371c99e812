"""Fake releases of preprocessed data in the exact layouts of the AVDD authors' one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avbench.api import PrepareContext, Store
from avbench_datasets._release import Release, release_store

FRAME, SOUND = (3, 224, 224), (1, 128, 56)
#: Labels in the order of the file, as in the release: not sorted. Class 0 has 6, class 1 has 4, class 2 has 2.
LABELS = (1, 0, 0, 2, 1, 0, 0, 2, 1, 0, 1, 0)
TEST_LABELS = (2, 0, 1)


def samples(
    count: int, first: int = 0, byte: bool = True, shape: tuple[int, ...] = FRAME, sound: tuple[int, ...] = SOUND
) -> tuple[Tensor, Tensor]:
    """Frames and sounds that tell their number: every pixel of sample i is i, its level -i/2 dB."""
    number = torch.arange(first, first + count)
    frames = number.to(torch.uint8 if byte else torch.float32).view(-1, 1, 1, 1).expand(count, *shape).clone()
    return frames, (number / -2).view(-1, 1, 1, 1).expand(count, *sound).clone()


def split_file(split: str, labels: tuple[int, ...], first: int = 0, **how: Any) -> dict[str, Any]:
    """What a file of one split holds; labels are int32 as the authors' are."""
    frames, audio = samples(len(labels), first, **how)
    kept = torch.tensor(labels, dtype=torch.int32)
    return {f"images_{split}": frames, f"audio_{split}": audio, f"labels_{split}": kept}


def save(path: Path, values: object, **how: Any) -> Path:
    """``torch.save`` into a folder that is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(values, path, **how)
    return path


def write_release(folder: Path) -> Path:
    """A whole-split release of a dataset with three classes."""
    save(folder / "train_data/ave_train.pt", split_file("train", LABELS))
    save(folder / "test_data/ave_test.pt", split_file("test", TEST_LABELS, 100))
    return folder


def prepare(source: Path | None, said: list[str] | None = None, **options: Any) -> Store:
    """The store of a release; the options are those of :class:`Release`."""
    data = source.parent / "data" if source else Path("data")
    context = PrepareContext(data, "mine", source, lambda done, total, what: (said or []).append(what))
    plain = {"dataset": "ave", "version": 1, "short_name": "ave", "licence": "a", "citation": "b", "val_fraction": 0.34}
    return release_store(context, Release(**{**plain, **options}))


def change(path: Path, **changes: Any) -> None:
    """Write a file anew with other values; ``None`` leaves a key out."""
    values = {**torch.load(path, weights_only=True), **changes}
    torch.save({key: value for key, value in values.items() if value is not None}, path)
