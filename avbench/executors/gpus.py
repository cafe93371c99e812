"""GPUs of this machine: which a run may use, and on which of them a job has room."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass

from avbench.errors import RequestError

#: What CUDA itself holds on the GPU for each process that uses it, besides tensors: an allowance, not a measurement.
CONTEXT_MIB = 512.0


@dataclass(frozen=True)
class Gpu:
    """A GPU that torch sees here.

    Attributes:
        number: torch's number of it in this process.
        visible: what CUDA_VISIBLE_DEVICES must be for a process to see it alone.
        uuid: ``GPU-`` and the driver's UUID.
    """

    number: int
    visible: str
    uuid: str
    name: str
    memory_mib: float


def seen_gpus() -> tuple[Gpu, ...]:
    """The GPUs that torch sees in this process. Imports torch, and takes no memory of a GPU."""
    import torch

    given = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part.strip()]
    found = []
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(number)
        # Where a batch system has narrowed what we see, our numbers count what it left: a worker needs its names.
        visible = given[number] if number < len(given) else str(number)
        found.append(Gpu(number, visible, f"GPU-{about.uuid}", about.name, about.total_memory / 2**20))
    return tuple(found)


def parse_gpus(text: str, seen: Sequence[Gpu]) -> tuple[Gpu, ...]:
    """``0,1,3``, or UUIDs, as GPUs.

    Args:
        seen: those that there are: :func:`seen_gpus`.

    Raises:
        RequestError: no number and no UUID, none that torch sees, or one that is listed twice.
    """
    if not seen:
        raise RequestError(f"--gpus {text!r}: torch sees no GPU here; use --device cpu, or look at the driver.")
    known = {str(gpu.number): gpu for gpu in seen} | {gpu.uuid.lower(): gpu for gpu in seen}
    there = ", ".join(f"{gpu.number} ({gpu.name}, {gpu.memory_mib:.0f} MiB, {gpu.uuid})" for gpu in seen)
    found: list[Gpu] = []
    for part in (part.strip() for part in text.split(",")):
        number = part.isascii() and part.isdigit()
        if not number and not part.upper().startswith("GPU-"):
            raise RequestError(f"--gpus {text!r}: {part!r} is no number and no GPU-UUID; there are {there}.")
        gpu = known.get((part.lstrip("0") or "0") if number else part.lower())
        if gpu is None:
            raise RequestError(f"--gpus {text!r}: torch does not see GPU {part!r} here; there are {there}.")
        if gpu in found:
            raise RequestError(f"--gpus {text!r}: GPU {gpu.number} is listed twice.")
        found.append(gpu)
    return tuple(found)


def places_on(gpus: Sequence[Gpu], job_memory_mib: float | None) -> int:
    """How many jobs have room at once: one a GPU, or as many as their declared memory allows.

    Raises:
        RequestError: one of the GPUs is too small for even one job.
    """
    if job_memory_mib is None:
        return len(gpus)
    for gpu in gpus:
        if not _capacity(gpu, job_memory_mib):
            most = max(0.0, gpu.memory_mib - CONTEXT_MIB)
            raise RequestError(
                f"--gpu-memory-mib {job_memory_mib:g}: GPU {gpu.number} ({gpu.name}) has {gpu.memory_mib:.0f} MiB, of "
                f"which a job can have {most:.0f}; declare less, or leave that GPU out of --gpus."
            )
    return sum(_capacity(gpu, job_memory_mib) for gpu in gpus)


def _capacity(gpu: Gpu, job_memory_mib: float) -> int:
    return int(gpu.memory_mib // (job_memory_mib + CONTEXT_MIB))


class Places:
    """Which job is on which GPU.

    A job gets the GPU that has the smallest part of its places taken. With declared memory a GPU has as many places as
    fit its memory; without, places are dealt evenly, as the slots ask for.
    """

    def __init__(self, gpus: Sequence[Gpu], slots: int, job_memory_mib: float | None = None) -> None:
        """Places for ``slots`` jobs at most.

        Raises:
            RequestError: one of the GPUs is too small for even one job.
        """
        places_on(gpus, job_memory_mib)
        self.job_memory_mib = job_memory_mib
        each = -(-slots // len(gpus))
        self._capacity = {gpu: each if job_memory_mib is None else _capacity(gpu, job_memory_mib) for gpu in gpus}
        self._slots = slots
        self._placed: dict[str, Gpu] = {}

    @property
    def room(self) -> bool:
        """Whether another job could be placed."""
        return len(self._placed) < min(self._slots, sum(self._capacity.values()))

    def place(self, job_id: str, avoid: Container[Gpu] = ()) -> Gpu:
        """A GPU for a job, to be held until :meth:`free`.

        Args:
            avoid: GPUs that it should get only where no other has room, such as one on which it crashed.

        Raises:
            ValueError: there is no room, or the job has a place.
        """
        if not self.room or job_id in self._placed:
            raise ValueError(f"no place for {job_id}: {len(self._placed)} jobs are placed")
        taken = {gpu: sum(each == gpu for each in self._placed.values()) for gpu in self._capacity}
        free = [gpu for gpu, capacity in self._capacity.items() if taken[gpu] < capacity]
        gpu = min(free, key=lambda gpu: (gpu in avoid, taken[gpu] / self._capacity[gpu]))
        self._placed[job_id] = gpu
        return gpu

    def free(self, job_id: str) -> None:
        """Give up a job's place, if it has one."""
        self._placed.pop(job_id, None)

    def environment(self, gpu: Gpu) -> dict[str, str]:
        """What a worker on this GPU gets: it sees that one alone, and no more of its memory than was declared."""
        found = {"CUDA_VISIBLE_DEVICES": gpu.visible}
        if self.job_memory_mib is None:
            return found
        # A job that takes more than it declared then gets the error itself, instead of a neighbour.
        limit = f"per_process_memory_fraction:{min(1.0, self.job_memory_mib / gpu.memory_mib):.6f}"
        name = "PYTORCH_ALLOC_CONF"
        if name not in os.environ and "PYTORCH_CUDA_ALLOC_CONF" in os.environ:
            name = "PYTORCH_CUDA_ALLOC_CONF"
        return found | {name: ",".join(filter(None, [os.environ.get(name), limit]))}
