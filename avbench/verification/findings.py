"""What a verification looked at and what it found wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

#: The checks, in the order in which a report lists them.
CHECKS = (
    "files",
    "checksums",
    "schema",
    "keys",
    "artefacts",
    "arithmetic",
    "scores",
    "references",
    "completeness",
    "re-evaluation",
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: which check found it, in which file or record, and what it is."""

    check: str
    where: str
    text: str


@dataclass
class Findings:
    """What was looked at, by check, and what is wrong.

    Attributes:
        looked: how many things each check looked at.
        problems: each makes a verification fail.
        notes: what a reader should know and nothing fails by.
        suspects: keys of records that some problem concerns.
        absent: keys of distil records whose artefact lies elsewhere.
    """

    looked: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suspects: set[str] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)

    def see(self, check: str, count: int = 1) -> None:
        """Note that a check looked at something."""
        self.looked[check] += count

    def fail(self, check: str, where: str, text: str, keys: Iterable[str] = ()) -> None:
        """Note that something is wrong, and which records it concerns."""
        self.problems.append(Problem(check, where, text))
        self.suspects.update(keys)

    def hold(self, check: str, true: bool, where: str, text: str, keys: Iterable[str] = ()) -> bool:
        """See one thing and note it where it does not hold; returns whether it does."""
        self.see(check)
        if not true:
            self.fail(check, where, text, keys)
        return true

    def failed(self, check: str) -> int:
        """How many problems a check found."""
        return sum(problem.check == check for problem in self.problems)
