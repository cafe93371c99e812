"""The local executor: a subprocess for each job, with slots, GPUs, a time limit and a memory limit.

A worker that is killed from outside, or crashes, takes no other job with it and is tried once more.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from avbench.executors.attempts import Attempts, leave_unsettled
from avbench.executors.base import Cause, Ended, Executor, Resources, signal_name
from avbench.executors.gpus import Gpu, Places
from avbench.executors.memory import anonymous_mib, out_of_memory_kills

#: glibc returns large temporaries to the system at once and takes page faults to get them back; keeping them made
#: the small networks of the embedded dataset 1.5 to 2.6 times as fast. At 224 × 224 a step frees several GiB: with a
#: limit on what is kept, its page faults made it 1.4 times as slow.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 46)}
_GRACE_S = 5.0
#: How often a job is tried in all. What the kernel killed for want of memory would want it again, and a job that was
#: held to a limit would meet it again: neither is repeated.
ATTEMPTS = 2


@dataclass
class _Slot:
    """A job's process, its limits and its attempts."""

    process: subprocess.Popen[bytes]
    log: IO[bytes]
    began: float
    kills_before: int | None
    attempts: Attempts
    gpu: Gpu | None = None
    cause: Cause = ""
    detail: str = ""

    def signal(self, number: int) -> None:
        """To the worker and whatever it started: it leads a process group of its own."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


class LocalExecutor(Executor):
    """A subprocess for each job on this machine."""

    places_gpus = True

    def __init__(self, resources: Resources, attempts: int = ATTEMPTS) -> None:
        """Room for as many jobs as the resources say; ``attempts``: how often a job is tried in all.

        Raises:
            RequestError: a GPU is too small for the memory that jobs declare.
        """
        super().__init__(resources)
        self._attempts = attempts
        self._running: dict[str, _Slot] = {}
        gpus, slots = resources.gpus, resources.slots
        self._places = Places(gpus, slots, resources.gpu_memory_mib) if gpus else None

    def has_room(self) -> bool:
        return len(self._running) < self.resources.slots and (self._places is None or self._places.room)

    def start(self, job_id: str, folder: Path) -> None:
        self._start(job_id, Attempts(folder, self._attempts))

    def _start(self, job_id: str, attempts: Attempts, avoid: Gpu | None = None) -> None:
        folder, places = attempts.folder, self._places
        attempts.begin()
        with contextlib.ExitStack() as undo:
            gpu = None
            if places is not None:
                undo.callback(places.free, job_id)
                gpu = places.place(job_id, () if avoid is None else (avoid,))
            log = undo.enter_context((folder / "log.txt").open("ab"))
            # -P: a file of the user's, such as random.py in the current folder, must not shadow a module.
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "avbench.worker", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment(gpu),
                start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
            )
            undo.pop_all()
        self._running[job_id] = _Slot(process, log, time.monotonic(), out_of_memory_kills(), attempts, gpu)

    def _environment(self, gpu: Gpu | None) -> dict[str, str]:
        threads = str(self.resources.threads)
        return {
            **os.environ,
            **_ALLOCATOR,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "AVBENCH_END_WITH": str(os.getpid()),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what deterministic matrix products on a GPU ask for
            **(self._places.environment(gpu) if self._places is not None and gpu is not None else {}),
        }

    def ended(self) -> list[Ended]:
        found = []
        for job_id, slot in list(self._running.items()):
            status = slot.process.poll()
            if status is None:
                self._hold_to_limits(slot)
                continue
            self._close(job_id, slot)
            ended = _explain(job_id, status, slot)
            if ended.cause == "killed" and self._attempts > 1:
                again = self._try_again(ended, slot)
                if again is None:
                    continue
                ended = again
            found.append(ended)
        return found

    def _try_again(self, ended: Ended, slot: _Slot) -> Ended | None:
        """Start a job anew whose worker was killed from outside or crashed; its end where it is not to be."""
        why = f"the worker was killed by signal {-ended.status} ({signal_name(-ended.status)})"
        on = {"gpu": slot.gpu.uuid} if slot.gpu is not None else {}
        try:
            if not slot.attempts.lose(platform.node(), why, **on):
                return replace(ended, detail=slot.attempts.told)
            if not leave_unsettled(slot.attempts.folder):
                return Ended(ended.job_id, 0)
            self._start(ended.job_id, slot.attempts, avoid=slot.gpu)
        except (OSError, ValueError) as error:  # such as a full disk
            return replace(ended, detail=f"it could not be started again: {error}")
        return None

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

    def end(self, job_id: str) -> None:
        slot = self._running.get(job_id)
        if slot is not None:
            slot.cause = slot.cause or "taken over"
            slot.signal(signal.SIGKILL)

    def stop(self) -> None:
        for slot in self._running.values():
            slot.process.terminate()
        for job_id, slot in list(self._running.items()):
            with contextlib.suppress(subprocess.TimeoutExpired):
                slot.process.wait(_GRACE_S)
            self._close(job_id, slot)

    def _close(self, job_id: str, slot: _Slot) -> None:
        """Nothing that a worker started may outlive it."""
        slot.signal(signal.SIGKILL)
        slot.process.wait()
        slot.log.close()
        del self._running[job_id]
        if self._places is not None:
            self._places.free(job_id)


def _explain(job_id: str, status: int, slot: _Slot) -> Ended:
    """Tell whose kill it was: ours for a limit, the kernel's for memory, or somebody's."""
    if status >= 0 or slot.cause:
        return Ended(job_id, status, slot.cause if status < 0 else "", slot.detail if status < 0 else "")
    if status == -signal.SIGKILL and slot.kills_before is not None:
        kills = out_of_memory_kills()
        if kills is not None and kills > slot.kills_before:
            return Ended(job_id, status, "out of memory")
    return Ended(job_id, status, "killed")
