"""A published release of distilled sets beside what its authors reported: the grid file, the folders, the comparison.

A grid (TOML) names the sets of a release, the store that each is judged on and its reported number; see
``benchmarks/paper``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from avbench.errors import RequestError
from avbench.gridfile import grid_text
from avbench.jobs import EvaluateTask
from avbench.results import RunDirectory

#: Where a release's folders may lie below the folder that the user names.
_BELOW = (".", "syn_data", "data/syn_data", "distilled_data", "data/distilled_data")


@dataclass(frozen=True)
class PublishedSet:
    """One published set: names of its folder, the store that it is judged on, the reported mean and std (percent)."""

    dataset: str
    ipc: int
    folders: tuple[str, ...]
    mean: float
    std: float

    @property
    def name(self) -> str:
        return f"{self.dataset} ipc {self.ipc}"


@dataclass(frozen=True)
class Release:
    """What a grid file says.

    Attributes:
        label: what boards call the sets.
        part: which of the protocol's scores was reported, such as ``"av"``.
        networks: over how many networks the reported std goes.
    """

    label: str
    preset: str
    protocol: str
    factor: int
    metric: str
    part: str
    networks: int
    source: str
    sets: tuple[PublishedSet, ...]


def read_release(name: str) -> Release:
    """The grid file of a path, or of a name that comes with avbench.

    Raises:
        RequestError: no such grid, or it is not as it should be.
    """
    where, text = grid_text(name)
    try:
        values = tomllib.loads(text)
        if "sets" not in values and ("block" in values or "method" in values):
            raise RequestError(f"--grid {where} holds no 'sets': avbench run --grid {name} runs a grid of methods.")
        reported = values["reported"]
        if reported["unit"] != "percent":
            raise ValueError(f"unit {reported['unit']!r}: expected 'percent'")
        return Release(
            label=_typed(values, "label", str),
            preset=_typed(values, "preset", str),
            protocol=_typed(values, "protocol", str),
            factor=_typed(values, "factor", int),
            metric=_typed(reported, "metric", str),
            part=_typed(reported, "part", str),
            networks=_typed(reported, "networks", int),
            source=_typed(reported, "source", str),
            sets=tuple(_published(each) for each in values["sets"]),
        )
    except KeyError as error:
        raise RequestError(f"--grid {where}: {error.args[0]!r} is missing.") from None
    except (TypeError, ValueError, AttributeError) as error:  # tomllib's own error is a ValueError
        raise RequestError(f"--grid {where}: {error}.") from None


def _published(values: Mapping[str, Any]) -> PublishedSet:
    folders = tuple(values["folders"])
    if not folders or not all(isinstance(each, str) for each in folders):
        raise TypeError("'folders' is a list of names")
    mean, std = (float(_typed(values, key, float)) for key in ("mean", "std"))
    return PublishedSet(_typed(values, "dataset", str), _typed(values, "ipc", int), folders, mean, std)


def _typed(values: Mapping[str, Any], key: str, kind: type) -> Any:
    found = values[key]
    if isinstance(found, bool) or not isinstance(found, (int, float) if kind is float else kind):
        raise TypeError(f"{key} = {found!r}: expected {kind.__name__}")
    return found


def find_folder(source: Path, published: PublishedSet) -> Path:
    """Where a set lies under the folder that holds the release.

    Raises:
        RequestError: nowhere; names the folders that were looked for.
    """
    wanted = [name.lower() for name in published.folders]
    for base in (source / below for below in _BELOW):
        present = {each.name.lower(): each for each in base.iterdir() if each.is_dir()} if base.is_dir() else {}
        for name in wanted:
            if name in present:
                return present[name]
    raise RequestError(f"no folder {' or '.join(published.folders)} under {source} or its syn_data/.")


# --- the comparison -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """A set's measured score beside the reported one, in percent. NaN where nothing was measured."""

    name: str
    judged_by: str
    networks: int
    mean: float
    std: float
    reported_mean: float
    reported_std: float
    standard_errors: float

    @property
    def difference(self) -> float:
        return self.mean - self.reported_mean


def compare(
    release: Release, published: PublishedSet, tasks: Sequence[EvaluateTask], directory: RunDirectory
) -> list[Comparison]:
    """A row for each way in which a set was judged."""
    scores: dict[str, list[float]] = {}
    for task in tasks:
        by = task.judged_by
        label = " · ".join(part.label for part in (by.protocol, by.architecture, by.fusion))
        scores.setdefault(label, []).extend(_scores(release, task, directory))
    return [_row(release, published, label, values) for label, values in scores.items()]


def _scores(release: Release, task: EvaluateTask, directory: RunDirectory) -> list[float]:
    """The score of every network that judged one set; none where it failed or measures something else."""
    set_hash = directory.set_hash(task.cell.key)
    record = directory.record("evaluate", task.record_key(set_hash)) if set_hash else None
    if record is None or record["status"] != "done":
        return []
    scored = (network.get(release.metric, {}) for network in record["result"]["networks"])
    return [100 * values[release.part] for values in scored if release.part in values]


def _row(release: Release, published: PublishedSet, label: str, values: Sequence[float]) -> Comparison:
    mean, std = (fmean(values), pstdev(values)) if values else (nan, nan)
    # Both sides judge the same published sets: what varies between them is the networks alone.
    error = sqrt(std**2 / len(values) + published.std**2 / release.networks) if values else nan
    apart = (mean - published.mean) / error if isfinite(error) and error > 0 else nan
    return Comparison(published.name, label, len(values), mean, std, published.mean, published.std, apart)
