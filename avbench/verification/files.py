"""Which files a folder of results may hold: nothing executable, no links, no pickles, nothing of an unknown name."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avbench.data.clips import sha256_of
from avbench.errors import RequestError
from avbench.verification.findings import Findings

ABOUT, CHECKSUMS, VERIFICATION = "submission.json", "SHA256SUMS", "verification.json"
TENSORS = "distilled.safetensors"
_JSON_BYTES, _TEXT_BYTES, _TENSOR_BYTES = 1 << 22, 1 << 26, 1 << 34
_KEY = r"[0-9a-f]{20}"
_SET = rf"distil/{_KEY}(/snapshots/\d{{1,9}})?"
#: What a run that cuts cells by class leaves where it did not come to putting them together.
_SHARD = rf"shard/{_KEY}-\d{{1,9}}-\d{{1,9}}"
#: What both a run directory and a submission may hold, with the most bytes that each may have.
_RESULTS = {
    rf"(distil|evaluate|prerequisite|tuning)/{_KEY}/record\.json": _JSON_BYTES,
    rf"{_SET}/distilled\.json": _JSON_BYTES,
    rf"{_SET}/distilled\.safetensors": _TENSOR_BYTES,
    rf"distil/{_KEY}/curve\.jsonl": _TEXT_BYTES,
    r"verification\.json": _TEXT_BYTES,
}
_SUBMITTED = {r"submission\.json": _JSON_BYTES, r"SHA256SUMS": _TEXT_BYTES}
#: What a run keeps for itself.
_OF_A_RUN = {
    rf"prerequisite/{_KEY}/tensors\.safetensors": _TENSOR_BYTES,
    rf"(distil|evaluate|prerequisite)/{_KEY}/checkpoint\.safetensors": _TENSOR_BYTES,
    rf"{_SHARD}/(record\.json|curve\.jsonl|checkpoint\.safetensors)": _TENSOR_BYTES,
    rf"{_SHARD}/(snapshots/\d{{1,9}}/)?distilled\.(json|safetensors)": _TENSOR_BYTES,
    r"weights/[^/]+\.(json|safetensors)": _TENSOR_BYTES,
    # What a kill leaves half-written.
    rf"(evaluate|prerequisite|tuning)/{_KEY}/\.[^/]+": _TENSOR_BYTES,
    rf"({_SET}|{_SHARD}(/snapshots/\d{{1,9}})?)/\.[^/]+": _TENSOR_BYTES,
    r"weights/\.[^/]+": _TENSOR_BYTES,
    r"(jobs|claims|hooks)/.*": _TENSOR_BYTES,
    r"runs?\.json|\.[^/]+": _TEXT_BYTES,
}


def is_submission(root: Path) -> bool:
    """Whether a folder was made by ``avbench submit``; otherwise it counts as a run directory."""
    return (root / ABOUT).exists() or (root / CHECKSUMS).exists()


def check_files(root: Path, findings: Findings) -> None:
    """Hold every file to the names, kinds, modes and sizes that results have."""
    submitted = is_submission(root)
    allowed = _RESULTS | (_SUBMITTED if submitted else _OF_A_RUN)
    for path in walk(root):
        name = path.relative_to(root).as_posix()
        findings.see("files")
        problem = _problem(path, name, allowed, strict=submitted)
        if problem:
            findings.fail("files", name, problem, re.findall(_KEY, name)[:1])


def _problem(path: Path, name: str, allowed: dict[str, int], strict: bool) -> str:
    """What is wrong with a file, or ""."""
    found = path.lstat()
    if stat.S_ISLNK(found.st_mode):
        return "is a link; only plain files are accepted"
    if not stat.S_ISREG(found.st_mode):
        return "is no plain file"
    limit_bytes = next((limit for pattern, limit in allowed.items() if re.fullmatch(pattern, name)), None)
    if limit_bytes is None:
        return "is none of the files that results consist of; remove it"
    if found.st_size > limit_bytes:
        return f"has {found.st_size} bytes, at most {limit_bytes} are accepted"
    if strict and found.st_mode & 0o111:
        return "is executable; take that permission away"
    return ""


def walk(root: Path) -> Iterator[Path]:
    """All files below a folder, links included and never followed, in the order of their names."""
    for folder, inner, files in os.walk(root, followlinks=False):
        inner.sort()
        links = [name for name in inner if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            yield Path(folder) / name


# --- checksums ----------------------------------------------------------------------------------------------------


def read_checksums(root: Path) -> dict[str, str]:
    """SHA-256 by name from ``SHA256SUMS``, in the layout of ``sha256sum``.

    Raises:
        RequestError: the list can't be read, or a line is none of its layout or names a file that no results have.
    """
    try:
        lines = (root / CHECKSUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise RequestError(f"{root / CHECKSUMS} can't be read ({error}): make the submission again.") from None
    found: dict[str, str] = {}
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  (\S+)", line)
        if not match or match[2] in found or not any(re.fullmatch(p, match[2]) for p in {**_RESULTS, **_SUBMITTED}):
            raise RequestError(f"{root / CHECKSUMS}: {line[:200]!r} is no checksum of a file of a submission.")
        found[match[2]] = match[1]
    return found


def check_checksums(root: Path, findings: Findings) -> None:
    """Compare a submission's files with its list; tensors alone may lie elsewhere."""
    try:
        listed = read_checksums(root)
    except RequestError as error:
        findings.see("checksums")
        findings.fail("checksums", CHECKSUMS, str(error))
        return
    for name, expected in listed.items():
        path, keys = root / name, re.findall(_KEY, name)[:1]
        if not path.is_symlink() and path.is_file():
            findings.hold(
                "checksums", sha256_of(path) == expected, name, "its bytes are not those it was made with", keys
            )
        elif not name.endswith(f"/{TENSORS}"):
            findings.hold("checksums", False, name, "is listed and is not there", keys)
    for path in walk(root):
        name = path.relative_to(root).as_posix()
        if name not in listed and name not in (CHECKSUMS, VERIFICATION):
            findings.fail("checksums", name, "is not listed", re.findall(_KEY, name)[:1])


# --- JSON ---------------------------------------------------------------------------------------------------------


def read_json(path: Path) -> Any:
    """A JSON file whose size was checked before: whole, finite numbers only.

    Raises:
        ValueError: it is not.
    """
    try:
        if path.is_symlink() or path.stat().st_size > _TEXT_BYTES:
            raise ValueError("it is a link or too large")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse, object_pairs_hook=_once)
    except (OSError, RecursionError) as error:
        raise ValueError(str(error)) from None


def _refuse(constant: str) -> float:
    raise ValueError(f"it holds {constant}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found
