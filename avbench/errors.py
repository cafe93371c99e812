"""The errors avbench raises on purpose: each says what was given, what was expected and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

#: An error is a line to read: no thousand names of backbones.
_MOST_LISTED = 40


class AvbenchError(Exception):
    """Base of all errors that are shown as one line instead of a traceback."""

    exit_status = 3


class RequestError(AvbenchError):
    """The request itself is wrong (unknown name, ill-typed option, absent file): exit status 2."""

    exit_status = 2


class StoreError(RequestError):
    """A dataset store is absent, truncated, of another format version, or does not match its fingerprint."""


class PluginError(AvbenchError):
    """A plugin could not be found, imported or used; carries which one and in which phase."""

    exit_status = 2

    def __init__(self, message: str, *, plugin: str = "", phase: str = "") -> None:
        super().__init__(message)
        self.plugin = plugin
        self.phase = phase


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that offers the nearest known names, or lists them when none is near; of very many, the first."""
    choices = sorted(set(known))
    close = difflib.get_close_matches(name, choices, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(c) for c in close) + "?"
    more = len(choices) - _MOST_LISTED
    listed = [*choices[:_MOST_LISTED], *([f"… and {more} more"] if more > 0 else [])]
    return "known: " + (", ".join(listed) if listed else "none") + "."
