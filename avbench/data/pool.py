"""A pool of decoding processes that a broken video cannot stop: a worker that dies takes only its own video along.

Workers are programs of their own, as multiprocessing's would import the user's script again. A thread feeds each;
what goes through the pipes is pickled between processes of ours, never read from a file.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from avbench.data.audio import Filters
from avbench.data.shards import Done, Recipe, Task, decode_task
from avbench.data.windows import Loss
from avbench.errors import RequestError
from avbench.executors.base import signal_name

#: A decoder that needs longer than this for one file hangs: hours of video decode in less.
_PATIENCE_S = 1_800.0
_LOOK_EVERY_S = 1.0
_PROGRAM = "from avbench.data.pool import serve; serve()"
#: numpy's libraries would start a thread per core in every worker.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def serve() -> None:
    """A worker's life: decode what comes through stdin until it closes, answer through stdout."""
    asked, told = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not come between the answers
    import av.logging

    av.logging.set_level(av.logging.PANIC)  # what decoders complain of is counted, not printed
    with contextlib.suppress(EOFError, OSError):  # the parent has gone
        recipe, filters, folder = pickle.load(asked)  # noqa: S301 - from the process that started this one
        _send(told, None)
        while True:
            task = pickle.load(asked)  # noqa: S301
            _send(told, _result(task, recipe, filters, folder))


def _result(task: Task, recipe: Recipe, filters: Filters, folder: Path) -> Done | str:
    try:
        return decode_task(task, recipe, filters, folder)
    except OSError as error:
        return f"{error.strerror or error} ({error.filename or folder})"
    except Exception as error:  # a decoder's wrapper may raise anything; the file is what is wrong
        return Done.nothing(task, Loss.UNDECODABLE, f"{type(error).__name__}: {error}")


def _send(stream: Any, what: object) -> None:
    pickle.dump(what, stream)
    stream.flush()


class _Worker:
    """A process and the thread that feeds it from a queue of tasks; a process that dies is replaced."""

    def __init__(self, setup: tuple[Recipe, Filters, Path], tasks: queue.SimpleQueue[Task], results: Any) -> None:
        self._setup, self._tasks, self._results = setup, tasks, results
        self._process: subprocess.Popen[bytes] | None = None
        self._since_s: float | None = None  # when its task began, by the thread that feeds it
        self._stuck = self._stopped = False
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def look(self) -> None:
        """End a process that has been at one task for too long."""
        # Read once each: the thread that feeds it may set them to none at any time.
        since_s, process = self._since_s, self._process
        if since_s is not None and process is not None and time.monotonic() - since_s > _PATIENCE_S:
            self._stuck = True
            process.kill()

    def stop(self) -> None:
        self._stopped = True
        while self._thread.is_alive():
            process = self._process  # which the thread may set to none
            if process is not None:
                process.kill()
            self._thread.join(0.05)
        self._end()

    def _feed(self) -> None:
        try:
            while not self._stopped:
                task = self._tasks.get_nowait()
                self._results.put(self._decoded(task))
        except queue.Empty:
            self._end()
        except Exception as error:  # told by the thread that waits for results
            self._results.put(error)

    def _decoded(self, task: Task) -> tuple[Done, bool]:
        """A task's result, and whether it may be remembered."""
        process = self._started()
        self._since_s = time.monotonic()
        try:
            assert process.stdin is not None and process.stdout is not None
            _send(process.stdin, task)
            told: Done | str = pickle.load(process.stdout)  # noqa: S301 - from a process of ours
        except (EOFError, OSError, pickle.UnpicklingError):
            how = self._end()
            if self._stuck:
                self._stuck = False
                return Done.nothing(task, Loss.STUCK, f"no end after {_PATIENCE_S:.0f} s"), False
            return Done.nothing(task, Loss.CRASHED, f"its decoder died ({how})"), False
        finally:
            self._since_s = None
        if isinstance(told, str):
            raise RequestError(f"the work folder can't be written: {told}; the same command goes on from here.")
        return told, True

    def _started(self) -> subprocess.Popen[bytes]:
        """The running process, started where there is none.

        Raises:
            RequestError: it does not start.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the parent, which ends its workers in order
            )
            try:
                assert self._process.stdin is not None and self._process.stdout is not None
                _send(self._process.stdin, self._setup)
                pickle.load(self._process.stdout)  # noqa: S301 - it has imported what it needs
            except (EOFError, OSError, pickle.UnpicklingError):
                how = self._end()
                raise RequestError(f"a decoding process can't start ({how}); is PyAV whole? pip install av.") from None
        return self._process

    def _end(self) -> str:
        """End the process, if there is one; how it ended."""
        process, self._process = self._process, None
        if process is None:
            return ""
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()
        code = process.wait()
        return f"signal {-code} ({signal_name(-code)})" if code < 0 else f"exit status {code}"


def decode_all(
    tasks: Sequence[Task], recipe: Recipe, filters: Filters, folder: Path, workers: int
) -> Iterator[tuple[Done, bool]]:
    """Decode all tasks in ``workers`` processes; each result with whether it may be remembered.

    A task whose worker died or hung is lost, and tried again by the next preparation: memory may have run out.

    Raises:
        RequestError: the shards can't be written, or no process starts.
    """
    waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
    results: queue.SimpleQueue[tuple[Done, bool] | Exception] = queue.SimpleQueue()
    for task in tasks:
        waiting.put(task)
    pool = [_Worker((recipe, filters, folder), waiting, results) for _ in range(min(workers, len(tasks)))]
    left = len(tasks)
    try:
        while left:
            try:
                result = results.get(timeout=_LOOK_EVERY_S)
            except queue.Empty:
                for worker in pool:
                    worker.look()
                continue
            if isinstance(result, Exception):
                raise result
            left -= 1
            yield result
    finally:
        for worker in pool:
            worker.stop()
