"""What jobs ask of Slurm: a TOML file with ``[defaults]`` and ``[methods.NAME]``."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from avbench.errors import RequestError, nearest
from avbench.executors.base import Resources

_SBATCH_NAME = re.compile(r"[a-z][a-z0-9-]*")
#: What the executor itself tells sbatch.
_OURS = frozenset(
    {"array", "error", "export", "job-name", "open-mode", "output", "parsable", "requeue", "signal", "wrap"}
)
_MOST = ("array_parallelism", "attempts", "cpus", "gpus", "memory_mib", "notice_s", "time_min")


@dataclass(frozen=True)
class Asked:
    """What one job asks of Slurm; ``None`` and "" leave it to the cluster.

    Attributes:
        time_min: Slurm's time limit. A job that meets it is queued again and goes on from its checkpoint.
        gpus: of its node; ``None``: one under ``--device cuda``, else none.
        cpus: ``None``: as many as the job has threads.
        memory_mib: what the node sets aside, beyond which Slurm ends the job.
        array_parallelism: jobs of one array that run at once.
        attempts: how often a job is begun in all, each requeue counted.
        notice_s: how long before its time limit a job is told.
        setup: lines of shell before the job, such as ``module load``.
        sbatch: further options of sbatch by their long names.
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time_min: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory_mib: int | None = None
    array_parallelism: int = 256
    attempts: int = 3
    notice_s: int = 90
    setup: tuple[str, ...] = ()
    sbatch: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """What the jobs of each method ask."""

    defaults: Asked = field(default_factory=Asked)
    methods: Mapping[str, Asked] = field(default_factory=dict)

    def asked(self, methods: Iterable[str]) -> Asked:
        """For a job that works for these methods: of each number the most, of the rest the first method's."""
        found = [self.methods.get(name, self.defaults) for name in dict.fromkeys(methods)] or [self.defaults]
        most: dict[str, Any] = {}
        for name in _MOST:
            given = [value for each in found if (value := getattr(each, name)) is not None]
            most |= {name: max(given)} if given else {}
        return replace(found[0], **most)

    def settled(self, resources: Resources, where: str = "--executor slurm") -> Table:
        """The table with every row held against the run's own options.

        Raises:
            RequestError: a row contradicts them.
        """
        rows = {name: settled(row, resources, f"{where}: methods.{name}") for name, row in self.methods.items()}
        return Table(settled(self.defaults, resources, f"{where}: defaults"), rows)


def settled(asked: Asked, resources: Resources, where: str) -> Asked:
    """``asked`` with CPUs and GPUs as numbers that the run's own options allow.

    Raises:
        RequestError: they contradict each other.
    """
    cuda = resources.device == "cuda"
    cpus = resources.threads if asked.cpus is None else asked.cpus
    gpus = int(cuda) if asked.gpus is None else asked.gpus
    if cpus < resources.threads:
        raise RequestError(f"{where}: cpus = {cpus}, but --threads {resources.threads}; ask for as many CPUs.")
    if cuda and not gpus:
        raise RequestError(f"{where}: gpus = 0, but --device cuda; ask for a GPU or say --device cpu.")
    return replace(asked, cpus=cpus, gpus=gpus)


def read_table(path: Path) -> Table:
    """The table in a TOML file.

    Raises:
        RequestError: the file can't be read, or says what is not understood; names file, table and key.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f"--executor slurm[resources={path}]: can't be read ({error.strerror}); name a TOML file."
        ) from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no TOML: {str(error).splitlines()[0]}") from None
    _known(values, ("defaults", "methods"), f"{path}")
    methods = _mapping(values.get("methods", {}), f"{path}: methods")
    defaults = _asked(Asked(), values.get("defaults", {}), f"{path}: defaults")
    rows = {name: _asked(defaults, row, f"{path}: methods.{name}") for name, row in methods.items()}
    return Table(defaults, rows)


def _asked(base: Asked, values: Any, where: str) -> Asked:
    given = _mapping(values, where)
    _known(given, [each.name for each in fields(Asked)], where)
    found = {name: _value(name, value, f"{where}.{name}") for name, value in given.items()}
    if "sbatch" in found:
        found["sbatch"] = {**base.sbatch, **found["sbatch"]}
    asked = replace(base, **found)
    if asked.time_min is not None and asked.notice_s >= 60 * asked.time_min:
        raise RequestError(
            f"{where}: notice_s = {asked.notice_s} is not less than time_min = {asked.time_min}; a job would be told "
            "to end as it begins."
        )
    return asked


def _value(name: str, value: Any, where: str) -> Any:
    if name == "sbatch":
        return {key: _sbatch(key, each, f"{where}.{key}") for key, each in _mapping(value, where).items()}
    if name == "setup":
        if not isinstance(value, list):
            raise RequestError(f"{where} = {value!r}: expected a list of lines.")
        return tuple(_text(line, where) for line in value)
    if name not in _MOST:
        return _text(value, where)
    least = 0 if name == "gpus" else 1
    if type(value) is not int or not least <= value < 2**31:
        raise RequestError(f"{where} = {value!r}: expected a whole number of at least {least}.")
    return value


def _sbatch(key: str, value: Any, where: str) -> str | int | bool:
    ours = {each.name.replace("_", "-") for each in fields(Asked)} & {"partition", "account", "qos", "constraint"}
    if not _SBATCH_NAME.fullmatch(key):
        raise RequestError(f"{where}: expected the long name of an option of sbatch, without dashes in front.")
    if key in _OURS:
        raise RequestError(f"{where}: the executor says --{key} itself; leave it out.")
    if key in ours:
        raise RequestError(f"{where}: write {key} = … beside sbatch, not in it.")
    if value is True or type(value) is int:
        return value
    return _text(value, where)


def _text(value: Any, where: str) -> str:
    # A line break would end the directive, and the rest would be run.
    if not isinstance(value, str) or not value.isprintable():
        raise RequestError(f"{where} = {value!r}: expected text on one line.")
    return value


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise RequestError(f"{where}: expected a table.")
    return value


def _known(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise RequestError(f"{where} has no {name!r}; {nearest(name, known)}")
