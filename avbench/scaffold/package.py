"""Write the package of a new plugin: it installs, passes its own tests and is listed, before its author changes a line.

The templates lie beside this module. ``common/`` goes into every package, ``method/`` and ``dataset/`` into those of
their kind; a file ``NAME.template`` becomes ``NAME``, and ``MODULE`` in a path the module's name.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template

from avbench import __version__
from avbench.errors import RequestError, nearest
from avbench.names import is_device
from avbench.plugins import listing

#: The kinds that have templates; the others are shown by example in docs/plugins/kinds.md.
KINDS = ("method", "dataset")
_PREFIX = "avbench-"
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")
_LONGEST = 40
_SUFFIX = ".template"


@dataclass(frozen=True)
class NewPlugin:
    """A plugin that is to be written.

    Attributes:
        kind: one of :data:`KINDS`.
        name: what it will be called on the command line.
    """

    kind: str
    name: str

    @property
    def distribution(self) -> str:
        return _PREFIX + self.name.replace("_", "-")

    @property
    def module(self) -> str:
        return self.distribution.replace("-", "_")

    @property
    def class_name(self) -> str:
        """The name in capitals and the kind: never a word that Python keeps for itself."""
        return "".join(part.capitalize() for part in re.split("[-_]", self.name)) + self.kind.capitalize()

    def check(self) -> None:
        """Refuse a name that can't be one, or that is taken.

        Raises:
            RequestError: says which, and what a name looks like.
        """
        if self.kind not in KINDS:
            advice = nearest(self.kind, KINDS)
            raise RequestError(
                f"avbench new {self.kind!r}: {advice} docs/plugins/kinds.md shows other kinds by example."
            )
        if not _NAME.fullmatch(self.name) or len(self.name) > _LONGEST:
            raise RequestError(
                f"avbench new {self.kind} {self.name!r}: expected up to {_LONGEST} small letters a to z, digits, and "
                "single '-' or '_' between them, a letter first, such as 'k-means'."
            )
        if is_device(self.name):
            raise RequestError(f"{self.name!r}: on Windows this is a device, no name; choose another.")
        if self.name.replace("_", "-").startswith(_PREFIX):
            bare = self.name[len(_PREFIX) :]
            raise RequestError(f"{self.name!r}: the package is called {_PREFIX}NAME anyway; give {bare!r}.")
        for info in listing(f"{self.kind}s"):
            if info.name == self.name:
                owner = f"{info.distribution} {info.version}"
                raise RequestError(f"the {self.kind} {self.name!r} comes with {owner} already; choose another name.")
        if importlib.util.find_spec(self.module) is not None:
            raise RequestError(f"{self.name!r}: a module {self.module!r} is installed already; choose another name.")


def write_package(plugin: NewPlugin, parent: Path) -> Path:
    """Write the package into a new folder ``parent/DISTRIBUTION`` and return that folder.

    Raises:
        RequestError: the name can't be used, the folder is there already, or it can't be written.
    """
    plugin.check()
    target = parent / plugin.distribution
    if target.exists() or target.is_symlink():
        raise RequestError(f"{target} is there already and is left as it is; choose another name or --output.")
    partial = parent / f".{plugin.distribution}.{secrets.token_hex(4)}"
    try:
        for place, text in _rendered(plugin):
            path = partial / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        os.rename(partial, target)  # noqa: PTH104 - unlike Path.replace it is not meant to overwrite
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RequestError(f"{target} can't be written ({error.strerror}); choose another --output.") from None
    return target


def _rendered(plugin: NewPlugin) -> Iterator[tuple[PurePosixPath, str]]:
    """The place of each file in the package, and its text."""
    words = _words(plugin)
    for folder in ("common", plugin.kind):
        for place, source in _templates(files("avbench.scaffold") / "templates" / folder, PurePosixPath()):
            named = str(place).replace("MODULE", plugin.module).removesuffix(_SUFFIX)
            yield PurePosixPath(named), Template(source.read_text(encoding="utf-8")).substitute(words)


def _templates(folder: Traversable, place: PurePosixPath) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for each in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if each.is_dir():
            yield from _templates(each, place / each.name)
        elif each.name.endswith(_SUFFIX):
            yield place / each.name, each


def _words(plugin: NewPlugin) -> Mapping[str, str]:
    return {
        "kind": plugin.kind,
        "name": plugin.name,
        "distribution": plugin.distribution,
        "module": plugin.module,
        "class_name": plugin.class_name,
        "avbench": requirement(__version__),
    }


def requirement(version: str) -> str:
    """What a plugin written against this avbench asks for: this release or later, up to the next that may break it.

    By semantic versioning that is the next major version, and before 1.0 the next minor one.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        return "avbench"
    major, minor = map(int, found.groups())
    if major == 0 and minor == 0:
        return "avbench"
    after = f"{major + 1}" if major else f"0.{minor + 1}"
    return f"avbench>={major}.{minor},<{after}"
