"""Which of a plugin's checks fail."""

from __future__ import annotations

from typing import Any

from avbench.testing import Check, Failure, NotChecked, checks


def named(plugin: Any, name: str, **options: Any) -> Check:
    """One check of a plugin."""
    (found,) = [check for check in checks(plugin, options=options) if check.name == name]
    return found


def failing(plugin: Any, **options: Any) -> dict[str, str]:
    """What each failing check says."""
    found = {}
    for check in checks(plugin, options=options):
        try:
            check()
        except Failure as failure:
            found[check.name] = str(failure)
        except NotChecked:
            continue
    return found
