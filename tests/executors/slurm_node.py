"""A real Slurm of one node for the tests: munged, slurmctld and slurmd of this machine, under a folder of their own.

Nothing of a Slurm that the machine may have is read or changed: key, sockets, ports, state and spool are the test's.
"""

from __future__ import annotations

import getpass
import os
import platform
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun")
_SEARCH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_STARTS_WITHIN_S = 60.0

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmdPort={slurmd_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket={root}/munge.socket,cred_expire=6
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1,defer_batch=0
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


class CannotStartError(Exception):
    """Why there is no Slurm here, in words."""


class SlurmNode:
    """A controller and a node with so many CPUs; :attr:`environment` leads Slurm's commands to them."""

    def __init__(self, cpus: int = 2) -> None:
        found = {tool: shutil.which(tool, path=_SEARCH) for tool in TOOLS}
        absent = [tool for tool, path in found.items() if path is None]
        if absent:
            raise CannotStartError(f"{', '.join(absent)} not found; Debian: apt-get install slurm-wlm munge")
        self._tools = {tool: path for tool, path in found.items() if path is not None}
        # A short path: sockets lie below it, and their names may have 107 characters.
        self.root = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
        self.environment = {"SLURM_CONF": str(self.root / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []
        try:
            self._configure(cpus)
            self._start()
        except BaseException:
            self.close()
            raise

    def _configure(self, cpus: int) -> None:
        for name in ("state", "spool", "munge"):
            (self.root / name).mkdir(mode=0o700)
        key = self.root / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o600)
        ctld, slurmd = _free_ports(2)
        values = {"host": platform.node().partition(".")[0], "user": getpass.getuser(), "cpus": cpus}
        text = CONF.format(root=self.root, ctld_port=ctld, slurmd_port=slurmd, **values)
        (self.root / "slurm.conf").write_text(text, encoding="utf-8")

    def _start(self) -> None:
        munge = self.root / "munge"
        files = {"key-file": munge / "key", "socket": self.root / "munge.socket", "pid-file": munge / "pid"}
        files |= {"log-file": munge / "log", "seed-file": munge / "seed"}
        self._daemon("munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items()))
        self._wait_for("munged", (self.root / "munge.socket").exists)
        self._daemon("slurmctld", "-D", "-c")
        self._daemon("slurmd", "-D", "-c")
        self._wait_for("slurmd", lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"))

    def _daemon(self, tool: str, *arguments: str) -> None:
        with (self.root / f"{tool}.out").open("wb") as out:
            self._daemons.append(
                subprocess.Popen(
                    [self._tools[tool], *arguments],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )

    def _wait_for(self, daemon: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not ready():
            ended = [each for each in self._daemons if each.poll() is not None]
            if ended or time.monotonic() > deadline:
                raise CannotStartError(f"{daemon} does not start: {self.told()}")
            time.sleep(0.1)

    def told(self) -> str:
        """The last lines of what the daemons wrote."""
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(self.root.glob("*.out"))]
        return " | ".join(line for text in texts for line in text.splitlines()[-3:])

    def ask(self, *command: str) -> str:
        """What one of Slurm's commands prints; "" where it fails."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False, timeout=60
        )
        return done.stdout if done.returncode == 0 else ""

    def close(self) -> None:
        """End all jobs and daemons, and remove the folder."""
        if len(self._daemons) == 3:
            self.ask("scancel", "--me", "--full")
            deadline = time.monotonic() + 15
            while self.ask("squeue", "--noheader").strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.root, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
