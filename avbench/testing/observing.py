"""One use of a plugin under observation: what came out, and what it touched besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from avbench.environment import environment
from avbench.testing.watching import GlobalRandomness, Touched, elsewhere, listening, restored, settings, watched

#: Tensors by name: what two uses of a plugin are compared by.
Outcome = Mapping[str, Tensor]


@dataclass(frozen=True)
class Observed:
    """What was seen.

    Attributes:
        printed: on stdout.
        changed: settings of the process that were not put back.
        random: the shared generators that were touched.
        left: files that appeared in the current and the home folder.
    """

    outcome: Outcome
    touched: Touched
    printed: str
    changed: tuple[str, ...]
    random: tuple[str, ...]
    left: tuple[str, ...]


def observe(use: Callable[[], Outcome], shared: GlobalRandomness, folder: Path) -> Observed:
    """Call ``use`` in an empty folder and watch it."""
    environment()  # asks git once a process; not the plugin's doing
    with elsewhere(folder) as (work, home):
        before = settings()
        with restored(before), listening() as printed:
            with watched() as touched:
                outcome = use()
            random = tuple(shared.touched())
            after = settings()
        left = [path for place in (work, home) for path in place.rglob("*") if path.is_file()]
    changed = tuple(f"{name}: {before[name]} → {after[name]}" for name in before if before[name] != after[name])
    return Observed(outcome, touched, printed.getvalue(), changed, random, tuple(path.name for path in left))
