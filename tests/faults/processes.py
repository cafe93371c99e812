"""Starting avbench for a fault: anew, or forked from this process, which has imported it already.

A forked command is a process of its own, with its own number, arguments, environment and outputs, and dies of its own
death; it only saves the seconds of importing torch. The workers and decoders that it starts are started as always.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

SITE = Path(__file__).with_name("site")
_PROGRAM = "from avbench.cli import main; main()"
_LONGEST_S = 180.0


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit status (a negative signal number where it was killed) and what it said."""

    status: int
    stdout: str
    stderr: str


class Running:
    """A command under way."""

    def __init__(self, process: int, outputs: tuple[IO[str], IO[str]], reap: Callable[[bool], int | None]) -> None:
        self.process, self._outputs, self._reap = process, outputs, reap

    def wait(self, longest_s: float = _LONGEST_S) -> Ended:
        """Until it ends.

        Raises:
            TimeoutError: it doesn't; then it is killed.
        """
        deadline = time.monotonic() + longest_s
        while (status := self._reap(False)) is None:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.process, signal.SIGKILL)
                self._reap(True)
                raise TimeoutError(f"a command did not end in {longest_s:g} s: {self._said()}")
            time.sleep(0.02)
        return Ended(status, *self._said())

    def running(self) -> bool:
        return self._reap(False) is None

    def _said(self) -> tuple[str, str]:
        said = []
        for file in self._outputs:
            file.seek(0)
            said.append(file.read())
        return said[0], said[1]


def surroundings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment with the ``sitecustomize`` of faults on the path of every Python that is started."""
    path = os.pathsep.join(filter(None, (str(SITE), os.environ.get("PYTHONPATH", ""))))
    return {"PYTHONPATH": path, **environment}


def start(
    arguments: tuple[str, ...], environment: Mapping[str, str], before: Callable[[], None] = lambda: None
) -> Running:
    """Fork a command; ``before`` is called in it first."""
    from faults.site import sitecustomize

    outputs = (_output(), _output())
    sys.stdout.flush()
    process = os.fork()
    if process:
        return Running(process, outputs, _Reaper(process))
    status = 1
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in enumerate((nothing, outputs[0].fileno(), outputs[1].fileno())):
            os.dup2(source, number)
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # what is to end with the parent
        os.environ.update(surroundings(environment))
        sys.argv = ["avbench", *arguments]
        before()
        sitecustomize.install("prepare" if arguments[0] == "prepare" else "coordinator")
        status = _main()
        atexit._run_exitfuncs()  # as an interpreter does that ends
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def start_anew(
    arguments: tuple[str, ...],
    environment: Mapping[str, str],
    before: Callable[[], None] = lambda: None,
    stdout: int | None = None,
) -> Running:
    """Start a command in a new interpreter; ``before`` is called in the child, ``stdout`` given in place of a file."""
    outputs = (_output(), _output())
    started = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=outputs[0] if stdout is None else stdout,
        stderr=outputs[1],
        env={**os.environ, **surroundings(environment)},
        preexec_fn=before,  # noqa: PLW1509
    )
    return Running(started.pid, outputs, lambda block: started.wait() if block else started.poll())


class _Reaper:
    """The exit status of a child of ours, once it has one."""

    def __init__(self, process: int) -> None:
        self._process, self._status = process, None

    def __call__(self, block: bool) -> int | None:
        if self._status is None:
            process, status = os.waitpid(self._process, 0 if block else os.WNOHANG)
            if process:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def _main() -> int:
    from avbench.cli import main

    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    return 0


def _output() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def wait_for(what: Callable[[], bool], running: Running, longest_s: float = _LONGEST_S) -> bool:
    """Whether it comes to be before the command ends."""
    deadline = time.monotonic() + longest_s
    while time.monotonic() < deadline:
        if what():
            return True
        if not running.running():
            return what()
        time.sleep(0.01)
    raise TimeoutError("neither the moment nor the end of the command came")


def stopped(process: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        return ") T " in Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
