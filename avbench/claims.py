"""Claims: which run is doing a task, so that two runs in one directory never do the same one twice.

A claim is a file ``claims/<task key>.<generation>``. It is made exclusively, touched while its holder lives, and
removed when the task is settled. A dead holder's claim is taken over by making the next generation: nobody ever has
to remove a file that another may just have made anew. No lock is used, so a network file system can't break one.

On the holder's own machine a claim is dead when its processes are. Seen from another machine it is dead when nobody
has touched it for :data:`SILENT_S` seconds of the *observer's* clock: clocks of two machines are never compared.

What a network file system does, and what is done about it:

- It may answer a repeated request as if it were a second one: a claim that "exists" is read, and is ours if it says so.
- It may show a folder as it was up to a minute ago: opening a folder has its client ask anew, and every look at claims
  opens theirs; :func:`look_afresh` does so for a task's folder before what another machine has made is looked for.
- It may show a file's time as late: a holder is silent only for far longer than that (NFS keeps it up to 60 s).
- A holder that hung for so long may wake: :meth:`Claims.beat` then says which tasks another run has taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import time
from collections.abc import Hashable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

#: A holder touches its claims this often, …
BEAT_S = 10.0
#: … and one on another machine that has not done so for this long is taken for dead: more than a beat and the minute
#: for which a network file system may show an old time.
SILENT_S = 120.0


@dataclass(frozen=True)
class ProcessId:
    """A process, told from any other that ever had its number.

    Attributes:
        machine: host, boot and process namespace: where the number means something.
        started: when the process started, in clock ticks since the boot.
    """

    host: str
    machine: str
    process: int
    started: str

    @classmethod
    def own(cls) -> ProcessId:
        return cls(platform.node(), _machine(), os.getpid(), _started(os.getpid()))

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process that this one can see."""
        return self.machine == _machine()

    @property
    def alive(self) -> bool:
        """Whether it still runs; only to be asked where it is :attr:`here`."""
        return _started(self.process) == self.started


