"""How far each record was verified, as ``verification.json`` tells it and boards show it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.data.clips import sha256_of
from avbench.environment import environment
from avbench.errors import RequestError
from avbench.results import write_atomically
from avbench.verification.agreement import Verdict
from avbench.verification.files import VERIFICATION, read_json
from avbench.verification.integrity import Results

FORMAT = 1
FAILED, RECORDS, INTEGRITY, REEVALUATED = "failed", "records only", "integrity", "re-evaluated"
#: From the least to the most.
TIERS = (FAILED, RECORDS, INTEGRITY, REEVALUATED)


def tiers(directory: Path) -> Mapping[str, str]:
    """The tier of every finished distil and evaluate record, by key, as ``verification.json`` of a folder says.

    A tier is of certain bytes: a record that was changed since has none. Empty where nothing was verified.

    Raises:
        RequestError: ``verification.json`` can't be read.
    """
    return {key: str(entry["tier"]) for key, entry in _entries(directory).items()}


def _entries(directory: Path) -> dict[str, dict[str, Any]]:
    """The entries that still hold."""
    path = directory / VERIFICATION
    if not path.exists():
        return {}
    try:
        written = read_json(path)
        if written["format"] != FORMAT:
            raise ValueError(f"format {written['format']!r}, expected {FORMAT}")
        entries = {
            key: entry
            for key, entry in written["records"].items()
            if entry["tier"] in TIERS and entry["kind"] in ("distil", "evaluate") and key.isalnum()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"{path} can't be read ({error}): write it again with avbench verify --write.") from None
    return {key: entry for key, entry in entries.items() if _unchanged(directory, key, entry)}


def _unchanged(directory: Path, key: str, entry: Mapping[str, Any]) -> bool:
    record = directory / entry["kind"] / key / "record.json"
    return record.is_file() and not record.is_symlink() and sha256_of(record) == entry.get("sha256")


def lowest(of_row: Iterable[str]) -> str:
    """The tier of a row: the lowest of its records'; :data:`FAILED` where one has none."""
    return min(of_row, key=TIERS.index, default=FAILED)


def write_verification(results: Results, verdicts: Sequence[Verdict]) -> Path:
    """Write how far each record of a folder was verified just now; what was re-evaluated before and still holds stays.

    Raises:
        RequestError: the folder can't be written, or an earlier file can't be read.
    """
    before = _entries(results.root)
    repeated = {verdict.key: verdict for verdict in verdicts}
    entries: dict[str, dict[str, Any]] = {}
    for kind in ("distil", "evaluate"):
        for key, record in results.records[kind].items():
            if record["status"] == "done":
                entries[key] = _entry(results, kind, key, repeated.get(key), before.get(key))
    about = {name: value for name, value in environment().items() if name != "host"}
    written = {
        "format": FORMAT,
        "avbench": __version__,
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "environment": about,
        "records": entries,
    }
    path = results.root / VERIFICATION
    try:
        write_atomically(path, json.dumps(written, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise RequestError(f"{path} can't be written ({error.strerror}).") from None
    return path


def _entry(
    results: Results, kind: str, key: str, verdict: Verdict | None, before: Mapping[str, Any] | None
) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "kind": kind,
        "tier": tier(results, kind, key),
        "sha256": sha256_of(results.path(kind, key)),
    }
    if entry["tier"] == FAILED:
        return entry
    if verdict is not None:
        return entry | {"tier": REEVALUATED, "agreement": verdict.verdict, "networks": verdict.networks}
    if before is not None and before["tier"] == REEVALUATED:
        return dict(before)
    return entry


def tier(results: Results, kind: str, key: str) -> str:
    """The tier of a record as its integrity was found."""
    record = results.records[kind][key]
    made = key if kind == "distil" else record["distil_key"]
    if {key, made} & results.findings.suspects:
        return FAILED
    return RECORDS if made in results.findings.absent else INTEGRITY
