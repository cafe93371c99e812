"""Discovery of plugins through entry points: lazy, one at a time, and one broken plugin hurts nobody else.

Listing reads names from the installed metadata and the summary from the source text, so it imports nothing.
Loading imports one entry point, checks its type and, on failure, names plugin, distribution, version and phase.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.errors import AvbenchError, PluginError, nearest

#: What each kind must be a subclass of; ``None``: any object (hooks are plain pluggy plugins).
KINDS: dict[str, str | None] = {
    "methods": "avbench.method:Method",
    "datasets": "avbench.dataset:Dataset",
    "architectures": "avbench.nets.base:Architecture",
    "fusions": "avbench.nets.fusion:Fusion",
    "protocols": "avbench.protocols.base:Protocol",
    "executors": "avbench.executors.base:Executor",
    "hooks": None,
}
#: The version of a source tree that was never installed: nothing can be held against it.
UNKNOWN_VERSION = "0+unknown"


@dataclass(frozen=True)
class PluginInfo:
    """What is known of a plugin without importing it."""

    kind: str
    name: str
    distribution: str
    version: str
    target: str
    summary: str
    duplicate: bool = False

    @property
    def qualified(self) -> str:
        """The name to use where several distributions offer the same one."""
        return f"{self.distribution}:{self.name}" if self.duplicate else self.name

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Loaded:
    """An imported plugin."""

    info: PluginInfo
    target: Any


@contextmanager
def guard(info: PluginInfo, phase: str) -> Iterator[None]:
    """Around any call of a plugin's code: what it raises names kind, plugin, distribution, version and phase.

    Raises:
        PluginError: in place of any exception that is not ours; SystemExit too may not take the tool down.
    """
    try:
        with redirect_stdout(sys.stderr):  # stdout is the board's
            yield
    except AvbenchError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"{info.kind[:-1]} {info.name!r} ({info.distribution} {info.version}) failed in {phase}: {_told(error)}",
            plugin=info.name,
            phase=phase,
        ) from error


def _told(error: BaseException) -> str:
    """An exception in one line, whatever it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _normalised(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


@cache
def _entries(kind: str) -> tuple[tuple[EntryPoint, str, str], ...]:
    """The entry points of a kind as (entry, distribution, version), each distribution's once, sorted by name."""
    found: dict[tuple[str, str, str], tuple[EntryPoint, str, str]] = {}
    for entry in entry_points(group=f"avbench.{kind}"):
        distribution = entry.dist.name if entry.dist else "unknown"
        version = entry.dist.version if entry.dist else "unknown"
        # The same distribution may be seen twice on sys.path (an editable install beside a built one).
        found.setdefault((entry.name, _normalised(distribution), entry.value), (entry, distribution, version))
    return tuple(found[key] for key in sorted(found))


def refresh() -> None:
    """Forget what was discovered; for tests that install plugins while running."""
    for found in (_entries, _listed, _load):
        found.cache_clear()


def listing(kind: str) -> list[PluginInfo]:
    """All plugins of a kind, by name, without importing any of them."""
    return list(_listed(kind))


@cache
def _listed(kind: str) -> tuple[PluginInfo, ...]:
    entries = _entries(kind)
    names = [entry.name for entry, _, _ in entries]
    return tuple(
        PluginInfo(kind, e.name, dist, version, e.value, _summary(e), names.count(e.name) > 1)
        for e, dist, version in entries
    )


def _summary(entry: EntryPoint) -> str:
    """The first docstring line of the target, or of its module, read from the source without running it."""
    path = _source(entry.module)
    if path is None:
        return ""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, ValueError):
        return ""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == entry.attr:
            text = ast.get_docstring(node)
            if text:
                return text.strip().splitlines()[0]
    return (ast.get_docstring(tree) or "").strip().split("\n")[0]


