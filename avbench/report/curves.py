"""Learning curves: what a distilled set was worth after each step whose snapshot was judged (AVDD, Fig. 10)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

import pandas as pd

from avbench.cells import configuration
from avbench.report.naming import tell_apart, told_apart
from avbench.report.rows import in_rows, named_row, one_a_seed
from avbench.report.scores import Group, Judged, Located, Record, grouped, located
from avbench.report.statistics import interval
from avbench.results import RunDirectory

_BOARD = ("dataset", "fingerprint", "protocol", "architecture", "fusion", "precision", "judged_by")
_ROW = ("method", "identity", "ipc", "modality", "distilled_with", "distiller")
_AT = ("part", "step")
_SCORE = ("mean", "std", "ci95", "seeds", "n")
#: Labels under which the method of a row was run: what ``--method`` goes by, and no column of what is shown.
SPELLINGS = "spellings"


def learning_curves(directories: Iterable[RunDirectory]) -> pd.DataFrame:
    """One row for each board, row of that board, part and step, with the mean over seeds and networks.

    Boards, their rows and what counts of several records are those of :mod:`avbench.report.scores`: each step of a
    cell takes the place of a cell there.

    Columns: dataset, fingerprint, protocol, architecture, fusion, precision, judged_by (the board in words, different
    for different boards of a dataset), method, identity (its configuration), ipc, modality, distilled_with, distiller
    (its configuration), part, step, mean, std, ci95, seeds, n, spellings. Empty where no snapshot was judged.
    """
    cells, evaluations = located(directories)
    groups = list(grouped(_steps(cells.values()), evaluations).values())
    lines = [line for group, words in zip(groups, _in_words(groups), strict=True) for line in _lines(group, words)]
    if not lines:
        return pd.DataFrame(columns=[*_BOARD, *_ROW, *_AT, *_SCORE, SPELLINGS])
    return pd.DataFrame(lines).sort_values([*_BOARD, *_ROW, *_AT], kind="stable").reset_index(drop=True)


def _steps(cells: Iterable[Located]) -> dict[str, Located]:
    """Each judged step of each cell as a cell of its own, the end included where there are others."""
    found: dict[str, Located] = {}
    for path, cell in cells:
        if cell["status"] != "done" or not cell["result"].get("snapshots"):
            continue
        result = cell["result"]
        contents = {int(step): content for step, content in result["snapshots"].items()}
        contents.setdefault(result["steps"], result["content_hash"])
        for step, content in contents.items():
            own = {"content_hash": content, "step": step, "cell": cell["key"]}
            key = f"{cell['key']} after step {step}"
            found[key] = (path, {**cell, "key": key, "result": {**result, **own}})
    return found


def _in_words(groups: Sequence[Group]) -> list[str]:
    """How each group is judged; labels that stand for several things on one dataset say in what these differ."""
    labels = told_apart([(group.key[0], group.ways) for group in groups])
    return [" · ".join([*each, group.about["precision"]]) for each, group in zip(labels, groups, strict=True)]


def _lines(group: Group, words: str) -> Iterator[dict[str, Any]]:
    """All points of all curves of one board."""
    rows = in_rows(group.judged.values())
    names = pd.DataFrame([named_row(members) for members in rows])
    tell_apart(names)
    board = {**{name: group.about[name] for name in _BOARD[:-1]}, "judged_by": words}
    for members, name in zip(rows, names.to_dict("records"), strict=True):
        cell = members[0].cell
        row = {
            "method": name["method"],
            "identity": configuration(cell["method"]),
            "ipc": cell["ipc"],
            "modality": cell["modality"],
            "distilled_with": name["distilled_with"],
            "distiller": configuration(cell["architecture"]),
        }
        for (part, step), by_seed in _points(members, group.secondary).items():
            yield {**board, **row, "part": part, "step": step, **_spread(by_seed), SPELLINGS: name[SPELLINGS]}


def _points(members: Sequence[Judged], secondary: Sequence[str]) -> dict[tuple[str, int], list[list[float]]]:
    """By part and step of the metric that ranks, the scores of each seed's networks.

    Of several cells of a seed the one that counts gives the whole curve, so that no curve joins steps of two.
    """
    scored = [each for each in members if each.networks]
    counts = {_made(each.cell) for each in one_a_seed(scored)}
    kept = sorted((each for each in scored if _made(each.cell) in counts), key=lambda each: int(each.cell["seed"]))
    found: dict[tuple[str, int], list[list[float]]] = {}
    for each in kept:
        for part in dict.fromkeys(name for network in each.networks.values() for name in network):
            if part not in secondary:
                values = [network[part] for network in each.networks.values() if part in network]
                found.setdefault((part, each.cell["result"]["step"]), []).append(values)
    return found


def _made(step: Record) -> str:
    """The key of the cell that a step is of."""
    return str(step["result"]["cell"])


def _spread(by_seed: Sequence[Sequence[float]]) -> dict[str, Any]:
    values = pd.Series([value for of_seed in by_seed for value in of_seed], dtype="float64")
    return {
        "mean": values.mean(),
        "std": values.std(ddof=0),
        "ci95": interval([fmean(of_seed) for of_seed in by_seed]).half,
        "seeds": len(by_seed),
        "n": len(values),
    }
