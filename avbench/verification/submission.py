"""Submissions: what is published of a run, in a folder or an archive that stands for itself.

Records, artefacts and checksums go in. Jobs, claims, checkpoints, logs and the weights of prerequisites and of given
networks stay behind. Records are cleaned of the host's name and of where on the submitter's disk things lay; nothing
that a key depends on is touched.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.data.clips import sha256_of
from avbench.errors import RequestError
from avbench.names import is_device
from avbench.verification.files import ABOUT, CHECKSUMS, TENSORS, read_json, walk
from avbench.verification.integrity import Results
from avbench.verification.schema import KINDS

FORMAT = 1
#: An absolute path in a text: of POSIX, of a home folder, or of Windows.
_PATH = re.compile(
    r"(?<![\w./~])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\'\",;:=]+[/\\])+([^\s/\\'\",;:=]*)|(?<![\w./~])/[^\s/'\",;:=]+"
)
_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
#: Fields of a record that say where things lay, and on which nothing depends.
_LOCAL = ("argv", "error", "adopted")


@dataclass(frozen=True)
class Submission:
    """What is said of a submission, and which artefacts it holds.

    Attributes:
        contact: published; "" for none.
        artefacts_url: where artefacts lie that are too large to be in it; "" for nowhere.
        largest_bytes: tensors of more bytes are listed with their checksum and left out; ``None``: all go in.
    """

    name: str
    contact: str = ""
    artefacts_url: str = ""
    largest_bytes: float | None = None

    def check(self) -> None:
        """Refuse what can't be published.

        Raises:
            RequestError: says what was given and what is expected.
        """
        if not re.fullmatch(_NAME, self.name):
            raise RequestError(f"--name {self.name!r}: up to 64 small letters, digits, '-', '_' and '.' name a folder.")
        if is_device(self.name):
            raise RequestError(f"--name {self.name!r}: on Windows this is a device, no folder; choose another name.")
        if self.artefacts_url and not re.fullmatch(r"https://[^\s<>\"]+", self.artefacts_url):
            raise RequestError(f"--artefacts-url {self.artefacts_url!r}: expected an address beginning with https://.")
        if len(self.contact) > 200 or not self.contact.isprintable():
            raise RequestError("--contact: expected a line of at most 200 characters.")


def make_submission(results: Results, about: Submission, out: Path) -> dict[str, Any]:
    """Write a submission of results that passed integrity into a new folder; returns its description.

    Raises:
        RequestError: the results have problems, or the folder exists or can't be written.
    """
    about.check()
    problems = results.findings.problems
    if problems:
        first = problems[0]
        raise RequestError(
            f"{results.root} fails {len(problems)} checks, the first: {first.where}: {first.text}. "
            "Look at avbench verify, run what is missing, then submit."
        )
    if out.exists():
        raise RequestError(f"--output {out} exists: give a new folder.")
    try:
        out.mkdir(parents=True)
        left_out = dict(_fill(results, about, out))
        described = _describe(results, about, out, left_out)
        (out / ABOUT).write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        sums = {path.relative_to(out).as_posix(): sha256_of(path) for path in walk(out)} | left_out
        lines = "".join(f"{sums[name]}  {name}\n" for name in sorted(sums))
        (out / CHECKSUMS).write_text(lines, encoding="utf-8")
    except OSError as error:
        raise RequestError(f"--output {out}: can't be written ({error.strerror}); choose another folder.") from None
    return described


def _fill(results: Results, about: Submission, out: Path) -> Iterator[tuple[str, str]]:
    """Write records and artefacts; yields name and checksum of the tensors that are left out."""
    for kind in KINDS:
        for key, record in results.records[kind].items():
            target = out / kind / key
            target.mkdir(parents=True)
            text = json.dumps(cleaned(record), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            (target / "record.json").write_text(text, encoding="utf-8")
    for key, record in results.distil.items():
        if record["status"] == "done":
            yield from _artefact(results.root / "distil" / key, out / "distil" / key, about, out)
            for step in record["result"]["snapshots"]:
                at = Path("distil") / key / "snapshots" / step
                yield from _artefact(results.root / at, out / at, about, out)


def _artefact(source: Path, target: Path, about: Submission, out: Path) -> Iterator[tuple[str, str]]:
    target.mkdir(parents=True, exist_ok=True)
    described = read_json(source / "distilled.json")
    info = described["dataset_info"]
    local = {name: _without_paths(info[name]) for name in ("sources", "options", "notes") if name in info}
    described |= {"dataset_info": info | local, "notes": _without_paths(described["notes"])}
    text = json.dumps(described, indent=2) + "\n"
    (target / "distilled.json").write_text(text, encoding="utf-8")
    curve, tensors = source / "curve.jsonl", source / TENSORS
    if curve.is_file():
        _copy(curve, target / curve.name)
    if not tensors.is_file():  # a submission made from one that holds not all of its artefacts
        raise RequestError(f"{tensors} is not here: submit from a folder that holds all artefacts.")
    if about.largest_bytes is not None and tensors.stat().st_size > about.largest_bytes:
        yield (target / TENSORS).relative_to(out).as_posix(), sha256_of(tensors)
    else:
        _copy(tensors, target / TENSORS)


def _copy(source: Path, target: Path) -> None:
    """The bytes without the permissions, which might be anything."""
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _describe(results: Results, about: Submission, out: Path, left_out: Mapping[str, str]) -> dict[str, Any]:
    made, judged = results.distil.values(), results.evaluate.values()
    return {
        "format": FORMAT,
        "name": about.name,
        "contact": about.contact,
        "artefacts_url": about.artefacts_url,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "avbench": __version__,
        "datasets": {
            fingerprint: {"name": info.name, "licence": info.licence} for fingerprint, info in results.infos.items()
        },
        "methods": sorted({record["method"]["label"] for record in made}),
        "cells": len(results.distil),
        "evaluations": len(results.evaluate),
        "failed": sum(record["status"] == "failed" for record in [*made, *judged]),
        "artefacts_left_out": len(left_out),
    }


# --- cleaning -----------------------------------------------------------------------------------------------------


def cleaned(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record without the host's name, and with every absolute path in its local fields cut to its last part."""
    found = dict(record)
    for name in _LOCAL:
        if name in found:
            found[name] = _without_paths(found[name])
    if "environment" in found:
        found["environment"] = {k: v for k, v in found["environment"].items() if k != "host"}
    return found


def _without_paths(value: Any) -> Any:
    if isinstance(value, str):
        return _PATH.sub(lambda match: "…/" + re.split(r"[/\\]", match[0].rstrip("/\\"))[-1], value)
    if isinstance(value, list):
        return [_without_paths(each) for each in value]
    if isinstance(value, dict):
        return {name: _without_paths(each) for name, each in value.items()}
    return value


def remaining_paths(results: Results) -> list[str]:
    """Options that hold an absolute path: they are part of keys, so they are published as they are."""
    found = set()
    for kind in ("distil", "evaluate"):
        for record in results.records[kind].values():
            for part in ("method", "architecture", "protocol", "evaluated_architecture", "fusion"):
                for name, value in record.get(part, {}).get("options", {}).items():
                    if isinstance(value, str) and _PATH.search(value):
                        found.add(f"{record[part]['name']}.{name}={value}")
    return sorted(found)
