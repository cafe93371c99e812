"""What a run stands on, to be taken from it: a small file system, a user's rights."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType

_NOBODY = 65_534


class SmallDisk(AbstractContextManager["SmallDisk"]):
    """A file system of a given size in memory, mounted while the context lasts."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._mount(f"size={size_bytes},mode=755", str(path))

    def resize(self, size_bytes: int) -> None:
        self._mount(f"remount,size={size_bytes}", str(self.path))

    def leave(self, free_bytes: int) -> None:
        """Make it so small that no more than this is free."""
        self.resize(shutil.disk_usage(self.path).used + free_bytes)

    def _mount(self, options: str, path: str) -> None:
        _call("mount", "-t", "tmpfs", "-o", options, "none", path)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _call("umount", "-l", str(self.path))


class ReadOnly(AbstractContextManager["ReadOnly"]):
    """A folder that is read-only while it is covered: files that are open stay so, new ones are refused (EROFS).

    A file system in use can't be mounted anew without its writers' consent; a second mount of it, on top, can.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._covered = str(path), False

    def cover(self) -> None:
        _call("mount", "--bind", self._path, self._path)
        self._covered = True
        _call("mount", "-o", "remount,bind,ro", self._path)

    def uncover(self) -> None:
        if self._covered:
            _call("umount", "-l", self._path)
        self._covered = False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.uncover()


def _call(*command: str) -> None:
    """Run a command of the system, again where it fails: a mount may be busy for a moment.

    Raises:
        OSError: it fails time and again; says why.
    """
    for pause_s in (0.2, 1.0, 3.0, None):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if not done.returncode:
            return
        if pause_s is None:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
        time.sleep(pause_s)


@cache
def can_mount() -> bool:
    """Whether this user may mount a file system."""
    with TemporaryDirectory() as folder:
        try:
            with SmallDisk(Path(folder), 1 << 20):
                return True
        except OSError:
            return False


def as_nobody(out: Path) -> Callable[[], None]:
    """Give a folder to somebody without rights; what makes a process theirs. Nothing to do where we have none."""
    if os.getuid():
        return lambda: None
    for path in (out, *out.rglob("*")):
        os.chown(path, _NOBODY, _NOBODY)

    def become() -> None:
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        os.environ["HOME"] = str(out)

    return become


def chmod_folders(out: Path, mode: int) -> None:
    """Set the rights of a folder and of those below it."""
    for path in [out, *(path for path in out.rglob("*") if path.is_dir())]:
        path.chmod(mode)