def _source(module: str) -> Path | None:
    """The source file of a module; only the finders run, no package's code."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin)
    base = Path(spec.origin).parent.joinpath(*rest)
    candidates = (base.with_suffix(".py"), base / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def find(kind: str, name: str) -> tuple[EntryPoint, PluginInfo]:
    """The one entry point that ``name`` (or ``distribution:name``, or ``family/rest``) means.

    Raises:
        PluginError: no such name, or several distributions offer it.
    """
    wanted_distribution, _, plain = name.rpartition(":")
    if plain not in [info.name for info in listing(kind)]:
        plain = plain.partition("/")[0]
    matches = [
        (entry, info)
        for (entry, _, _), info in zip(_entries(kind), listing(kind), strict=True)
        if info.name == plain
        and (not wanted_distribution or _normalised(info.distribution) == _normalised(wanted_distribution))
    ]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        known = [info.qualified for info in listing(kind)]
        raise PluginError(f"unknown {kind[:-1]} {name!r}; {nearest(name, known)}", plugin=name, phase="find")
    offers = " or ".join(repr(f"{info.distribution}:{info.name}") for _, info in matches)
    raise PluginError(
        f"{kind[:-1]} {name!r} is offered by several distributions; say which: {offers}.",
        plugin=name,
        phase="find",
    )


def load(kind: str, name: str) -> Loaded:
    """Import one plugin and check that it is what its group promises; remembered until :func:`refresh`.

    Raises:
        PluginError: unknown, ambiguous, made for another avbench, failing to import, or of the wrong type.
    """
    return _load(kind, name)


@cache
def _load(kind: str, name: str) -> Loaded:
    entry, info = find(kind, name)
    who = f"{kind[:-1]} {name!r} ({info.distribution} {info.version}, {info.target})"
    asked = _unmet(entry)
    if asked:
        raise PluginError(
            f"{who} needs {asked}, and this is avbench {__version__}: install a release of {info.distribution} that is "
            "made for this avbench, or such an avbench.",
            plugin=name,
            phase="version",
        )
    try:
        with redirect_stdout(sys.stderr):
            target = entry.load()
    # A plugin's import may fail in any way, SystemExit included; none of them may take the tool down.
    except (Exception, SystemExit) as error:
        raise PluginError(f"{who} failed to import: {_told(error)}", plugin=name, phase="import") from error
    expected = KINDS[kind]
    if expected is not None:
        module, _, attribute = expected.partition(":")
        base = getattr(import_module(module), attribute)
        if not (isinstance(target, type) and issubclass(target, base)):
            raise PluginError(f"{who} is not a subclass of {attribute}.", plugin=name, phase="type")
    if family_member(info, name) and not getattr(target, "family", ""):
        known = [each.qualified for each in listing(kind)]
        raise PluginError(f"unknown {kind[:-1]} {name!r}; {nearest(name, known)}", plugin=name, phase="find")
    return Loaded(info, target)


def _unmet(entry: EntryPoint) -> str:
    """What a plugin's distribution asks of avbench, where this one is not it; "" where it fits.

    pip sees to this too, but not where a package was installed without its dependencies, or avbench changed later. The
    plugin's code is not run: it might fail on the very name that it lacks.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    for text in (entry.dist.requires if entry.dist else None) or ():
        try:
            asked = Requirement(text)
        except InvalidRequirement:
            continue
        applies = asked.marker is None or asked.marker.evaluate({"extra": ""})
        if _normalised(asked.name) != "avbench" or not applies or __version__ == UNKNOWN_VERSION:
            continue
        if not asked.specifier.contains(__version__, prereleases=True):
            return str(asked)
    return ""


def family_member(info: PluginInfo, name: str) -> str:
    """What follows the slash where ``name`` is ``family/rest``; "" where it is the plugin's own name."""
    plain = name.rpartition(":")[2]
    return "" if plain == info.name else plain.partition("/")[2]


def audit() -> list[tuple[PluginInfo, str]]:
    """Every plugin of every kind with what is wrong with it ("" where nothing is); imports them all."""
    report: list[tuple[PluginInfo, str]] = []
    for kind in KINDS:
        for info in listing(kind):
            try:
                load(kind, f"{info.distribution}:{info.name}")
                problem = f"the name is taken twice: use {info.qualified!r}" if info.duplicate else ""
            except PluginError as error:
                problem = f"[{error.phase}] {error}"
            report.append((info, problem))
    return report
