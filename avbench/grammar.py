"""The one grammar for plugins with options: ``dm[lr=4.2,init=herding],avdd``.

Used alike by ``--method``, ``--arch``, ``--fusion``, ``--protocol`` and by TOML grids. A value that holds a
comma, a bracket or a quote is put in double quotes; a backslash escapes the next character inside them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from avbench.errors import RequestError

_NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*:)?[A-Za-z0-9][A-Za-z0-9._/-]*")
_OPTION = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLAIN = re.compile(r"[^\s,\[\]\"=]+")


@dataclass(frozen=True)
class Variant:
    """A plugin's name with the options its user wrote, in the order of their names."""

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def given(self) -> dict[str, str]:
        return dict(self.options)

    @property
    def plain(self) -> str:
        """The name without its distribution."""
        return self.name.rpartition(":")[2]

    @property
    def label(self) -> str:
        """The canonical spelling: the same for any order in which the options were written."""
        if not self.options:
            return self.name
        return f"{self.name}[{','.join(f'{key}={quote(value)}' for key, value in self.options)}]"


def quote(value: str) -> str:
    """``value`` as the grammar reads it back."""
    if _PLAIN.fullmatch(value):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


class _Reader:
    """A cursor over the text, with errors that show where it stands."""

    def __init__(self, text: str, flag: str) -> None:
        self.text, self.flag, self.at = text, flag, 0

    def fail(self, expected: str) -> RequestError:
        rest = self.text[self.at :] or "the end"
        return RequestError(
            f"{self.flag} {self.text!r}: expected {expected} at {rest!r} (position {self.at}); "
            "the form is NAME or NAME[option=value,…], separated by commas."
        )

    def skip_space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def take(self, pattern: re.Pattern[str], expected: str) -> str:
        self.skip_space()
        match = pattern.match(self.text, self.at)
        if match is None:
            raise self.fail(expected)
        self.at = match.end()
        return match.group()

    def accept(self, character: str) -> bool:
        self.skip_space()
        if self.text.startswith(character, self.at):
            self.at += 1
            return True
        return False

    def done(self) -> bool:
        self.skip_space()
        return self.at >= len(self.text)

    def value(self) -> str:
        if not self.accept('"'):
            return self.take(_PLAIN, "a value")
        characters: list[str] = []
        while self.at < len(self.text):
            character = self.text[self.at]
            self.at += 1
            if character == '"':
                return "".join(characters)
            if character == "\\" and self.at < len(self.text):
                character = self.text[self.at]
                self.at += 1
            characters.append(character)
        raise self.fail('a closing "')


def _variant(reader: _Reader) -> Variant:
    name = reader.take(_NAME, "a name")
    options: dict[str, str] = {}
    if reader.accept("["):
        while not reader.accept("]"):
            if options and not reader.accept(","):
                raise reader.fail("',' or ']'")
            key = reader.take(_OPTION, "an option's name")
            if not reader.accept("="):
                raise reader.fail("'='")
            if key in options:
                raise RequestError(f"{reader.flag} {reader.text!r}: option {key!r} is given twice.")
            options[key] = reader.value()
    return Variant(name, tuple(sorted(options.items())))


def parse_variants(text: str, flag: str) -> tuple[Variant, ...]:
    """Read a comma-separated list; raises :class:`RequestError` on a broken one or on a repeated entry.

    Args:
        text: what the user wrote, such as ``dm,dm[lr=4.2]``.
        flag: where it was written (``--method``), for the error.
    """
    reader = _Reader(text, flag)
    if reader.done():
        raise RequestError(f"{flag} is empty: give at least one name.")
    found = [_variant(reader)]
    while not reader.done():
        if not reader.accept(","):
            raise reader.fail("','")
        found.append(_variant(reader))
    repeated = {v.label for v in found if found.count(v) > 1}
    if repeated:
        raise RequestError(f"{flag} {text!r}: {', '.join(sorted(repeated))} is listed more than once.")
    return tuple(found)


def parse_settings(entries: list[str]) -> dict[str, dict[str, str]]:
    """Read ``--set plugin.option=value`` entries into ``{plugin: {option: value}}``."""
    settings: dict[str, dict[str, str]] = {}
    for entry in entries:
        target, separator, value = entry.partition("=")
        plugin, dot, name = target.rpartition(".")
        if not (separator and dot and plugin and name and value):
            raise RequestError(f"--set {entry!r}: expected PLUGIN.OPTION=VALUE, such as dm.lr=4.2.")
        settings.setdefault(plugin.strip(), {})[name.strip()] = value.strip().strip('"')
    return settings


def canonical(name: str, given: Mapping[str, str]) -> Variant:
    """A :class:`Variant` from a mapping, its options sorted."""
    return Variant(name, tuple(sorted(given.items())))
