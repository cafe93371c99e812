"""The local executor: a subprocess for each job, with slots, a time limit and a memory limit."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avbench.executors.base import Cause, Ended, Executor, Resources
from avbench.executors.memory import anonymous_mib, out_of_memory_kills

#: glibc returns large temporaries to the system at once and takes page faults to get them back; keeping them made
#: the small networks of the embedded dataset 1.5 to 2.6 times as fast.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_GRACE_S = 5.0


@dataclass
class _Slot:
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float
    kills_before: int | None
    cause: Cause = ""
    detail: str = ""

    def signal(self, number: int) -> None:
        """To the worker and whatever it started: it leads a process group of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class LocalExecutor(Executor):
    """A subprocess for each job on this machine."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._running: dict[str, _Slot] = {}

    def has_room(self) -> bool:
        return len(self._running) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        with contextlib.ExitStack() as undo:
            log = undo.enter_context((folder / "log.txt").open("ab"))
            # -P: a file of the user's, such as random.py in the current folder, must not shadow a module.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "avbench.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
            )
            undo.pop_all()
        self._running[job_id] = _Slot(process, log, time.monotonic(), out_of_memory_kills())

    def _environment(self) -> dict[str, str]:
        threads = str(self.resources.threads)
        return {
            **os.environ,
            **_ALLOCATOR,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "AVBENCH_END_WITH": str(os.getpid()),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what deterministic matrix products on a GPU ask for
        }

    def ended(self) -> list[Ended]:
        found = []
        for job_id, slot in list(self._running.items()):
            status = slot.process.poll()
            if status is None:
                self._hold_to_limits(slot)
                continue
            self._close(slot)
            del self._running[job_id]
            found.append(_explain(job_id, status, slot))
        return found

    def _hold_to_limits(self, slot: _Slot) -> None:
        if slot.cause:  # told to end before
            return
        timeout_s, memory_mib = self.resources.timeout_s, self.resources.memory_mib
        if timeout_s is not None and time.monotonic() - slot.began > timeout_s:
            slot.cause, slot.detail = "time limit", f"--timeout-s {timeout_s:g}"
        elif memory_mib is not None and (taken := anonymous_mib(slot.process.pid)) > memory_mib:
            slot.cause, slot.detail = "memory limit", f"{taken:.0f} MiB, --memory-mib {memory_mib:g}"
        if slot.cause:
            # At once: it may hang or swap, and what it wrote was written atomically.
            slot.signal(signal.SIGKILL)

    def stop(self) -> None:
        for slot in self._running.values():
            slot.process.terminate()
        for slot in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                slot.process.wait(_GRACE_S)
            self._close(slot)
        self._running.clear()

    def _close(self, slot: _Slot) -> None:
        """Nothing that a worker started may outlive it."""
        slot.signal(signal.SIGKILL)
        slot.process.wait()
        slot.log.close()


def _explain(job_id: str, status: int, slot: _Slot) -> Ended:
    """Tell whose kill it was: ours for a limit, the kernel's for memory, or somebody's."""
    if status >= 0 or slot.cause:
        return Ended(job_id, status, slot.cause if status < 0 else "", slot.detail if status < 0 else "")
    if status == -signal.SIGKILL and slot.kills_before is not None:
        kills = out_of_memory_kills()
        if kills is not None and kills > slot.kills_before:
            return Ended(job_id, status, "out of memory")
    return Ended(job_id, status, "killed")
