"""Random selection: ipc real samples of each class. The baseline of every board."""

from __future__ import annotations

from collections.abc import Sequence

from avbench.api import SelectionMethod, random_rows


class RandomSelection(SelectionMethod):
    """Real samples drawn at random, the baseline."""

    role = "baseline"

    def select(self, cls: int, count: int) -> Sequence[int]:
        return random_rows(self.context, cls, count)
