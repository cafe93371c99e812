"""The events of a run, for hook plugins (pluggy). Events only: no hook can change what a run does.

Run, job and task events fire in the coordinator, step events in the worker that makes the step. A hook plugin is any
object or module with functions marked by ``hookimpl``; ``avbench run --hook NAME`` enables it. In every process it is
told first where it may write: ``OUT/hooks/NAME``.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pluggy

from avbench.errors import PluginError
from avbench.plugins import guard, load

PROJECT = "avbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Events:
    """The specification: every event with its arguments. An implementation may leave out those it does not need."""

    @hookspec
    def process_started(self, folder: Path, data: Path, role: str) -> None:
        """The first event in each process; ``role`` is ``"coordinator"`` or ``"worker"``.

        ``folder`` (``OUT/hooks/NAME``) is the plugin's to write in, and made by the plugin. Several workers, and runs
        that share OUT, use the same: file names must differ by process. ``data`` is the folder of the stores.
        """

    @hookspec
    def process_finished(self) -> None:
        """The last event in each process that is not killed: what is open should be closed."""

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
    def task_finished(self, task: str, kind: str, title: str, status: str, folder: Path | None) -> None:
        """A task ended: prerequisite, shard, distil or evaluate (``kind``), with ``status`` done, failed or stranded.

        ``task`` is its key, as in ``step``. ``folder`` holds its record and artefacts: for ``kind`` distil that is done
        the distilled set; ``None`` where there is no record.
        """

    @hookspec
    def step(self, task: str, step: int, metrics: Mapping[str, float]) -> None:
        """A worker made a step of a task (a cell's or prerequisite's key) and measured ``metrics``."""


class Hooks:
    """The enabled hook plugins. One that raises is reported once, on stderr, and never harms the run.

    Args:
        names: of the plugins.
        report: called with a plugin's name and what it raised, instead of writing to stderr.

    Raises:
        PluginError: one can't be loaded, or is no hook plugin.
    """

    def __init__(self, names: Sequence[str] = (), report: Callable[[str, str], None] | None = None) -> None:
        self.names = tuple(dict.fromkeys(names))
        self._manager = pluggy.PluginManager(PROJECT)
        self._manager.add_hookspecs(Events)
        self._report = report
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

    def begin(self, out: Path, data: Path, role: str) -> None:
        """Tell every plugin in what process it is and where it may write."""
        for implementation in self._manager.hook.process_started.get_hookimpls():
            # A name may be distribution:name, which is no good folder.
            folder = out / "hooks" / implementation.plugin_name.rpartition(":")[2]
            self._call("process_started", implementation, {"folder": folder, "data": data, "role": role})

    def end(self) -> None:
        """Tell every plugin that the process ends."""
        for implementation in self._manager.hook.process_finished.get_hookimpls():
            self._call("process_finished", implementation, {})

    def fire(self, event: str, **arguments: Any) -> None:
        """Call ``event`` on every plugin, each isolated from the others' failures."""
        for implementation in getattr(self._manager.hook, event).get_hookimpls():
            self._call(event, implementation, arguments)

    def _call(self, event: str, implementation: pluggy.HookImpl, arguments: Mapping[str, Any]) -> None:
        # pluggy lets an implementation take only the arguments it names.
        taken = {name: arguments[name] for name in implementation.argnames}
        try:
            with contextlib.redirect_stdout(sys.stderr):  # stdout is the board's
                implementation.function(**taken)
        except (Exception, SystemExit) as error:
            words = " ".join(str(error).split())
            self.report(implementation.plugin_name, f"raised in {event}: {type(error).__name__}: {words}")

    def report(self, name: str, problem: str) -> None:
        """Tell what a plugin did, unless something was told of it before."""
        if name in self._reported:
            return
        self._reported.add(name)
        if self._report is not None:
            self._report(name, problem)
            return
        print(f"hook {name!r} {problem} (reported once; the run goes on)", file=sys.stderr)
