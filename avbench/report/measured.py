"""Scores from records by what was judged and how, however it was spelled: what a grid's cells are looked up in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from avbench.cells import configuration
from avbench.report.scores import Record, on_test, scope
from avbench.results import RunDirectory

_WEIGHTS = "init_weights"


@dataclass(frozen=True)
class Wanted:
    """A cell and how it is judged, all plugins as references with resolved options.

    Attributes:
        training: the architecture that distils.
        weights: whether the judging networks start from given weights, whichever.
    """

    dataset: str
    fingerprint: str
    ipc: int
    modality: str
    precision: str
    method: Mapping[str, Any]
    training: Mapping[str, Any]
    protocol: Mapping[str, Any]
    architecture: Mapping[str, Any]
    fusion: Mapping[str, Any]
    weights: bool = False

    @property
    def cell(self) -> tuple[Hashable, ...]:
        where = (self.dataset, self.fingerprint, self.ipc, self.modality, self.precision)
        return (*where, configuration(self.method), configuration(self.training))

    @property
    def key(self) -> tuple[Hashable, ...]:
        return (*self.cell, *_judge(self.protocol, self.architecture, self.fusion), self.weights)


@dataclass
class Score:
    """What the networks of all seeds scored: ``networks`` by seed and index, ``{metric: {part: value}}``."""

    weights: str
    networks: dict[int, dict[int, Mapping[str, Any]]] = field(default_factory=dict)
    finished: dict[int, str] = field(default_factory=dict)

    @property
    def per_set(self) -> int:
        """Networks of the seed that has the fewest."""
        return min((len(each) for each in self.networks.values()), default=0)

    def values(self, metric: str, part: str) -> list[float]:
        """The scores of all networks of all seeds."""
        found = (network.get(metric, {}) for of_seed in self.networks.values() for network in of_seed.values())
        return [float(each[part]) for each in found if part in each]

    def add(self, cell: Record, networks: Sequence[Mapping[str, Any]]) -> None:
        """Of several cells of a seed the latest counts: older ones were made with prerequisites changed since."""
        seed, finished = cell["seed"], str(cell.get("finished", ""))
        known = self.finished.setdefault(seed, finished)
        if finished > known:
            self.networks.pop(seed, None)
            self.finished[seed] = finished
        if finished >= known:
            self.networks.setdefault(seed, {}).update({network["index"]: network for network in networks})


def _judge(
    protocol: Mapping[str, Any], architecture: Mapping[str, Any], fusion: Mapping[str, Any]
) -> tuple[Hashable, ...]:
    options = {name: value for name, value in protocol["options"].items() if name != _WEIGHTS}
    return (configuration({**protocol, "options": options}), configuration(architecture), configuration(fusion))


def _cell(record: Record) -> tuple[Hashable, ...]:
    data = record["dataset"]
    where = (data["name"], data["fingerprint"], record["ipc"], record["modality"], record["precision"])
    return (*where, configuration(record["method"]), configuration(record["architecture"]))


class Measured:
    """All that several run directories hold; a record that two of them have counts once."""

    def __init__(self, directories: Sequence[RunDirectory]) -> None:
        self._scores: dict[tuple[Hashable, ...], dict[str, Score]] = {}
        self._failed: dict[tuple[Hashable, ...], str] = {}
        self._labels: dict[tuple[Hashable, ...], str] = {}
        self._looked_up: set[tuple[Hashable, ...]] = set()
        #: By the name of a dataset the (fingerprint, plugin that prepared it) of its stores.
        self.stores: dict[str, dict[str, str]] = {}
        self.presets: dict[str, set[str]] = {}
        made: dict[tuple[Hashable, ...], list[Record]] = {}
        for cell in _once(directories, "distil"):
            data = cell["dataset"]
            self.stores.setdefault(data["name"], {})[data["fingerprint"]] = data.get("plugin", "")
            self.presets.setdefault(data["name"], set()).add(cell["preset"])
            if cell["status"] == "done":
                made.setdefault((cell["result"]["content_hash"], *scope(cell)), []).append(cell)
            else:
                self._failed[_cell(cell)] = cell["error"]["reason"]
        for record in _once(directories, "evaluate"):
            if on_test(record) and record["status"] == "done":
                for cell in made.get((record["set_hash"], *scope(record)), []):
                    self._add(cell, record)

    def _add(self, cell: Record, record: Record) -> None:
        protocol = record["protocol"]
        weights = str(protocol["options"].get(_WEIGHTS) or "")
        judge = _judge(protocol, record["evaluated_architecture"], record["fusion"])
        key = (*_cell(cell), *judge, bool(weights))
        self._labels[key] = f"{cell['dataset']['name']} ({protocol['label']}, preset {cell['preset']})"
        score = self._scores.setdefault(key, {}).setdefault(weights, Score(weights))
        score.add(cell, record["result"]["networks"])

    def find(self, wanted: Wanted) -> list[Score]:
        """The scores of a cell, one for each file of weights that its networks started from."""
        self._looked_up.add(wanted.key)
        return list(self._scores.get(wanted.key, {}).values())

    def failure(self, wanted: Wanted) -> str:
        """Why its distillation failed; "" where it did not."""
        return self._failed.get(wanted.cell, "")

    def left(self) -> Counter[str]:
        """What was never looked up: dataset with protocol and preset → how many cells."""
        return Counter(label for key, label in self._labels.items() if key not in self._looked_up)


def _once(directories: Iterable[RunDirectory], kind: str) -> Iterator[Record]:
    """The records of a kind by key; a task that got done anywhere is done."""
    found: dict[str, Record] = {}
    for directory in directories:
        for record in directory.records(kind):
            if record["key"] not in found or found[record["key"]]["status"] != "done":
                found[record["key"]] = record
    yield from found.values()
