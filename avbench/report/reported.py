"""What papers report of themselves: figures from ``leaderboard/reported``, each with its source."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import isnan
from pathlib import Path

import pandas as pd

#: In the CSV retrieval is two tasks and has no fusion; on a board it is one protocol with a part for each direction.
DIRECTIONS = {"a→v": "retrieval-a2v", "v→a": "retrieval-v2a"}
METRICS = {"median rank": "MedR"}


@dataclass(frozen=True)
class Reported:
    """A number that a paper prints. Accuracies and recalls are shares of one, a median rank is a rank.

    Attributes:
        table: where the paper prints it.
        seeds, networks: over how many distillations, and over how many networks of them all, its ``std`` goes.
    """

    table: str
    mean: float
    std: float
    seeds: int
    networks: int
    source: str


@dataclass(frozen=True)
class Source:
    """A paper's figures and beside which boards they may stand.

    Attributes:
        figures: columns table, dataset, ipc (0: the whole data), method, modality, arch, fusion, task, metric, mean,
            std (both as printed, NaN for a dash), variant.
        protocols: labels of the protocols that measure what the paper measured.
    """

    name: str
    source: str
    figures: pd.DataFrame
    protocols: tuple[str, ...]
    prefer: tuple[str, ...]
    seeds: int
    networks: int

    def figure(self, row: pd.Series) -> Reported:
        """A line of :attr:`figures` as shares (a median rank as it is)."""
        scale = 1.0 if row["metric"] in METRICS.values() else 0.01
        numbers = (scale * float(row["mean"]), scale * float(row["std"]))
        return Reported(str(row["table"]), *numbers, self.seeds, self.networks, self.source)


@cache
def sources() -> tuple[Source, ...]:
    """All papers whose numbers come with avbench."""
    shelf: Path | Traversable = files("avbench") / "reported"
    if not shelf.is_dir():  # a checkout has them where a reader looks for them
        shelf = Path(__file__).parents[2] / "leaderboard" / "reported"
    return tuple(_read(shelf, each) for each in sorted(shelf.iterdir(), key=str) if each.name.endswith(".toml"))


def _read(shelf: Path | Traversable, about: Path | Traversable) -> Source:
    values = tomllib.loads(about.read_text(encoding="utf-8"))
    with (shelf / values["figures"]).open(encoding="utf-8") as file:
        frame = pd.read_csv(file, dtype={"table": str}, keep_default_na=False, na_values={"mean": [""], "std": [""]})
    frame["ipc"] = pd.to_numeric(frame["ipc"], errors="coerce").fillna(0).astype(int)
    return Source(
        about.name.removesuffix(".toml"),
        values["source"],
        frame,
        tuple(values["protocols"]),
        tuple(values["prefer"]),
        int(values["seeds"]),
        int(values["networks"]),
    )


@dataclass(frozen=True)
class Place:
    """A number's place on a board.

    Attributes:
        dataset: the store's name; ``plugin``: what prepared it, "" where a record does not say.
        method, architecture, fusion, protocol: labels. One with options is no plain method, and nothing is reported.
        part: ``"a"``, ``"v"``, ``"av"`` or, for retrieval, ``"a→v"``, ``"v→a"``.
        modality: what was distilled.
    """

    dataset: str
    plugin: str
    method: str
    ipc: int
    modality: str
    architecture: str
    fusion: str
    protocol: str
    metric: str
    part: str


def reported(place: Place) -> Reported | None:
    """What was reported for a place; ``None`` where nothing was, or nothing comparable.

    A store counts as the paper's dataset where it has that name and the plugin of that name prepared it: ``ave``, and
    ``ave-10s``, which ``ave`` prepares too. What was distilled for audio or frames alone was not reported.
    """
    if place.modality != "av" or (place.plugin and not place.dataset.startswith(place.plugin)):
        return None
    for source in sources():
        if place.protocol in source.protocols:
            found = _find(source, place)
            if found is not None:
                return found
    return None


def _find(source: Source, place: Place) -> Reported | None:
    frame = source.figures
    task = DIRECTIONS.get(place.part, "recognition")
    modality, fusion = ("av", "") if task != "recognition" else (place.part, place.fusion)
    wanted = {
        "dataset": place.dataset,
        "method": place.method,
        "ipc": place.ipc,
        "arch": place.architecture,
        "fusion": fusion,
        "task": task,
        "modality": modality,
        "metric": METRICS.get(place.metric, place.metric),
        "variant": "",
    }
    rows = frame[frame["mean"].notna()]
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    return _preferred(source, rows)


def _preferred(source: Source, rows: pd.DataFrame) -> Reported | None:
    for table in source.prefer:
        here = rows[rows["table"] == table]
        if len(here):
            return source.figure(here.iloc[0])
    return None


def standard_errors(mean: float, std: float, n: int, other: Reported) -> float:
    """The difference measured − reported in standard errors of both, as if all networks were independent; or NaN."""
    if n < 1 or isnan(other.mean):
        return float("nan")
    error = (std**2 / n + other.std**2 / other.networks) ** 0.5
    return (mean - other.mean) / error if error > 0 else float("nan")
