"""The local executor: a subprocess for each job, with slots."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from avbench.executors.base import Ended, Executor, Resources

#: glibc returns large temporaries to the system at once and takes page faults to get them back; keeping them made
#: the small networks of the embedded dataset 1.5 to 2.6 times as fast.
_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
_GRACE_S = 5.0


@dataclass
class _Slot:
    process: subprocess.Popen[bytes]
    log: IO[bytes]


class LocalExecutor(Executor):
    """A subprocess for each job on this machine."""

    def __init__(self, resources: Resources) -> None:
        super().__init__(resources)
        self._running: dict[str, _Slot] = {}

    def has_room(self) -> bool:
        return len(self._running) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        log = (folder / "log.txt").open("ab")
        threads = str(self.resources.threads)
        environment = {
            **os.environ,
            **_ALLOCATOR,
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "AVBENCH_END_WITH": str(os.getpid()),
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # what deterministic matrix products on a GPU ask for
        }
        # -P: a file of the user's, such as random.py in the current folder, must not shadow a module.
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "avbench.worker", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches the coordinator alone, which then ends its workers
        )
        self._running[job_id] = _Slot(process, log)

    def ended(self) -> list[Ended]:
        found = []
        for job_id, slot in list(self._running.items()):
            status = slot.process.poll()
            if status is not None:
                slot.log.close()
                del self._running[job_id]
                found.append(Ended(job_id, status))
        return found

    def stop(self) -> None:
        for slot in self._running.values():
            slot.process.terminate()
        for slot in self._running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                slot.process.wait(_GRACE_S)
            slot.process.kill()
            slot.process.wait()
            slot.log.close()
        self._running.clear()
