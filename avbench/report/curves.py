"""Learning curves: what a distilled set was worth after each step whose snapshot was judged (AVDD, Fig. 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import fmean
from typing import Any

import pandas as pd

from avbench.cells import configuration
from avbench.report.scores import Record, on_test, scope
from avbench.report.statistics import interval
from avbench.results import RunDirectory


def learning_curves(directories: Iterable[RunDirectory]) -> pd.DataFrame:
    """One row for each board, method, IPC, part and step, with the mean over seeds and networks.

    Columns: dataset, fingerprint, protocol, architecture, fusion, method, ipc, modality, part, step, mean, std, ci95,
    seeds, n. Empty where no snapshot was judged.
    """
    judged: dict[tuple[Any, ...], list[Record]] = {}
    for record in _unique(directories, "evaluate"):
        if record["status"] == "done" and on_test(record):
            judged.setdefault((record["set_hash"], *scope(record)), []).append(record)
    found: dict[tuple[Any, ...], dict[int, list[float]]] = {}
    for cell in _unique(directories, "distil"):
        for step, content in _steps(cell):
            for record in judged.get((content, *scope(cell)), ()):
                for part, values in _scores(record).items():
                    key = (*_board(record), *_named(cell), part, step)
                    found.setdefault(key, {}).setdefault(cell["seed"], []).extend(values)
    return _frame(found)


def _unique(directories: Iterable[RunDirectory], kind: str) -> Iterator[Record]:
    seen = set[str]()
    for directory in directories:
        for record in directory.records(kind):
            if record["key"] not in seen:
                seen.add(record["key"])
                yield record


def _board(record: Record) -> tuple[Any, ...]:
    data = record["dataset"]
    parts = ("protocol", "evaluated_architecture", "fusion")
    return (data["name"], data["fingerprint"], *(record[part]["label"] for part in parts))


def _scores(record: Record) -> dict[str, list[float]]:
    """The primary scores of all networks, by part."""
    found: dict[str, list[float]] = {}
    for network in record["result"]["networks"]:
        for part, value in network[record["result"]["primary"]].items():
            found.setdefault(part, []).append(value)
    return found


def _steps(cell: Record) -> Iterator[tuple[int, str]]:
    """The judged steps of a cell, its end included where there are others."""
    if cell["status"] != "done" or not cell["result"].get("snapshots"):
        return
    result = cell["result"]
    yield from ((int(step), content) for step, content in result["snapshots"].items())
    if str(result["steps"]) not in result["snapshots"]:
        yield result["steps"], result["content_hash"]


def _named(cell: Record) -> tuple[Any, ...]:
    return (cell["method"]["label"], configuration(cell["method"]), cell["ipc"], cell["modality"])


def _frame(found: dict[tuple[Any, ...], dict[int, list[float]]]) -> pd.DataFrame:
    names = ["dataset", "fingerprint", "protocol", "architecture", "fusion"]
    names += ["method", "identity", "ipc", "modality", "part", "step"]
    rows = []
    for key, by_seed in found.items():
        values = pd.Series([value for of_seed in by_seed.values() for value in of_seed], dtype="float64")
        spread = {
            "mean": values.mean(),
            "std": values.std(ddof=0),
            "ci95": interval([fmean(of_seed) for of_seed in by_seed.values()]).half,
            "seeds": len(by_seed),
            "n": len(values),
        }
        rows.append({**dict(zip(names, key, strict=True)), **spread})
    if not rows:
        return pd.DataFrame(columns=[*names, "mean", "std", "ci95", "seeds", "n"])
    return pd.DataFrame(rows).sort_values(names, kind="stable").reset_index(drop=True)
