"""Building a folder beside its place and putting it there: whoever looks finds the old one or the new one, whole."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import secrets
import shutil
import sys
from pathlib import Path

from avbench.claims import ProcessId

#: What renaming onto something that is there already says: a folder with files, or no folder.
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
#: There is no room: on the disk, for this user, or for a file of this size.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
#: So many others may put theirs in the same place between our looking and our renaming.
_ATTEMPTS = 100


def building_folder(target: Path) -> Path:
    """A new, empty folder beside ``target``; what killed processes left of theirs is removed first.

    Raises:
        OSError: it can't be made.
    """
    remove_leftovers(target)
    found = target.with_name(f".{target.name}.building-{_own_name()}-{secrets.token_hex(2)}")
    found.mkdir(parents=True)
    return found


def remove_leftovers(target: Path) -> None:
    """Remove what killed processes of this machine were building for ``target``, and put back what they set aside."""
    for kind in ("old", "building"):
        for path in target.parent.glob(f".{target.name}.{kind}-*"):
            if _dead(path.name.rpartition(f".{kind}-")[2]):
                if kind == "old" and not target.exists():
                    path.rename(target)
                else:
                    remove(path)


def _own_name() -> str:
    """This process as part of a file name: machine, number, start."""
    own = ProcessId.own()
    return f"{_short(own.machine)}-{own.process}-{own.started}"


def _short(machine: str) -> str:
    return hashlib.sha256(machine.encode()).hexdigest()[:8]


def _dead(name: str) -> bool:
    """Whether the process of :func:`_own_name` is gone; false where that can't be seen from here."""
    machine, _, rest = name.partition("-")
    number, _, rest = rest.partition("-")
    own = ProcessId.own()
    if machine != _short(own.machine) or not number.isdigit():
        return False
    return not ProcessId(own.host, own.machine, int(number), rest.partition("-")[0]).alive


def put_in_place(folder: Path, target: Path) -> None:
    """Rename ``folder`` to ``target``, and remove what was there.

    On Linux the two are exchanged in one act. Where the system or the file system can't, nothing stands at ``target``
    for a moment; a process killed just then leaves the older one aside, and the next :func:`building_folder` puts it
    back.

    Raises:
        OSError: it can't be renamed; then what was at ``target`` is there still.
    """
    for _ in range(_ATTEMPTS):
        try:
            folder.rename(target)
            return
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        if _exchange(folder, target):
            remove(folder)
            return
        aside = target.with_name(folder.name.replace(".building-", ".old-"))
        try:
            target.rename(aside)
        except FileNotFoundError:  # somebody else has just set it aside
            continue
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno not in _TAKEN:
                aside.rename(target)
                raise
        else:
            remove(aside)
            return
        remove(aside)
    raise OSError(errno.EBUSY, "others go on putting theirs there", str(target))


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two entries of the file system in one act, where that is possible."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return rename is not None and not rename(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )


def remove(path: Path) -> None:
    """Remove a folder, link or file, as far as possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def reserve(path: Path, size_bytes: int) -> None:
    """Have the disk keep room for a file of that size.

    What is mapped into memory and finds no room when it is written ends the process with SIGBUS, long after.

    Raises:
        OSError: there is no such room, see :data:`NO_ROOM`.
    """
    if not size_bytes or not hasattr(os, "posix_fallocate"):
        return
    with path.open("ab") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, size_bytes)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise OSError(error.errno, error.strerror, str(path)) from None
            # A file system that can't keep room in advance.
