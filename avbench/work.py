"""Work that is done in steps, so that one runner can drive, checkpoint, resume and time all of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

#: What a checkpoint holds: nested dicts and lists of tensors, numbers, strings and booleans.
State = dict[str, Any]


class Work(ABC):
    """A piece of work in ``steps`` steps. The runner calls ``step(0), step(1), …`` and owns everything around it.

    A step may depend on its number and on the state alone, never on how the work got there: this is what makes a
    resumed run give the bits of an uninterrupted one.
    """

    @property
    @abstractmethod
    def steps(self) -> int:
        """How many steps there are; 0 for work that is finished when it is built."""

    @abstractmethod
    def step(self, k: int) -> Mapping[str, float]:
        """Do step ``k`` and return what is worth logging. A value that is not finite fails the task."""

    def state(self) -> State:
        """All that later steps depend on."""
        return {}

    def load_state(self, state: State) -> None:
        """Continue from a state that :meth:`state` gave.

        Tensors that lay on the run's device come back on the device of the run that goes on, all others on the CPU.
        What belongs to the CPU whatever the run's device is, such as a generator's state, goes into a list of numbers.
        """
