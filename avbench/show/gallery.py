"""Making the exhibition: a room for each set, all that can be shown in it, and the page."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from avbench import __version__
from avbench.errors import AvbenchError, RequestError
from avbench.formats.export import check_free
from avbench.results import write_atomically
from avbench.show.confusion import hang_confusion
from avbench.show.curves import hang_curves
from avbench.show.embedding import hang_embeddings
from avbench.show.hanging import hang_frames
from avbench.show.page import index_page
from avbench.show.retrieving import hang_retrieval
from avbench.show.room import Missing, Options, Room
from avbench.show.sound import hang_sound
from avbench.show.style import check_installed, drawing
from avbench.show.subject import Subject, slug

#: What can be shown, in the order of the page.
KINDS: dict[str, Callable[[Room], None]] = {
    "frames": hang_frames,
    "embeddings": hang_embeddings,
    "curves": hang_curves,
    "confusion": hang_confusion,
    "retrieval": hang_retrieval,
    "sound": hang_sound,
}
#: What needs no figures.
_WITHOUT_FIGURES = {"sound"}
INDEX = "index.html"


@dataclass(frozen=True)
class Shown:
    """What was made, and what was not: (set, what and why)."""

    index: Path
    rooms: tuple[Room, ...]

    @property
    def missing(self) -> list[tuple[str, Missing]]:
        found = [(room.subject.name, each) for room in self.rooms for each in room.missing]
        return list(dict.fromkeys(found))


def show(
    subjects: Sequence[Subject],
    options: Options,
    kinds: Sequence[str],
    target: Path,
    tell: Callable[[str], None] = lambda _: None,
) -> Shown:
    """Show sets in ``target``, a new or empty folder.

    Args:
        kinds: of :data:`KINDS`.
        tell: called with a line as each thing is begun.

    Raises:
        RequestError: nothing at all can be shown, or the folder can't take it.
    """
    figures = bool(set(kinds) - _WITHOUT_FIGURES)
    if figures:
        check_installed()
    check_free(target)
    rooms = [Room(each, options, target / slug(each.name, number)) for number, each in enumerate(subjects, 1)]
    for room in rooms:
        _ = room.classes  # an unknown class is said before anything is drawn
    try:
        target.mkdir(parents=True, exist_ok=True)
        with drawing() if figures else nullcontext():
            for room in rooms:
                with _threads(room.subject.threads):
                    _fill(room, kinds, tell)
        if not any(room.exhibits for room in rooms):
            if not any(target.iterdir()):
                target.rmdir()
            raise RequestError(f"nothing can be shown: {_reasons(rooms)}.")
        title = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} distilled sets"
        write_atomically(target / INDEX, index_page(title, rooms, _settings(options, kinds)))
    except OSError as error:
        raise RequestError(f"-o {target}: can't be written ({error.strerror}); choose another folder.") from None
    return Shown(target / INDEX, tuple(rooms))


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """As many threads as the run had: other numbers round otherwise, and small networks gain nothing from more."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fill(room: Room, kinds: Sequence[str], tell: Callable[[str], None]) -> None:
    """Make what can be made; what can't says why and leaves the rest alone."""
    for kind in kinds:
        tell(f"{room.subject.name}: {kind}")
        try:
            KINDS[kind](room)
        except AvbenchError as error:
            room.miss(kind, str(error).rstrip("."))


def _reasons(rooms: Sequence[Room]) -> str:
    """Each reason once, with all that it hindered."""
    hindered: dict[str, list[str]] = {}
    for each in dict.fromkeys(each for room in rooms for each in room.missing):
        hindered.setdefault(each.reason, []).append(each.kind)
    return "; ".join(f"{', '.join(dict.fromkeys(kinds))}: {reason}" for reason, kinds in hindered.items())


def _settings(options: Options, kinds: Sequence[str]) -> dict[str, object]:
    return {
        "avbench": __version__,
        "what": ", ".join(kinds),
        "classes": list(options.classes) or "all",
        "per class": options.per_class,
        "networks": ", ".join(options.networks),
        "seed": options.seed,
        "device": options.device,
        "dpi": options.dpi,
    }
