"""What was planned against what is there: a row must not look better because a seed or a score was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from avbench.report.scores import scope
from avbench.verification import rebuild

if TYPE_CHECKING:
    from avbench.verification.integrity import Results

Record = Mapping[str, Any]
#: So many missing seeds are named; a record may claim to have planned any number of them.
_NAMED = 20


def check_completeness(results: Results) -> None:
    """Every configuration has all its seeds, and every cell is judged in all ways in which its row is.

    What failed counts as there: a board shows it, and it has no rank. What is missing makes no other record suspect.
    """
    rows: dict[Hashable, list[str]] = defaultdict(list)
    for key, record in results.distil.items():
        rows[rebuild.configuration(record)].append(key)
    judged = _ways(results)
    for keys in rows.values():
        _check_seeds(results, keys)
        _check_judged(results, keys, judged)
    _note_prerequisites(results)


def _check_seeds(results: Results, keys: list[str]) -> None:
    """Runs number seeds from 0, so none can be picked; of sets brought from elsewhere only the number is known."""
    records = [results.distil[key] for key in keys]
    planned, first = max(record["planned_seeds"] for record in records), records[0]
    seeds = {record["seed"] for record in records}
    label = f"{first['method']['label']} at ipc {first['ipc']} on {first['dataset']['name']}"
    if any("adopted" in record for record in records):
        text = f"{label}: {len(seeds)} of {planned} planned seeds"
        results.findings.hold("completeness", len(seeds) >= planned, f"distil/{keys[0]}", text)
        return
    lacking = planned - sum(0 <= seed < planned for seed in seeds)
    missing = list(islice((seed for seed in count() if seed not in seeds), min(lacking, _NAMED)))
    more = f" and {lacking - len(missing)} more" if lacking > len(missing) else ""
    text = f"{label}: seeds {missing}{more} of {planned} planned are missing"
    results.findings.hold("completeness", not missing, f"distil/{keys[0]}", text)


def _ways(results: Results) -> dict[str, set[Hashable]]:
    """How each cell's set is judged: cells of equal content share their evaluations, as on boards."""
    by_content: dict[Hashable, list[str]] = defaultdict(list)
    for key, record in results.distil.items():
        if record["status"] == "done":
            by_content[record["result"]["content_hash"], *scope(record)].append(key)
    found: dict[str, set[Hashable]] = defaultdict(set)
    for record in results.evaluate.values():
        keys = [record["distil_key"]]
        if record["status"] == "done":
            keys = by_content.get((record["set_hash"], *scope(record)), [])
        for key in keys:
            found[key].add(rebuild.way(record))
    return found


def _check_judged(results: Results, keys: list[str], judged: Mapping[str, set[Hashable]]) -> None:
    ways: set[Hashable] = set().union(*(judged.get(key, set()) for key in keys))
    for key in keys:
        record = results.distil[key]
        if record["status"] != "done":
            continue
        lacking = len(ways - judged.get(key, set()))
        text = (
            "its set was judged nowhere" if not ways else f"{lacking} of its row's {len(ways)} evaluations are missing"
        )
        results.findings.hold("completeness", bool(ways) and not lacking, f"distil/{key}", text)


def _note_prerequisites(results: Results) -> None:
    known = results.records["prerequisite"]
    wanted = {key for record in results.distil.values() for key in record["prerequisites"].values()}
    missing = [key for key in wanted if key not in known]
    if missing:
        results.findings.notes.append(f"{len(missing)} of {len(wanted)} prerequisites have no record here.")
