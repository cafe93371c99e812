"""avbench's own sets: a folder with ``distilled.json`` and ``distilled.safetensors``, of a run or alone."""

from __future__ import annotations

import json
from pathlib import Path

from avbench.data.store import StoreInfo
from avbench.distilled import load
from avbench.errors import RequestError
from avbench.formats.base import Format, Found, Reading


class Own(Format):
    """``distilled.json`` beside its tensors."""

    name = "avbench"
    layout = "avbench's own folder with distilled.json"

    def reads(self, path: Path) -> bool:
        return (path / "distilled.json").is_file()

    def read(self, path: Path, info: StoreInfo, reading: Reading) -> list[Found]:
        found = load(path)
        if found.dataset.fingerprint != info.fingerprint:
            self._check_like(path, found.dataset, info, found.kind)
        return [Found(found, _seed(path, reading.seed))]

    def _check_like(self, path: Path, made: StoreInfo, info: StoreInfo, kind: str) -> None:
        """A learned set may be judged on another preparation of its dataset; a selected one refers to rows."""
        if kind == "selected":
            raise RequestError(
                f"{path} refers to rows of {made.name!r} with fingerprint {made.fingerprint[:12]}, the store "
                f"{info.name!r} has {info.fingerprint[:12]}: prepare the dataset as it was then."
            )
        for what, theirs, ours in (
            ("classes", made.classes, info.classes),
            ("audio", made.audio_shape, info.audio_shape),
            ("frames", made.frame_shape, info.frame_shape),
        ):
            if tuple(theirs) != tuple(ours):
                raise RequestError(
                    f"{path} was made for {made.name!r}: its {what} are {theirs}, {info.name!r} has {ours}."
                )


def _seed(path: Path, default: int) -> int:
    """The seed of the run that made it, where its record lies beside it."""
    try:
        return int(json.loads((path / "record.json").read_text(encoding="utf-8"))["seed"])
    except (OSError, ValueError, KeyError, TypeError):
        return default