@cache
def _machine() -> str:
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{platform.node()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    return platform.node()


def _started(process: int) -> str:
    """When a process started; "" where there is none (or only a zombie), "unknown" where the system does not tell."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except OSError:
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "unknown"


class Silence:
    """Which distant things have fallen silent, told by this process's clock alone."""

    def __init__(self) -> None:
        self._seen: dict[Hashable, tuple[int, float]] = {}

    def lasts(self, what: Hashable, stamp: int) -> bool:
        """Whether something has kept one stamp for so long that its process is taken for dead; ask again and again."""
        before, since_s = self._seen.setdefault(what, (stamp, time.monotonic()))
        if before != stamp:
            self._seen[what] = (stamp, time.monotonic())
            return False
        return time.monotonic() - since_s > SILENT_S


class Claims:
    """The claims of one run on the tasks of a run directory."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "claims"
        self._own: dict[str, Path] = {}
        self._beaten = time.monotonic()
        self._silence = Silence()

    def take(self, key: str, job: Path) -> bool:
        """Claim a task for the job in the folder ``job``; false while another run has it.

        Whoever gets it must look at the task's record again: it may have been done in the meantime.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        last = self._latest(key)
        if last is not None and not self._dead(last[1]):
            return False
        generation = last[0] + 1 if last else 1
        path = self._folder / f"{key}.{generation}"
        try:
            about = {"run": asdict(ProcessId.own()), "job": str(job.resolve()), "token": secrets.token_hex(8)}
            _make_exclusively(path, json.dumps(about))
        except FileExistsError:
            return False
        newest = self._latest(key)
        if newest is not None and newest[0] > generation:  # a take-over was completed between our look and our claim
            path.unlink(missing_ok=True)
            return False
        if last is not None:
            last[1].unlink(missing_ok=True)
        self._own[key] = path
        return True

    def release(self, key: str) -> None:
        """Give up a claim of ours, if there is one."""
        path = self._own.pop(key, None)
        if path is not None:
            path.unlink(missing_ok=True)
            for partial in self._folder.glob(f".{key}.*"):  # of a process killed while it claimed
                partial.unlink(missing_ok=True)

    def release_all(self) -> None:
        for key in list(self._own):
            self.release(key)

    def beat(self) -> list[str]:
        """Tell other machines that we are alive; call it often, it touches files every ``BEAT_S`` seconds.

        Returns:
            Tasks that are ours no more: we were silent for so long that another run has taken them over.
        """
        if time.monotonic() - self._beaten < BEAT_S:
            return []
        self._beaten = time.monotonic()
        overtaken = []
        for key, path in self._own.items():
            try:
                os.utime(path)  # the server's time, where there is one
            except OSError:  # the folder may have been cleared: the work itself needs no claim
                newest = self._latest(key)
                if newest is not None and newest[1] != path:
                    overtaken.append(key)
        for key in overtaken:
            del self._own[key]
        return overtaken

    def holder(self, key: str) -> str:
        """Who has the task, in words."""
        last = self._latest(key)
        run, _ = _read(last[1]) if last else (None, None)
        return f"process {run.process} on {run.host}" if run else "another run"

    def _latest(self, key: str) -> tuple[int, Path] | None:
        """The claim of the highest generation."""
        found = [(int(path.suffix[1:]), path) for path in self._folder.glob(f"{key}.*") if path.suffix[1:].isdigit()]
        return max(found, default=None)

    def _dead(self, path: Path) -> bool:
        run, job = _read(path)
        if run is not None and run.here:
            # A worker ends within a second of its coordinator, but not at once.
            worker = _worker_of(job) if job else None
            return not (run.alive or (worker is not None and worker.here and worker.alive))
        try:
            touched = path.stat().st_mtime_ns
        except FileNotFoundError:
            return False  # just given up: the next look will find it free
        return self._silence.lasts(path, touched)


def _make_exclusively(path: Path, text: str) -> None:
    """Make a file that is whole from the start; ``text`` is like no other.

    Raises:
        FileExistsError: somebody else was first.
    """
    # Processes of two machines may have the same number.
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    partial.write_text(text, encoding="utf-8")
    try:
        _link(partial, path, text)
    except FileNotFoundError:  # whoever got it has tidied up
        raise FileExistsError(path) from None
    except FileExistsError:
        # A server whose answer was lost is asked again, and says that what it has just made exists.
        if _text(path) != text:
            raise
    finally:
        partial.unlink(missing_ok=True)


def _link(partial: Path, path: Path, text: str) -> None:
    try:
        os.link(partial, path)
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:  # a file system without hard links: a kill in between leaves an empty claim, which falls silent
        with path.open("x", encoding="utf-8") as file:
            file.write(text)


def look_afresh(root: Path, *parts: str) -> None:
    """Have a network file system ask its server what is in ``root`` and in the folders ``parts`` under it.

    Otherwise it may go on saying for a minute that there is no such file. Opening a folder has NFS compare it with the
    server's (``nfs(5)``: close-to-open consistency); each is opened after the one that holds it.
    """
    folder = root
    for part in ("", *parts):
        folder = folder / part
        try:
            os.close(os.open(folder, os.O_RDONLY | os.O_DIRECTORY))
        except OSError:
            return


def announce_worker(job: Path) -> None:
    """Leave word in a job's folder of the process that does it: called by a worker before it writes anything else."""
    (job / "worker.json").write_text(json.dumps(asdict(ProcessId.own())), encoding="utf-8")


def _worker_of(job: Path) -> ProcessId | None:
    return _process(_json(job / "worker.json"))


def _read(path: Path) -> tuple[ProcessId | None, Path | None]:
    """The run that holds a claim and the folder of its job; ``None`` each where it is not (yet) written."""
    found = _json(path)
    if not isinstance(found, dict):
        return None, None
    job = found.get("job")
    return _process(found.get("run")), Path(job) if isinstance(job, str) else None


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path) or "")
    except ValueError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def _process(values: Any) -> ProcessId | None:
    try:
        return ProcessId(**values)
    except TypeError:
        return None
