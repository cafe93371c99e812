"""The events of a run, for hook plugins (pluggy). Events only: no hook can change what a run does.

Run and job events fire in the coordinator, step events in the worker that makes the step. A hook plugin is any
object or module with functions marked by ``hookimpl``; ``avbench run --hook NAME`` enables it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from avbench.plugins import load

PROJECT = "avbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Events:
    """The specification: every event with its arguments."""

    @hookspec
    def run_started(self, run: Mapping[str, Any]) -> None:
        """The plan is made and jobs are about to start; ``run`` holds argv, folder and counts."""

    @hookspec
    def run_finished(self, run: Mapping[str, Any], failed: int) -> None:
        """All jobs have ended; ``failed`` of them failed or could not start."""

    @hookspec
    def job_started(self, job: Mapping[str, Any]) -> None:
        """A job got a slot; ``job`` is its specification."""

    @hookspec
    def job_finished(self, job: Mapping[str, Any], status: str) -> None:
        """A job ended with ``status``: done or failed."""

    @hookspec
    def step(self, task: str, step: int, metrics: Mapping[str, float]) -> None:
        """A worker made a step of a task (a cell's or prerequisite's key) and measured ``metrics``."""


class Hooks:
    """The enabled hook plugins. One that raises is reported once, on stderr, and never harms the run."""

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Events)
        self._reported: set[str] = set()
        for name in self.names:
            target = load("hooks", name).target
            self._manager.register(target() if isinstance(target, type) else target, name=name)

    def fire(self, event: str, **arguments: Any) -> None:
        """Call ``event`` on every plugin, each isolated from the others' failures."""
        for implementation in getattr(self._manager.hook, event).get_hookimpls():
            # pluggy lets an implementation take only the arguments it names.
            taken = {name: arguments[name] for name in implementation.argnames}
            try:
                implementation.function(**taken)
            except Exception as error:
                if implementation.plugin_name not in self._reported:
                    self._reported.add(implementation.plugin_name)
                    print(
                        f"hook {implementation.plugin_name!r} raised in {event}: "
                        f"{type(error).__name__}: {error} (reported once; the run goes on)",
                        file=sys.stderr,
                    )
