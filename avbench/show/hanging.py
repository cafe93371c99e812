"""Hanging grids: which items, which stages, which views, and what is said of them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from avbench.distilled import DistilledSet, LearnedSet
from avbench.show.beginning import beginning
from avbench.show.grids import PERCENTILES, Look, Stage, grid_figures, range_of
from avbench.show.room import AbsentError, Room
from avbench.show.scale import Array, axes_of, decibels, pixels, transform_of

_BEFORE, _AFTER = "before", "distilled"
#: Height by width of a spectrogram in a grid, where there is room for its axes.
_ASPECT = 0.8
_MOST_DECODED = 12


def hang_frames(room: Room) -> None:
    """Frames and spectrograms of each class, stored and, where items pack several samples, decoded.

    Raises:
        AbsentError: the set's samples are not at hand.
    """
    stages: list[tuple[str, DistilledSet]] = []
    said = ""
    try:
        before, origin = beginning(room)
        stages.append((_BEFORE, before))
        said = f"Before: {origin}."
    except AbsentError as error:
        room.miss("frames", str(error))
    after = _AFTER if isinstance(room.subject.set, LearnedSet) else "selected"
    stages.append((after, room.subject.set))
    factor = room.subject.set.factor if isinstance(room.subject.set, LearnedSet) else 1
    for name in reversed(room.modality):
        for decoded in (False, True) if factor > 1 else (True,):
            (_hang_pictures if name == "v" else _hang_spectrograms)(room, stages, decoded, factor, said)


def _collect(room: Room, given: DistilledSet, decoded: bool, name: str) -> list[Tensor]:
    most = room.options.per_class
    return [
        room.items(given, cls, most, decoded=decoded)[name][: max(most, _MOST_DECODED) if decoded else None]
        for cls in room.classes
    ]


def _view(decoded: bool, factor: int) -> tuple[str, str, str]:
    """The words for a view: in a title, in a file's name, in a caption."""
    if factor == 1:
        return "", "", ""
    if decoded:
        return ", decoded", "-decoded", f" Each stored item gives {factor} × {factor} training samples."
    return ", as stored", "-stored", f" Each stored item packs {factor} × {factor} samples."


def _items(room: Room) -> str:
    """How many of each class are shown of how many there are."""
    held = int(room.subject.set.labels.numel()) // len(room.info.classes)
    shown = min(held, room.options.per_class)
    return f"{shown} of {held} items a class" if shown < held else f"{held} item{'s' * (held != 1)} a class"


def _hang_pictures(room: Room, sets: Sequence[tuple[str, DistilledSet]], decoded: bool, factor: int, said: str) -> None:
    title, stem, packing = _view(decoded, factor)
    stages, clipped = [], 0.0
    for name, given in sets:
        images: list[Array] = []
        for frames in _collect(room, given, decoded, "v"):
            shown, outside = pixels(room.info, frames)
            images.append(shown)
            clipped = max(clipped, outside)
        stages.append(Stage(name, tuple(images)))
    _, height, width = room.info.frame_shape
    look = Look(height / width, factor=1 if decoded else factor)
    cut = f" Values outside of what a pixel can hold are clipped (at most {clipped:.0%} of a class)." if clipped else ""
    caption = f"{_items(room)}, with the normalisation undone.{packing}{cut} {said}"
    figures = grid_figures(stages, room.names(room.classes), look)
    room.hang("frames", f"Frames{title}", caption, figures, f"frames{stem}")


def _hang_spectrograms(
    room: Room, sets: Sequence[tuple[str, DistilledSet]], decoded: bool, factor: int, said: str
) -> None:
    title, stem, packing = _view(decoded, factor)
    stages = [
        Stage(name, tuple(decibels(room.info, audio) for audio in _collect(room, given, decoded, "a")))
        for name, given in sets
    ]
    unit = str(room.info.audio_transform.get("unit", "value"))
    axes = axes_of(room.info, 3) if decoded else None
    look = Look(_ASPECT, range_of(stages, unit), axes, factor=1 if decoded else factor)
    how = "Centre frequencies of the mel bands" if transform_of(room.info) else "Bands as the dataset has them"
    scale = f" One colour scale for all, from the {PERCENTILES[0]}th to the {PERCENTILES[1]}th percentile."
    caption = (
        f"{_items(room)}, with the normalisation undone. {how if decoded else 'Packed items have no common axes'}."
    )
    figures = grid_figures(stages, room.names(room.classes), look)
    room.hang("frames", f"Spectrograms{title}", f"{caption}{packing}{scale} {said}", figures, f"spectrograms{stem}")
