"""Submissions as ``.tar.gz``: written without owners, read without trusting what they say."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from avbench.errors import RequestError
from avbench.verification.files import walk

SUFFIX = ".tar.gz"
_MOST_MEMBERS, _MOST_BYTES = 200_000, 1 << 36
#: tarfile reads contents in pieces of at most a mebibyte, and what a header says of itself at once.
_MOST_AT_ONCE_BYTES = 1 << 20


def write_archive(folder: Path, target: Path, name: str) -> None:
    """Pack the files of a folder, below a folder ``name``, so that equal files give equal bytes.

    Raises:
        RequestError: the archive can't be written.
    """
    try:
        with (
            target.open("xb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for path in walk(folder):
                archive.add(path, f"{name}/{path.relative_to(folder).as_posix()}", recursive=False, filter=_plain)
    except FileExistsError:
        raise RequestError(f"--output {target} exists: give a new file.") from None
    except OSError as error:
        target.unlink(missing_ok=True)
        raise RequestError(f"--output {target}: can't be written ({error.strerror}).") from None


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member that says nothing of whose it was."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    return member


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """The folder of results at ``path``: itself, or what its archive holds, for as long as it is looked at.

    Raises:
        RequestError: the archive is damaged, too large, or holds anything but plain files below one folder.
    """
    if path.is_dir() or not path.name.endswith(SUFFIX):
        yield path
        return
    with TemporaryDirectory(prefix="avbench-verify-") as temporary:
        try:
            with gzip.open(path) as raw, tarfile.open(fileobj=_Bounded(raw), mode="r:") as archive:
                members = list(_checked(archive, path))
                # The filter of the standard library refuses what leaves the folder, links and devices once more.
                archive.extractall(temporary, members=members, filter="data")
        except (OSError, EOFError, RecursionError, tarfile.TarError, ValueError, zlib.error) as error:
            raise RequestError(f"{path} can't be read as an archive: {error}") from None
        tops = sorted(Path(temporary).iterdir())
        if len(tops) != 1 or not tops[0].is_dir():
            raise RequestError(f"{path} holds {len(tops)} things at its top, expected the folder of one submission.")
        yield tops[0]


class _Bounded(io.BufferedIOBase):
    """A stream without large reads: the length of an extended header is the archive's word, and is read at once."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        super().__init__()
        self._stream = stream

    def read(self, size_bytes: int | None = -1, /) -> bytes:
        if size_bytes is None or not 0 <= size_bytes <= _MOST_AT_ONCE_BYTES:
            raise ValueError(f"a header of {size_bytes} bytes")
        return self._stream.read(size_bytes)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _checked(archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
    """The members, each looked at before anything is written."""
    count = total_bytes = 0
    for member in archive:
        if member.size < 0:  # tarfile would go backwards, for ever
            raise RequestError(f"{path}: {member.name!r} has {member.size} bytes.")
        count, total_bytes = count + 1, total_bytes + member.size
        inside = Path(member.name)
        if not (member.isreg() or member.isdir()) or inside.is_absolute() or ".." in inside.parts:
            raise RequestError(f"{path}: {member.name!r} is no plain file inside the archive's folder.")
        if count > _MOST_MEMBERS or total_bytes > min(_MOST_BYTES, shutil.disk_usage("/").free):
            raise RequestError(f"{path} unpacks to more than is accepted or than the disk holds.")
        yield member
