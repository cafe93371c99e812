"""What Linux tells of memory: how much a process holds, and how often the kernel killed for want of it."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


def anonymous_mib(process: int) -> float:
    """Memory that the process holds itself, in MiB: not what it maps from files, such as a store's arrays.

    0 where the system does not tell.
    """
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0.0
    held_kib = [int(line.split()[1]) for line in lines if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:"))]
    return sum(held_kib) / 1024


def available_bytes() -> int | None:
    """Memory that could still be taken on this machine; ``None`` where the system does not tell."""
    found = _counter(Path("/proc/meminfo"), "MemAvailable:")  # "MemAvailable:   123 kB"
    return None if found is None else found * 1024


def out_of_memory_kills() -> int | None:
    """How many processes the kernel has killed for want of memory, machine-wide and in our control group.

    ``None`` where the system does not tell. A rise between start and end of a worker that got SIGKILL tells why.
    """
    counts = [_counter(path, "oom_kill") for path in (Path("/proc/vmstat"), *_control_groups())]
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _control_groups() -> list[Path]:
    """The files in which our control group counts kills: version 2, and version 1's memory controller."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if not controllers:
            found.append(_CGROUPS / group.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(_CGROUPS / "memory" / group.lstrip("/") / "memory.oom_control")
    return found


def _counter(path: Path, name: str) -> int | None:
    try:
        for line in path.read_text(encoding="ascii", errors="replace").splitlines():
            key, *value = line.split()
            if key == name:
                return int(value[0])
    except (OSError, ValueError, IndexError):
        pass
    return None
