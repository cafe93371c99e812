"""What the run and its Slurm jobs tell each other, in files of the run directory alone.

``jobs/slurm-<process>-<token>-<number>/`` is one array: ``submission.json`` says which jobs it has, beside submitit's
script and what Slurm wrote. In a job's own folder ``slurm.json`` names its array, ``node.json`` says where the last
attempt began, ``attempts.json`` which attempts were lost, ``ended.json`` how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avbench.claims import ProcessId
from avbench.executors.attempts import Attempts
from avbench.executors.base import Ended, Resources
from avbench.results import write_atomically


@dataclass(frozen=True)
class SubmittedJob:
    """A job of an array: its folder's name under ``jobs/``, and the keys of its tasks."""

    id: str
    folder: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Submission:
    """One array of jobs.

    Attributes:
        run: the process that submitted it.
        version: of avbench there.
        time_min, notice_s: Slurm's time limit, where the file named one, and the notice before it.
        number: of the array in Slurm; "" until it is known.
    """

    run: ProcessId
    version: str
    resources: Resources
    attempts: int
    time_min: int | None
    notice_s: int
    jobs: tuple[SubmittedJob, ...]
    number: str = ""

    def write(self, folder: Path) -> None:
        write_atomically(folder / "submission.json", json.dumps(asdict(self), indent=1))

    @classmethod
    def read(cls, folder: Path) -> Submission:
        """From its folder.

        Raises:
            OSError, ValueError, TypeError, KeyError: there is none that is whole.
        """
        values = json.loads((folder / "submission.json").read_text(encoding="utf-8"))
        jobs = tuple(SubmittedJob(each["id"], each["folder"], tuple(each["keys"])) for each in values["jobs"])
        resources = Resources(**{**values["resources"], "gpus": ()})
        return cls(**{**values, "run": ProcessId(**values["run"]), "resources": resources, "jobs": jobs})


def submissions(root: Path) -> Iterator[tuple[Path, Submission]]:
    """The arrays that a run directory knows of, with their folders; damaged ones are passed over."""
    for folder in sorted((root / "jobs").glob("slurm-*")):
        try:
            yield folder, Submission.read(folder)
        except (OSError, ValueError, TypeError, KeyError):
            continue


def write_submitted(folder: Path, number: str, array: Path) -> None:
    """Leave word in a job's folder of its number in Slurm and of its array's folder."""
    write_atomically(folder / "slurm.json", json.dumps({"number": number, "array": array.name}))


def log_of(folder: Path) -> Path | None:
    """What Slurm wrote of a job, all attempts in one file; ``None`` where there is nothing, or it was not Slurm's."""
    about = read_json(folder / "slurm.json")
    array = Path(str(about.get("array", ""))).name
    log = folder.parent / array / f"{Path(str(about.get('number', ''))).name}_0_log.out"
    return log if array and log.is_file() else None


def ended_of(job_id: str, folder: Path) -> Ended | None:
    """How a job says that it ended; ``None`` while it has not."""
    found = read_json(folder / "ended.json")
    try:
        return Ended(job_id, int(found["status"]), found["cause"], str(found["detail"]))
    except (KeyError, TypeError, ValueError):
        return None


def write_ended(folder: Path, ended: Ended) -> None:
    """Leave word of a job's end, for whoever looks next."""
    about = {"status": ended.status, "cause": ended.cause, "detail": ended.detail}
    write_atomically(folder / "ended.json", json.dumps(about))


def attempts_of(folder: Path, most: int) -> Attempts:
    """The attempts at a job so far, as ``attempts.json`` and ``node.json`` tell; whole or broken off."""
    lost = read_json(folder / "attempts.json", list)
    number = read_json(folder / "node.json").get("attempt", 0)
    return Attempts(folder, most, max(number if isinstance(number, int) else 0, len(lost)), lost)


def lose(folder: Path, most: int, why: str) -> Attempts:
    """Note that the attempt which began last is lost, unless it is noted; the attempts as they are then.

    Raises:
        OSError: it can't be written.
    """
    attempts = attempts_of(folder, most)
    if len(attempts.lost) >= attempts.number > 0:
        return attempts
    if attempts.number == 0:  # it was lost before it began
        attempts.begin()
    attempts.lose(str(read_json(folder / "node.json").get("host", "a node that it had not begun on")), why)
    return attempts


def read_json(path: Path, kind: type[Any] = dict) -> Any:
    """What a file holds; an empty ``kind`` where that is not one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return kind()
    return found if isinstance(found, kind) else kind()


def about_node(attempt: int, host: str, number: str) -> Mapping[str, Any]:
    """What ``node.json`` says of the attempt that begins: ``number`` is Slurm's of the job."""
    return {"attempt": attempt, "host": host, "slurm_job": number}
