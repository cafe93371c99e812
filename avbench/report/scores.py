"""From records to scores: which distilled set was judged how, with each network counted once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from avbench.cells import configuration
from avbench.results import RunDirectory

Record = Mapping[str, Any]
BoardKey = tuple[Hashable, ...]


def identity(reference: Mapping[str, Any]) -> str:
    """What a plugin reference means, however its user spelled it."""
    return configuration(reference)


@dataclass
class Judged:
    """A cell under one protocol, architecture and fusion.

    Attributes:
        networks: scores by network index, ``{part: value}``; empty where the cell or its evaluation failed.
    """

    cell: Record
    networks: dict[int, Mapping[str, float]] = field(default_factory=dict)


@dataclass
class Group:
    """All that one board holds.

    Attributes:
        about: what is common: dataset, protocol, architecture, fusion, precision, metric.
        judged: by cell key.
        planned_networks: the most networks that any evaluation was planned with.
        plain: parts that are numbers, not shares of one.
        secondary: parts of other metrics than the one that ranks, ``"R@5 a→v"``; those of that one are bare, ``"a"``.
        protocol: the protocol's reference, with its options.
    """

    about: dict[str, Any]
    judged: dict[str, Judged] = field(default_factory=dict)
    planned_networks: int = 0
    plain: set[str] = field(default_factory=set)
    secondary: list[str] = field(default_factory=list)
    protocol: Record = field(default_factory=dict)


def on_test(evaluation: Record) -> bool:
    """Whether an evaluation counts on boards; those on the validation split chose a value and show nothing."""
    return bool(evaluation.get("split", "test") == "test")


def collect(directories: Iterable[RunDirectory], only: set[str] | None, tried: Set[str] = frozenset()) -> list[Group]:
    """The groups of all directories; a cell or network that several of them hold counts once.

    Args:
        only: keys of the cells to keep; ``None`` keeps all.
        tried: keys of cells whose failures are not shown.
    """
    cells: dict[str, dict[str, Any]] = {}
    evaluations: dict[str, dict[str, Any]] = {}
    for directory in directories:
        for record in directory.records("distil"):
            known = cells.get(record["key"])
            if (only is None or record["key"] in only) and (known is None or known["status"] != "done"):
                cells[record["key"]] = record
        for record in filter(on_test, directory.records("evaluate")):
            known = evaluations.get(record["key"])
            if known is None or known["status"] != "done":
                evaluations[record["key"]] = record
    cells = {key: cell for key, cell in cells.items() if cell["status"] == "done" or key not in tried}
    by_set = _by_set(cells.values())
    groups: dict[BoardKey, Group] = {}
    for record in evaluations.values():
        _add(groups, record, by_set, cells, tried)
    _add_failed_cells(groups, cells.values())
    return list(groups.values())


def scope(record: Record) -> tuple[Hashable, ...]:
    """What an evaluation and a cell must have in common besides the content of the set."""
    return (record["dataset"]["fingerprint"], record["seed"], record["modality"], record["precision"])


def _by_set(cells: Iterable[Record]) -> dict[tuple[Hashable, ...], list[Record]]:
    """Done cells by the content of their set. Two variants may give the very same set: a score is then both's."""
    found: dict[tuple[Hashable, ...], list[Record]] = {}
    for cell in cells:
        if cell["status"] == "done":
            found.setdefault((cell["result"]["content_hash"], *scope(cell)), []).append(cell)
    return found


def _add(
    groups: dict[BoardKey, Group],
    record: Record,
    by_set: Mapping[tuple[Hashable, ...], list[Record]],
    cells: Mapping[str, Record],
    tried: Set[str],
) -> None:
    done = record["status"] == "done"
    if done:
        made = by_set.get((record["set_hash"], *scope(record)), [])
    else:
        known = record["distil_key"] in cells and record["distil_key"] not in tried
        made = [cells[record["distil_key"]]] if known else []
    if not made:
        return
    key = (
        record["dataset"]["fingerprint"],
        record["precision"],
        *(identity(record[part]) for part in ("protocol", "evaluated_architecture", "fusion")),
    )
    group = groups.setdefault(key, Group(_about(record), protocol=record["protocol"]))
    group.planned_networks = max(group.planned_networks, record["planned_networks"])
    group.about["metric"] = record["result"]["primary"] if done else group.about["metric"]
    for cell in made:
        judged = group.judged.setdefault(cell["key"], Judged(cell))
        for network in record["result"]["networks"] if done else ():
            judged.networks[network["index"]] = _parts(group, record["result"], network)


def _parts(group: Group, result: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, float]:
    """All scores of a network in one level; notes in the group what each is."""
    found: dict[str, float] = {}
    for metric in result.get("metrics", [{"name": result["primary"], "share": True}]):
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


def _add_failed_cells(groups: Mapping[BoardKey, Group], cells: Iterable[Record]) -> None:
    """A cell that failed was judged nowhere: it is shown on the boards of its preset's other cells."""
    for cell in cells:
        if cell["status"] == "done":
            continue
        for group in groups.values():
            same_data = group.about["fingerprint"] == cell["dataset"]["fingerprint"]
            same_kind = any(
                j.cell["preset"] == cell["preset"] and j.cell["precision"] == cell["precision"]
                for j in group.judged.values()
            )
            if same_data and same_kind:
                group.judged.setdefault(cell["key"], Judged(cell))
