"""Names that tell apart what was spelled alike: rows of one board, and boards of one dataset."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from avbench.errors import RequestError
from avbench.grammar import Variant, canonical, parse_variants

Reference = Mapping[str, Any]


def tell_apart(frame: pd.DataFrame) -> None:
    """Give the rows of a board names that differ wherever their configurations do.

    Args:
        frame: with the columns of :func:`avbench.report.rows.named_row`; ``method`` and ``distilled_with`` change.
    """
    _tell_versions_apart(frame)
    _tell_distillers_apart(frame)
    _tell_methods_apart(frame)


def told_apart(ways: Sequence[tuple[Hashable, Sequence[Reference]]]) -> list[tuple[str, ...]]:
    """The labels of each protocol, architecture and fusion; of those on one dataset that share one, with differences.

    Args:
        ways: (the dataset, the references) by board.
    """
    found = []
    for dataset, own in ways:
        beside = [references for where, references in ways if where == dataset]
        at = next(index for index, references in enumerate(beside) if references is own)
        found.append(tuple(distinct([each[place] for each in beside])[at] for place in range(len(own))))
    return found


def distinct(references: Sequence[Reference]) -> list[str]:
    """The labels of plugins; one that several share says in which options, version or distribution these differ."""
    found = []
    for own in references:
        alike = [each for each in references if each["label"] == own["label"]]
        label = _spelled(own["label"], own["options"], [each["options"] for each in alike])
        if len({each["version"] for each in alike}) > 1:
            label += f" v{own['version']}"
        if len({each["distribution"] for each in alike}) > 1:
            label += f" of {own['distribution']}"
        found.append(label)
    return found


def _tell_versions_apart(frame: pd.DataFrame) -> None:
    """Rows of one method in several versions, or from several distributions, say which."""
    for _, group in frame.groupby("method"):
        if group["version"].nunique() > 1:
            frame.loc[group.index, "method"] += " v" + group["version"].astype(str)
        if group["distribution"].nunique() > 1:
            frame.loc[group.index, "method"] += " of " + group["distribution"]


def _tell_methods_apart(frame: pd.DataFrame) -> None:
    """Rows with one spelling but several configurations get the options in which they differ into their name."""
    for _, group in frame.groupby(["method", "ipc", "modality", "distilled_with"]):
        options = list(group["options"])
        for index, own in zip(group.index, options, strict=True):
            frame.loc[index, "method"] = _spelled(str(frame.loc[index, "method"]), own, options)


def _tell_distillers_apart(frame: pd.DataFrame) -> None:
    """The same for the networks that distil, over the whole board."""
    for _, group in frame.groupby("distilled_with"):
        options = [reference["options"] for reference in group["distiller"]]
        for index, own in zip(group.index, options, strict=True):
            frame.loc[index, "distilled_with"] = _spelled(str(frame.loc[index, "distilled_with"]), own, options)


def _spelled(label: str, own: Mapping[str, Any], options: Sequence[Mapping[str, Any]]) -> str:
    """A label with those options in which several configurations of that label differ."""
    names = {name for each in options for name in each}
    differing = {name for name in names if len({str(each.get(name)) for each in options}) > 1}
    if not differing:
        return label
    variant = _variant(label)
    more = {name: str(own[name]) for name in sorted(differing) if name in own}
    return canonical(variant.name, {**variant.given, **more}).label


def _variant(label: str) -> Variant:
    try:
        (variant,) = parse_variants(label, "record")
    except (RequestError, ValueError):  # a set from elsewhere is called as its user likes
        return Variant(label)
    return variant
