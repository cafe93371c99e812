"""The conformance kit: what the contracts promise, checked on a plugin, for its author's tests and ``avbench check``.

In a package's tests::

    import pytest
    from avbench.testing import checks
    from my_package import MyMethod

    @pytest.mark.parametrize("check", checks(MyMethod), ids=str)
    def test_conformance(check):
        check()
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from avbench.testing.registry import Check, Failure, NotChecked, register, registered

__all__ = ["Check", "Failure", "NotChecked", "checks", "register"]


def checks(
    plugin: object, *, options: Mapping[str, object] | None = None, source: str | Path | None = None
) -> list[Check]:
    """All checks of a plugin; calling one raises :class:`Failure` where the plugin breaks its contract.

    Args:
        plugin: a plugin class, what :func:`avbench.plugins.load` gives, or its kind and name: ``"method:dm"``.
        options: values for the plugin's options while it is checked, such as fewer steps; else its defaults.
        source: a dataset's raw copy, with which its preparation is checked too.

    Raises:
        RequestError: it is no plugin, an option is wrong, or the source is absent.
        PluginError: no plugin has that name, or it can't be imported.
    """
    from avbench.testing.subject import subject_of  # imports torch

    subject = subject_of(plugin, dict(options or {}), Path(source) if source is not None else None)
    return [Check(each, subject) for each in registered(subject.kind)]
