"""Something happens to a process just before the Nth time that it touches the run directory or the data folder.

On ``PYTHONPATH`` this counts files opened for writing, renamed, linked and removed, and folders made, below
``FAULTS_ROOTS``. ``FAULTS_AT`` is ``KIND:N`` or ``KIND:N+SECONDS``, ``FAULTS_DO`` what happens then, once in a run:
``FAULTS_MARK`` is the file that says it did. Standard library alone: it is imported before anything else.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import Any

_ACTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir")
_busy = False
_count = 0


def kind_of(arguments: list[str]) -> str:
    """What a process is to a run, by its command line; "" for one that plays no part."""
    if "avbench.worker" in arguments:
        return os.path.basename(arguments[-1]).partition("-")[0]  # noqa: PTH119
    if any("avbench.data.pool" in each for each in arguments):
        return "loader"
    return "coordinator" if any("avbench.cli" in each for each in arguments) else ""


def install(kind: str) -> None:
    """Watch this process, which is of this kind."""
    roots = tuple(os.environ["FAULTS_ROOTS"].split(os.pathsep))
    target, _, moment = os.environ.get("FAULTS_AT", "").partition(":")
    number, _, delay = moment.partition("+")

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        global _busy, _count  # noqa: PLW0603
        if _busy or not _touches(event, arguments, roots):
            return
        _count += 1
        if kind == target and _count == int(number):
            _busy = True
            _happen(float(delay or 0))
            _busy = False

    sys.addaudithook(watch)
    if "FAULTS_HANDS" in os.environ:
        _turn_clock(os.environ["FAULTS_HANDS"])
    if "FAULTS_COUNTS" in os.environ:
        atexit.register(_tell, kind)


def _touches(event: str, arguments: tuple[Any, ...], roots: tuple[str, ...]) -> bool:
    if event == "open":
        path, _, flags = arguments
        if not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            return False
    elif event in _ACTS:
        path = arguments[0]
    else:
        return False
    return isinstance(path, str | bytes | os.PathLike) and os.fsdecode(path).startswith(roots)


def _happen(delay_s: float) -> None:
    import signal
    import threading

    try:
        with open(os.environ["FAULTS_MARK"], "x") as file:  # noqa: PTH123
            file.write(str(os.getpid()))
    except FileExistsError:
        return
    what = os.environ["FAULTS_DO"]
    if what == "kill" and delay_s:  # in the midst of whatever comes then
        threading.Timer(delay_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    elif what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "starve":
        _starve()
    elif what == "hide GPU":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _starve() -> None:
    """No more address space than there is in use now."""
    import resource

    with open("/proc/self/statm") as file:  # noqa: PTH123
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken, resource.RLIM_INFINITY))


def _turn_clock(hands: str) -> None:
    """From now on Python's clock is off by the seconds that the file ``hands`` says."""
    import time

    true_time, true_gmtime = time.time, time.gmtime

    def turned() -> float:
        with open(hands) as file:  # noqa: PTH123
            return true_time() + float(file.read())

    time.time = turned
    time.time_ns = lambda: int(turned() * 1e9)
    time.gmtime = lambda seconds=None: true_gmtime(turned() if seconds is None else seconds)


def _tell(kind: str) -> None:
    with open(os.environ["FAULTS_COUNTS"], "a") as file:  # noqa: PTH123
        file.write(json.dumps({"kind": kind, "count": _count}) + "\n")


if __name__ == "sitecustomize" and "FAULTS_ROOTS" in os.environ and kind_of(sys.orig_argv):
    install(kind_of(sys.orig_argv))
