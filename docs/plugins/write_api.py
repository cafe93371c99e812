"""Write docs/plugins/api.md and docs/plugins/api.txt from avbench.api: run it after a change of the public API.

    python docs/plugins/write_api.py

api.md explains every public name with its docstring. api.txt records names and signatures alone: a test compares it, so
that nothing public changes unnoticed.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from avbench import api

HERE = Path(__file__).resolve().parent
_HEAD = """# The public API

Version {version}. Everything here is imported from `avbench.api`; what is not listed may change in any release. The
version is semantic: its first number rises when a plugin may break, the second when something is added. This page is
written by `docs/plugins/write_api.py` from the docstrings, and `docs/plugins/api.txt` records the signatures.
"""


def public_members(cls: type[Any]) -> Iterator[tuple[str, Any]]:
    """What a class of ours offers under its own or an inherited name, in the order of definition; no fields."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if not base.__module__.startswith("avbench."):
            continue
        fields = getattr(base, "__dataclass_fields__", {})  # one whose default is a function is no method
        for name, value in vars(base).items():
            if name in fields or (name.startswith("_") and name != "__call__"):
                continue
            callable_or_property = inspect.isroutine(value) or isinstance(value, property | classmethod | staticmethod)
            if name not in seen and callable_or_property:
                seen.add(name)
                yield name, value


class _Plain:
    """An annotation that is shown as the source spells it, without the quotes of a deferred one."""

    def __init__(self, annotation: Any) -> None:
        self.annotation = annotation

    def __repr__(self) -> str:
        return self.annotation if isinstance(self.annotation, str) else inspect.formatannotation(self.annotation)


def signature(value: Any) -> str:
    """Parameters and result as the source annotates them."""
    try:
        found = inspect.signature(value)
    except (ValueError, TypeError):  # made in C, or with no parameters that Python knows
        return "(…)"
    empty = inspect.Parameter.empty
    plain = [
        p if p.annotation is empty else p.replace(annotation=_Plain(p.annotation)) for p in found.parameters.values()
    ]
    result = found.return_annotation
    shown = found.replace(parameters=plain, return_annotation=result if result is empty else _Plain(result))
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>|<factory>", "…", str(shown))


def member_line(name: str, value: Any) -> str:
    """A method or property in one line."""
    if isinstance(value, property):
        return f"{name} -> {inspect.signature(value.fget).return_annotation}" if value.fget else name
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {name}{signature(value.__func__)}"
    return f"{name}{signature(value)}"


def class_variables(cls: type[Any]) -> list[str]:
    """The class attributes that a plugin may set: ``name: type = value``."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("avbench."):
            for name, kind in vars(base).get("__annotations__", {}).items():
                if str(kind).startswith("ClassVar") and not name.startswith("_"):
                    found[name] = str(kind)
    return [f"{name}: {kind}" for name, kind in found.items()]


def is_exported_class(value: Any) -> bool:
    return inspect.isclass(value) and value.__module__.startswith("avbench.")


def headline(name: str, value: Any) -> str:
    """What a name is, in one line."""
    if is_exported_class(value):
        made = signature(value) if dataclasses.is_dataclass(value) or "__init__" in vars(value) else ""
        values = f" = {', '.join(value.__members__)}" if issubclass(value, Enum) else ""
        return f"class {name}{made}{values}"
    if inspect.isfunction(value):
        return f"def {name}{signature(value)}"
    if isinstance(value, str | tuple):
        return f"{name} = {value!r}"
    return f"{name}: {type(value).__name__}" if not _is_alias(value) else f"{name} = {value}"


def _is_alias(value: Any) -> bool:
    return hasattr(value, "__origin__")


def snapshot() -> str:
    """The text of api.txt."""
    lines = [f"avbench.api {api.API_VERSION}"]
    for name in sorted(api.__all__):
        value = getattr(api, name)
        lines.append(headline(name, value))
        if is_exported_class(value):
            lines += [f"    {each}" for each in class_variables(value)]
            lines += [f"    {member_line(member, each)}" for member, each in public_members(value)]
    return "\n".join(lines) + "\n"


def page() -> str:
    """The text of api.md."""
    parts = [_HEAD.format(version=api.API_VERSION)]
    for name in sorted(api.__all__, key=str.lower):
        value = getattr(api, name)
        parts.append(f"## `{name}`\n\n```text\n{headline(name, value)}\n```\n")
        documented = inspect.isfunction(value) or is_exported_class(value)
        text = inspect.getdoc(value) if documented else ""
        if text:
            parts.append(f"{_prose(text)}\n")
        if is_exported_class(value):
            parts += _members(value)
    return "\n".join(parts)


def _members(cls: type[Any]) -> Iterator[str]:
    for name, value in public_members(cls):
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        text = inspect.getdoc(plain) or inspect.getdoc(getattr(cls, name)) or ""
        yield f"### `{cls.__name__}.{name}`\n\n```text\n{member_line(name, value)}\n```\n"
        if text:
            yield f"{_prose(text)}\n"


def _prose(docstring: str) -> str:
    """A docstring as Markdown: indented sections become lists, double backquotes single ones."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring).replace("``", "`")
    text = re.sub(r"(?m)^(\w[\w ]*):$", r"\n**\1**\n", text)
    text = re.sub(r"(?m)^    (\w[\w, .]*): ", r"- `\1`: ", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def write() -> None:
    """Write both files."""
    (HERE / "api.md").write_text(page(), encoding="utf-8")
    (HERE / "api.txt").write_text(snapshot(), encoding="utf-8")


if __name__ == "__main__":
    write()
