"""Watching what a plugin touches besides its results: files, sockets, random state, torch's settings, stdout.

Python tells of files and sockets through its audit events. Native code that opens files itself is not seen; what it
leaves in the current or the home folder is.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
)
_NETWORK = frozenset({"socket.connect", "socket.getaddrinfo", "socket.bind", "socket.sendto"})
_PROCESS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty"})


@dataclass
class Touched:
    """What was seen.

    Attributes:
        read, written: absolute paths.
        network, processes: what was connected to and started.
    """

    read: list[str] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    network: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)


_watchers: list[Touched | None] = []
_hooked = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    seen = _watchers[-1] if _watchers else None
    if seen is None:
        return
    if event == "open":
        path, mode, flags = (*arguments, None, None)[:3]
        if isinstance(path, str | bytes | os.PathLike):
            writes = bool(set(str(mode or "")) & set("wax+")) or bool((flags or 0) & _WRITING)
            (seen.written if writes else seen.read).append(_absolute(path))
    elif event in _CHANGING:
        paths = [each for each in arguments[:2] if isinstance(each, str | bytes | os.PathLike)]
        seen.written += [_absolute(each, _folder(arguments[-1])) for each in paths]
    elif event in _NETWORK:
        # A host comes first of five; of the others the address comes last, after the socket.
        where = arguments[0] if event == "socket.getaddrinfo" else arguments[-1]
        seen.network.append(f"{event.removeprefix('socket.')} {where!r}")
    elif event in _PROCESS:
        seen.processes.append(f"{arguments[0] if arguments else event}")


def _absolute(path: str | bytes | os.PathLike[Any], folder: str = "") -> str:
    # Not resolved: that would open files itself.
    return os.path.abspath(os.path.join(folder, os.fsdecode(path)))  # noqa: PTH100, PTH118


def _folder(descriptor: Any) -> str:
    """The folder of an open descriptor, below which whoever removes a tree names what it removes; "" for none."""
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()) if descriptor not in (None, -1) else ""
    except OSError:
        return ""


@contextmanager
def watched() -> Iterator[Touched]:
    """What is touched while it lasts, by any thread."""
    global _hooked  # noqa: PLW0603 - an audit hook can't be taken away again
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked = True
    seen = Touched()
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


@contextmanager
def unwatched() -> Iterator[None]:
    """While it lasts nothing is noted: what the kit does on the plugin's behalf."""
    _watchers.append(None)
    try:
        yield
    finally:
        _watchers.pop()


@contextmanager
def elsewhere(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Work in an empty folder, with an empty home, and temporary files below ``folder``.

    Yields:
        The folder and the home.
    """
    places = [folder / name for name in ("work", "home", "tmp")]
    for place in places:
        place.mkdir(parents=True)
    before, environment, temporary = Path.cwd(), dict(os.environ), tempfile.tempdir
    os.chdir(places[0])
    os.environ.update(HOME=str(places[1]), TMPDIR=str(places[2]))
    tempfile.tempdir = str(places[2])
    try:
        yield places[0], places[1]
    finally:
        tempfile.tempdir = temporary
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(before)


@contextmanager
def listening() -> Iterator[io.StringIO]:
    """What is printed on stdout while it lasts."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield printed


def settings() -> dict[str, Any]:
    """The settings of torch and Python that a plugin shares with everything else in its process."""
    return {
        **_torch_settings(),
        "numpy's error handling": tuple(sorted(np.geterr().items())),
        "the current folder": Path.cwd(),
        "the environment": tuple(sorted(os.environ.items())),
    }


def _torch_settings() -> dict[str, Any]:
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "torch's warning instead of them": torch.is_deterministic_algorithms_warn_only_enabled(),
        "torch's filling of new memory": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "cudnn.benchmark": torch.backends.cudnn.benchmark,
        "cudnn.allow_tf32": torch.backends.cudnn.allow_tf32,
        "float32 matmul precision": torch.get_float32_matmul_precision(),
    }


def _set_torch(before: dict[str, Any]) -> None:
    torch.set_default_dtype(before["torch's default dtype"])
    if torch.get_default_device() != before["torch's default device"]:
        torch.set_default_device(before["torch's default device"])
    torch.set_num_threads(before["torch's threads"])
    torch.set_grad_enabled(before["torch's gradient mode"])
    strict, warns = before["torch's deterministic algorithms"], before["torch's warning instead of them"]
    torch.use_deterministic_algorithms(strict, warn_only=warns)
    torch.utils.deterministic.fill_uninitialized_memory = before["torch's filling of new memory"]  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = before["cudnn.benchmark"]
    torch.backends.cudnn.allow_tf32 = before["cudnn.allow_tf32"]
    torch.set_float32_matmul_precision(before["float32 matmul precision"])


@contextmanager
def torch_restored() -> Iterator[None]:
    """Put torch's settings back, whatever is done to them."""
    before = _torch_settings()
    try:
        yield
    finally:
        _set_torch(before)


@contextmanager
def restored(before: dict[str, Any]) -> Iterator[None]:
    """Put back what :func:`settings` gave, whatever a plugin does to it."""
    errors = np.geterr()
    try:
        yield
    finally:
        _set_torch(before)
        np.seterr(**errors)
        os.chdir(before["the current folder"])
        os.environ.clear()
        os.environ.update(dict(before["the environment"]))


class GlobalRandomness:
    """The generators that everything in a process shares, set for a check and put back after it."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __enter__(self) -> GlobalRandomness:
        self._before = torch.get_rng_state(), np.random.get_state(), random.getstate()
        torch.manual_seed(self.seed)
        np.random.seed(self.seed)
        random.seed(self.seed)
        self._set = np.random.get_state()[1].tobytes(), np.random.get_state()[2], random.getstate()  # type: ignore[index]
        return self

    def touched(self) -> list[str]:
        """Which generators were drawn from or seeded.

        Of torch's only that it was seeded anew: building a layer draws its first weights from it, which does no harm
        where they are drawn again from the run's streams.
        """
        found = []
        state = np.random.get_state()
        if (state[1].tobytes(), state[2]) != self._set[:2]:  # type: ignore[index]
            found.append("numpy.random")
        if random.getstate() != self._set[2]:
            found.append("random")
        if torch.initial_seed() != self.seed:
            found.append("torch (seeded anew)")
        return found

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._before[0])
        np.random.set_state(self._before[1])
        random.setstate(self._before[2])
