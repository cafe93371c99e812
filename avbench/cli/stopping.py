"""An orderly stop: Ctrl-C, SIGTERM and SIGHUP end a run alike, once, with its workers."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
_STOP_TAKES_S = 15.0


class _Stopped(KeyboardInterrupt):
    """Raised where the program stands when a signal comes."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Handler:
    """Raises once; the stop itself must not be stopped by a repeated signal, or workers would outlive it."""

    def __init__(self) -> None:
        self._deaf_until = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now >= self._deaf_until:
            self._deaf_until = now + _STOP_TAKES_S
            raise _Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Around a run: a signal unwinds it, says how to go on, and exits with 128 + its number (Ctrl-C: 130)."""
    handle = _Handler()
    before = {each: signal.getsignal(each) for each in _SIGNALS}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:  # nohup ignores SIGHUP
            signal.signal(each, handle)
    try:
        yield
    except KeyboardInterrupt as error:
        with contextlib.suppress(OSError):  # the terminal may be gone
            print("avbench: interrupted; the same command goes on where it stopped.", file=sys.stderr, flush=True)
        raise typer.Exit(128 + getattr(error, "number", signal.SIGINT)) from None
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
