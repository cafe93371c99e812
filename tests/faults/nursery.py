"""Workers that are born at once: forked from a process that has imported avbench, for runs of a thousand jobs.

Everything but the import is as always. The executor starts a small program in place of Python; this hands the worker's
command and its log to the nursery, which forks, and ends as the forked worker does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

_CLIENT = """#!{python} -IS
import os, socket, sys
with socket.socket(socket.AF_UNIX) as nursery:
    nursery.connect({address!r})
    socket.send_fds(nursery, [sys.argv[-1].encode()], [1, 2])
    status = nursery.recv(8)
os._exit(int(status or b"1"))
"""


class Nursery:
    """Listens in a process of its own until :meth:`close`; ``program`` is what to start in place of Python."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "python"
        address = str(folder / "nursery")
        self.program.write_text(_CLIENT.format(python=sys.executable, address=address), encoding="utf-8")
        self.program.chmod(0o755)
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(address)
        self._listening.listen(64)
        self._process = os.fork()
        if not self._process:
            _serve(self._listening)

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._listening.close()


def _serve(listening: socket.socket) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how they ended: each tells its client itself
    while True:
        client, _ = listening.accept()
        told, descriptors, _, _ = socket.recv_fds(client, 1 << 12, 2)
        if not os.fork():
            _work(client, Path(told.decode()), descriptors)
        for each in descriptors:
            os.close(each)
        client.close()


def _work(client: socket.socket, job: Path, outputs: list[int]) -> None:
    from avbench.worker import run_job

    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number, source in enumerate(outputs, 1):
            os.dup2(source, number)
        status = run_job(job)
    except Exception:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        client.send(str(status).encode())
        os._exit(status)
