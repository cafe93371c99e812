"""Lending classes to discovery: what is checked is found by name like any installed plugin.

So the kit drives a class that belongs to no installed package by the runner's own code.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from avbench import plugins

DISTRIBUTION = "avbench-under-test"
_LENT: dict[str, Any] = {}


def __getattr__(name: str) -> Any:
    """What an entry point of :func:`lent` finds here."""
    try:
        return _LENT[name]
    except KeyError:
        raise AttributeError(name) from None


@contextmanager
def lent(targets: Mapping[str, tuple[str, Any]]) -> Iterator[None]:
    """While it lasts discovery finds ``targets``, {name: (group's kind, class or object)}, under their names."""
    with tempfile.TemporaryDirectory(prefix="avbench-lent-") as folder:
        about = Path(folder) / f"{DISTRIBUTION.replace('-', '_')}-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {DISTRIBUTION}\nVersion: 0\n", encoding="utf-8")
        lines = []
        for number, (name, (kind, target)) in enumerate(targets.items()):
            _LENT[f"lent{number}"] = target
            lines += [f"[avbench.{kind}]", f"{name} = {__name__}:lent{number}"]
        (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        sys.path.insert(0, folder)
        plugins.refresh()
        try:
            yield
        finally:
            sys.path.remove(folder)
            _LENT.clear()
            plugins.refresh()
