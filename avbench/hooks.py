"""The events of a run, for hook plugins (pluggy). Events only: no hook can change what a run does.

Run and job events fire in the coordinator, step events in the worker that makes the step. A hook plugin is any
object or module with functions marked by ``hookimpl``; ``avbench run --hook NAME`` enables it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pluggy

from avbench.errors import PluginError
from avbench.plugins import guard, load

PROJECT = "avbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Events:
    """The specification: every event with its arguments."""

    @hookspec
    def run_started(self, run: Mapping[str, Any]) -> None:
        """The plan is made and jobs are about to start; ``run`` holds argv, folder and counts."""

    @hookspec
    def run_finished(self, run: Mapping[str, Any], failed: int, stranded: int, interrupted: bool) -> None:
        """All jobs have ended, or were ended: ``failed`` tasks failed, ``stranded`` ones lacked what they need."""

    @hookspec
    def job_started(self, job: Mapping[str, Any]) -> None:
        """A job got a slot; ``job`` is its specification, with its ``id``."""

    @hookspec
    def job_finished(self, job: Mapping[str, Any], status: str) -> None:
        """A job ended with ``status``, done or failed; ``job`` is what ``job_started`` was given."""

    @hookspec
    def step(self, task: str, step: int, metrics: Mapping[str, float]) -> None:
        """A worker made a step of a task (a cell's or prerequisite's key) and measured ``metrics``."""


class Hooks:
    """The enabled hook plugins. One that raises is reported once, on stderr, and never harms the run.

    Raises:
        PluginError: one can't be loaded, or is no hook plugin.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Events)
        self._reported: set[str] = set()
        for name in self.names:
            self._register(name)

    def _register(self, name: str) -> None:
        loaded = load("hooks", name)
        with guard(loaded.info, "construction"):
            plugin = loaded.target() if isinstance(loaded.target, type) else loaded.target
        with guard(loaded.info, "registration"):
            self._manager.register(plugin, name=name)
            self._manager.check_pending()  # a function named like no event would never be called
        if not self._manager.get_hookcallers(plugin):
            info = loaded.info
            raise PluginError(
                f"hook {name!r} ({info.distribution} {info.version}, {info.target}) has no function marked by "
                f"avbench.hooks.hookimpl: {type(plugin).__name__} is no hook plugin.",
                plugin=name,
                phase="registration",
            )

    def fire(self, event: str, **arguments: Any) -> None:
        """Call ``event`` on every plugin, each isolated from the others' failures."""
        for implementation in getattr(self._manager.hook, event).get_hookimpls():
            # pluggy lets an implementation take only the arguments it names.
            taken = {name: arguments[name] for name in implementation.argnames}
            try:
                implementation.function(**taken)
            except (Exception, SystemExit) as error:
                if implementation.plugin_name not in self._reported:
                    self._reported.add(implementation.plugin_name)
                    print(
                        f"hook {implementation.plugin_name!r} raised in {event}: "
                        f"{type(error).__name__}: {error} (reported once; the run goes on)",
                        file=sys.stderr,
                    )
