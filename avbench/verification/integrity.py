"""Integrity: is what lies in a folder of results whole, and does each part agree with the others?

Nothing is believed that can be computed: keys from the facts, content hashes from the tensors, sizes from the dataset's
description. A number that was forged together with all that follows from it passes; re-evaluation is for those.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avbench.data.store import StoreInfo
from avbench.errors import RequestError
from avbench.verification import rebuild
from avbench.verification.artefacts import check_artefacts
from avbench.verification.completeness import check_completeness
from avbench.verification.files import ABOUT, check_checksums, check_files, is_submission, read_json
from avbench.verification.findings import Findings
from avbench.verification.schema import KINDS, malformed

Record = Mapping[str, Any]


@dataclass
class Results:
    """The well-formed records of a folder, by kind and the name of their folder."""

    root: Path
    findings: Findings = field(default_factory=Findings)
    records: dict[str, dict[str, Record]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    infos: dict[str, StoreInfo] = field(default_factory=dict)

    @property
    def distil(self) -> dict[str, Record]:
        return self.records["distil"]

    @property
    def evaluate(self) -> dict[str, Record]:
        return self.records["evaluate"]

    def path(self, kind: str, key: str) -> Path:
        return self.root / kind / key / "record.json"

    def sound(self, key: str) -> bool:
        """Whether no problem concerns an evaluation, nor the set that it judged."""
        made = self.evaluate[key]["distil_key"]
        return not {key, made} & self.findings.suspects


def check_integrity(root: Path) -> Results:
    """Check all that lies in a run directory or a submission, without data.

    Raises:
        RequestError: there is no such folder, or it holds no records.
    """
    if not root.is_dir():
        raise RequestError(f"{root}: there is no such folder: give a run directory or a submission.")
    results = Results(root)
    check_files(root, results.findings)
    if is_submission(root):
        check_checksums(root, results.findings)
        _check_about(results)
    _read(results)
    if not any(results.records.values()) and not results.findings.problems:
        raise RequestError(f"{root} holds no records: give the folder of avbench run --out, or a submission.")
    for kind in KINDS:
        _check_keys(results, kind)
        _check_labels(results, kind)
    check_artefacts(results)
    for key, record in results.evaluate.items():
        _check_reference(results, key, record)
        if record["status"] == "done":
            _check_scores(results, key, record)
    for key, record in results.records["tuning"].items():
        _check_choice(results, key, record)
    check_completeness(results)
    _note_times(results)
    return results


def _check_about(results: Results) -> None:
    try:
        about = read_json(results.root / ABOUT)
        whole = isinstance(about, dict) and about.get("format") == 1 and isinstance(about.get("name"), str)
        results.findings.hold("schema", whole, ABOUT, "is no description of a submission in format 1")
    except ValueError as error:
        results.findings.see("schema")
        results.findings.fail("schema", ABOUT, f"can't be read: {error}")


def _read(results: Results) -> None:
    for kind in KINDS:
        for path in sorted((results.root / kind).glob("*/record.json")):
            key, where = path.parent.name, path.relative_to(results.root).as_posix()
            try:
                record = read_json(path)
                problem = malformed(record, kind)
            except ValueError as error:
                problem = f"can't be read: {error}"
            if results.findings.hold("schema", not problem, where, problem, [key]):
                results.records[kind][key] = record


# --- keys ---------------------------------------------------------------------------------------------------------


def _check_keys(results: Results, kind: str) -> None:
    compute: Mapping[str, Callable[[Record], str]] = {
        "distil": rebuild.distil_key,
        "evaluate": lambda record: rebuild.evaluate_key(record, results.distil.get(record["distil_key"])),
        "prerequisite": lambda record: rebuild.needed_key(record) if "identity" in record else "",
        "tuning": rebuild.tuning_key,
    }
    for key, record in results.records[kind].items():
        where = f"{kind}/{key}/record.json"
        named = results.findings.hold(
            "keys",
            record["key"] == key,
            where,
            f"says that its key is {record['key'][:40]!r}, its folder {key!r}",
            [key],
        )
        try:
            computed = compute[kind](record)
        except (KeyError, TypeError, ValueError) as error:
            results.findings.fail("keys", where, f"its facts give no key: {error!r}", [key])
            continue
        if not named or computed in ("", key):
            continue
        if kind == "prerequisite":  # no number of a board is in one
            results.findings.notes.append(f"{where}: its facts give the key {computed}.")
        else:
            results.findings.fail("keys", where, f"its facts give the key {computed}: one of them was changed", [key])


def _check_labels(results: Results, kind: str) -> None:
    """What a board calls a plugin is its name with options: the name is keyed, the label is not."""
    parts = ("method", "architecture", "protocol", "evaluated_architecture", "fusion")
    for key, record in results.records[kind].items() if kind in ("distil", "evaluate") else ():
        for part in parts:
            if part in record:
                name, label = record[part]["name"], record[part]["label"]
                text = f"its {part} is labelled {label[:80]!r} and is {name[:80]!r}"
                # A set that was brought from elsewhere is named as it is labelled, which may hold a bracket.
                true = name in (label, label.partition("[")[0])
                results.findings.hold("keys", true, f"{kind}/{key}/record.json", text, [key])


def _check_reference(results: Results, key: str, record: Record) -> None:
    """An evaluation must be of a set that is recorded here, by the cell that it names."""
    where, findings = f"evaluate/{key}/record.json", results.findings
    made = results.distil.get(record["distil_key"])
    if not findings.hold("references", made is not None, where, f"no distil record {record['distil_key'][:40]}", [key]):
        return
    assert made is not None
    computed = rebuild.evaluation(record, made, 1).cell.key
    findings.hold(
        "references",
        computed == record["distil_key"],
        where,
        f"its method, IPC, seed or another fact is that of cell {computed}, not of {record['distil_key']}",
        [key],
    )
    findings.hold("references", record["role"] == made["role"], where, f"its role is no longer {made['role']!r}", [key])
    names = [each["dataset"]["name"] for each in (record, made)]
    text = f"it names dataset {names[0][:80]!r}, the cell {names[1][:80]!r}"
    findings.hold("references", names[0] == names[1], where, text, [key])
    if record["status"] == "done":
        hashes = [made["result"]["content_hash"], *made["result"]["snapshots"].values()] if "result" in made else []
        text = f"it judged content {record['set_hash'][:12]}, cell {record['distil_key']} made another"
        findings.hold("references", record["set_hash"] in hashes, where, text, [key])


# --- numbers ------------------------------------------------------------------------------------------------------


def _check_scores(results: Results, key: str, record: Record) -> None:
    where, findings, result = f"evaluate/{key}/record.json", results.findings, record["result"]
    indices = [network["index"] for network in result["networks"]]
    planned = record["planned_networks"]  # any number: it is not counted out
    whole = len(indices) == planned and indices == list(range(len(indices)))
    findings.hold("scores", whole, where, f"it holds networks {indices}, planned were 0 to {planned - 1}", [key])
    metrics = {metric["name"]: metric["share"] for metric in result["metrics"]}
    findings.hold("scores", result["primary"] in metrics, where, f"no metric {result['primary']!r}", [key])
    spoken = {metric: {frozenset(n[metric]) for n in result["networks"] if _scored(n, metric)} for metric in metrics}
    uneven = [metric for metric, parts in spoken.items() if len(parts) != 1]
    findings.hold("scores", not uneven, where, f"networks differ in what is scored by {', '.join(uneven)}", [key])
    of_test = _test_samples(results, record)
    for network in result["networks"]:
        for metric, share in metrics.items():
            for part, value, problem in _values(network, metric, share, of_test if metric == "accuracy" else None):
                text = f"network {network['index']}: {metric} {part} is {value!r}, {problem}"
                findings.hold("scores", not problem, where, text, [key])


def _scored(network: Mapping[str, Any], metric: str) -> bool:
    return isinstance(network.get(metric), dict) and bool(network[metric])


def _test_samples(results: Results, record: Record) -> int | None:
    """Samples of the split judged on, where they are known and the protocol is our own: it counts right answers."""
    info = results.infos.get(record["dataset"]["fingerprint"])
    if info is None or record["protocol"]["distribution"] != "avbench":
        return None
    return info.size(record.get("split", "test"))


def _values(
    network: Mapping[str, Any], metric: str, share: bool, samples: int | None
) -> Iterator[tuple[str, Any, str]]:
    """(part, value, what is wrong with it or "") of all scores of a network by one metric."""
    if not _scored(network, metric):
        yield "–", network.get(metric), "expected scores by modality"
        return
    for part, value in network[metric].items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number:
            yield part, value, "expected a finite number"
        elif share and not 0 <= value <= 1:
            yield part, value, "expected a share from 0 to 1"
        elif share and samples and abs(value * samples - round(value * samples)) > 1e-6:
            yield part, value, f"no number of {samples} samples gives that share"
        else:
            yield part, value, "" if share or value >= 0 else "expected at least 0"


def _check_choice(results: Results, key: str, record: Record) -> None:
    """The value chosen on the validation split is the best of those listed, with its own cells."""
    where = f"tuning/{key}/record.json"
    scored = [value for value in record["values"] if isinstance(value.get("mean"), float)]
    best = max(scored, key=lambda value: value["mean"], default=None)
    agreed = best is not None and (best["value"], best["cells"]) == (record["chosen"], record["chosen_cells"])
    results.findings.hold("scores", agreed, where, "what was chosen is not the best of what is listed", [key])


def _note_times(results: Results) -> None:
    """Times and versions prove nothing: an implausible one is worth a look and no more."""
    now = time.time()
    for kind, records in results.records.items():
        for key, record in records.items():
            try:
                finished = time.mktime(time.strptime(record["finished"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
            except (ValueError, OverflowError):
                results.findings.notes.append(f"{kind}/{key}: finished is {record['finished'][:40]!r}, no time in UTC.")
                continue
            if finished > now + 86400:
                results.findings.notes.append(f"{kind}/{key}: finished at {record['finished']}, which is to come.")
    revisions = {
        str(record["environment"].get("git"))
        for kind in ("distil", "evaluate")
        for record in results.records[kind].values()
    }
    if len(revisions) > 1:
        results.findings.notes.append(f"records were made with {len(revisions)} revisions of avbench.")
