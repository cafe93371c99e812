"""From records to scores: which distilled set was judged how, with each network counted once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avbench.cells import configuration
from avbench.report.records import Archive
from avbench.results import RunDirectory

Record = Mapping[str, Any]
BoardKey = tuple[Hashable, ...]
Located = tuple[Path, Record]


@dataclass
class Judged:
    """A cell under one protocol, architecture and fusion.

    Attributes:
        path: where the cell's record lies.
        networks: scores by network index, ``{part: value}``; empty where the cell or its evaluation failed.
        evaluations: where the records of its evaluations lie.
    """

    cell: Record
    path: Path
    networks: dict[int, Mapping[str, float]] = field(default_factory=dict)
    evaluations: list[Path] = field(default_factory=list)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The records that it was read from, that of the cell first."""
        return (self.path, *self.evaluations)


@dataclass
class Group:
    """All that one board holds.

    Attributes:
        key: what tells its board from others, see :func:`board_key`.
        about: what is common: dataset, protocol, architecture, fusion, precision, metric.
        judged: by cell key.
        planned_networks: the most networks that any evaluation was planned with.
        plain: parts that are numbers, not shares of one.
        secondary: parts of other metrics than the one that ranks, ``"R@5 a→v"``; those of that one are bare, ``"a"``.
        ways: the references of protocol, architecture and fusion, with their options.
    """

    key: BoardKey
    about: dict[str, Any]
    ways: tuple[Record, ...]
    judged: dict[str, Judged] = field(default_factory=dict)
    planned_networks: int = 0
    plain: set[str] = field(default_factory=set)
    secondary: list[str] = field(default_factory=list)

    @property
    def protocol(self) -> Record:
        """The protocol's reference."""
        return self.ways[0]


def board_key(fingerprint: str, precision: str, ways: Iterable[Record]) -> BoardKey:
    """What is equal for all that one board holds; ``ways`` are its protocol, architecture and fusion, as references."""
    return (fingerprint, precision, *map(configuration, ways))


def on_test(evaluation: Record) -> bool:
    """Whether an evaluation counts on boards; those on the validation split chose a value and show nothing."""
    return bool(evaluation.get("split", "test") == "test")


def collect(directories: Iterable[RunDirectory], only: set[str] | None, tried: Set[str] = frozenset()) -> list[Group]:
    """The groups of all directories; a cell or network that several of them hold counts once.

    Args:
        only: keys of the cells to keep; ``None`` keeps all.
        tried: keys of cells whose failures are not shown.
    """
    cells, evaluations = located(directories, only)
    cells = {key: each for key, each in cells.items() if each[1]["status"] == "done" or key not in tried}
    groups = grouped(cells, evaluations, tried)
    _add_failed_cells(groups, cells.values())
    return list(groups.values())


def located(
    directories: Iterable[RunDirectory], only: set[str] | None = None
) -> tuple[dict[str, Located], dict[str, Located]]:
    """The cells and the evaluations on the test split of all directories, by key; of a key that several have, one."""
    cells: dict[str, Located] = {}
    evaluations: dict[str, Located] = {}
    for directory in map(Archive.of, directories):
        for path, record in directory.located("distil"):
            if only is None or record["key"] in only:
                _keep(cells, path, record)
        for path, record in directory.located("evaluate"):
            if on_test(record):
                _keep(evaluations, path, record)
    return cells, evaluations


def grouped(
    cells: Mapping[str, Located], evaluations: Mapping[str, Located], tried: Set[str] = frozenset()
) -> dict[BoardKey, Group]:
    """Cells with what their sets scored, by board; a cell that was judged nowhere is on none."""
    by_set = _by_set(cells.values())
    groups: dict[BoardKey, Group] = {}
    for each in evaluations.values():
        _add(groups, each, by_set, cells, tried)
    return groups


def _keep(known: dict[str, Located], path: Path, record: Record) -> None:
    """The first record of a key counts, unless a later one is of a task that got done."""
    if record["key"] not in known or known[record["key"]][1]["status"] != "done":
        known[record["key"]] = (path, record)


def scope(record: Record) -> tuple[Hashable, ...]:
    """What an evaluation and a cell must have in common besides the content of the set."""
    return (record["dataset"]["fingerprint"], record["seed"], record["modality"], record["precision"])


def _by_set(cells: Iterable[Located]) -> dict[tuple[Hashable, ...], list[Located]]:
    """Done cells by the content of their set. Two variants may give the very same set: a score is then both's."""
    found: dict[tuple[Hashable, ...], list[Located]] = {}
    for path, cell in cells:
        if cell["status"] == "done":
            found.setdefault((cell["result"]["content_hash"], *scope(cell)), []).append((path, cell))
    return found


def _add(
    groups: dict[BoardKey, Group],
    evaluation: Located,
    by_set: Mapping[tuple[Hashable, ...], list[Located]],
    cells: Mapping[str, Located],
    tried: Set[str],
) -> None:
    place, record = evaluation
    done = record["status"] == "done"
    if done:
        made = by_set.get((record["set_hash"], *scope(record)), [])
    else:
        known = record["distil_key"] in cells and record["distil_key"] not in tried
        made = [cells[record["distil_key"]]] if known else []
    if not made:
        return
    ways = tuple(record[part] for part in ("protocol", "evaluated_architecture", "fusion"))
    key = board_key(record["dataset"]["fingerprint"], record["precision"], ways)
    group = groups.setdefault(key, Group(key, _about(record), ways))
    group.planned_networks = max(group.planned_networks, record["planned_networks"])
    group.about["metric"] = record["result"]["primary"] if done else group.about["metric"]
    for path, cell in made:
        judged = group.judged.setdefault(cell["key"], Judged(cell, path))
        judged.evaluations.append(place)
        for network in record["result"]["networks"] if done else ():
            judged.networks[network["index"]] = _parts(group, record["result"], network)


def _parts(group: Group, result: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, float]:
    """All scores of a network in one level; notes in the group what each is."""
    found: dict[str, float] = {}
    for metric in result.get("metrics") or [{"name": result["primary"], "share": True}]:
        for part, value in network[metric["name"]].items():
            main = metric["name"] == result["primary"]
            name = part if main else f"{metric['name']} {part}"
            found[name] = value
            if not main and name not in group.secondary:
                group.secondary.append(name)
            if not metric["share"]:
                group.plain.add(name)
    return found


def _about(record: Record) -> dict[str, Any]:
    return {
        "dataset": record["dataset"]["name"],
        "fingerprint": record["dataset"]["fingerprint"],
        "dataset_plugin": record["dataset"].get("plugin", ""),
        "protocol": record["protocol"]["label"],
        "protocol_version": record["protocol"]["version"],
        "architecture": record["evaluated_architecture"]["label"],
        "fusion": record["fusion"]["label"],
        "precision": record["precision"],
        "metric": "",
    }


def _add_failed_cells(groups: Mapping[BoardKey, Group], cells: Iterable[Located]) -> None:
    """A cell that failed was judged nowhere: it is shown on the boards of its preset's other cells."""
    for path, cell in cells:
        if cell["status"] == "done":
            continue
        for group in groups.values():
            same_data = group.about["fingerprint"] == cell["dataset"]["fingerprint"]
            same_kind = any(
                j.cell["preset"] == cell["preset"] and j.cell["precision"] == cell["precision"]
                for j in group.judged.values()
            )
            if same_data and same_kind:
                group.judged.setdefault(cell["key"], Judged(cell, path))
