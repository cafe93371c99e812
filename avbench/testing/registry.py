"""What a check is, how it fails, and the registry in which every kind of plugin finds its checks."""

from __future__ import annotations

import traceback
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avbench.errors import AvbenchError

if TYPE_CHECKING:
    from avbench.testing.subject import Subject

#: A check: given the subject it returns a note worth showing, or nothing.
Function = Callable[[Any], str | None]


class Failure(AssertionError):  # noqa: N818 - it says what it is in an author's test
    """A plugin does not keep a promise of its contract."""

    def __init__(self, expected: str, found: str, advice: str) -> None:
        super().__init__(f"expected {expected}; found {found}. {advice}")
        self.expected, self.found, self.advice = expected, found, advice


class NotChecked(unittest.SkipTest):
    """A check that can't be made here, and why; pytest shows it as a skip."""


@dataclass(frozen=True)
class Registered:
    """A check as it is registered.

    Attributes:
        kinds: the kinds of plugin that it is for, in the singular.
        name: short and stable: it is the id of a test.
        promise: what holds of a plugin that passes, in one sentence.
    """

    kinds: tuple[str, ...]
    name: str
    promise: str
    function: Function


_REGISTRY: list[Registered] = []


def register(*kinds: str, name: str, promise: str) -> Callable[[Function], Function]:
    """Make a function a check of these kinds of plugin: from then on every author's test has it."""

    def add(function: Function) -> Function:
        taken = [each for each in _REGISTRY if each.name == name and set(each.kinds) & set(kinds)]
        if taken:
            raise ValueError(f"a check {name!r} of {' and '.join(taken[0].kinds)} is registered already")
        _REGISTRY.append(Registered(kinds, name, promise, function))
        return function

    return add


def registered(kind: str) -> list[Registered]:
    """The checks of a kind, in the order in which they are made."""
    return [each for each in _REGISTRY if kind in each.kinds]


@dataclass(frozen=True)
class Check:
    """One check of one plugin; ``str`` gives its name, for the ids of tests."""

    about: Registered
    subject: Subject

    @property
    def name(self) -> str:
        return self.about.name

    @property
    def promise(self) -> str:
        return self.about.promise

    def __str__(self) -> str:
        return self.name

    def __call__(self) -> str:
        """Make the check.

        Returns:
            A note worth showing, such as what was measured; mostly "".

        Raises:
            Failure: says what was expected, what was found and what to do.
            NotChecked: says why it can't be made here.
        """
        try:
            with self.subject.at_work():
                return self.about.function(self.subject) or ""
        except (Failure, NotChecked):
            raise
        # A plugin may raise anything, SystemExit included: all of it is told in words.
        except (Exception, SystemExit) as error:
            raise raised(error, self.promise) from error


def raised(error: BaseException, promise: str) -> Failure:
    """The failure that an exception of a plugin is."""
    told = " ".join(str(error).split())
    kind = "" if isinstance(error, AvbenchError) else f"{type(error).__name__}: "
    return Failure(promise, f"it raised {kind}{told}{_place(error)}", "Correct what raises, or refuse by RequestError.")


def _place(error: BaseException) -> str:
    """Where an exception arose: the innermost line that is not the kit's own."""
    own = Path(__file__).parent
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if own not in Path(frame.filename).parents]
    if isinstance(error, AvbenchError) or not frames:
        return ""
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"
