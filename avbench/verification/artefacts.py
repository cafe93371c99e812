"""Artefacts against their records: content hashes from the tensors, sizes and labels from the dataset's description."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from avbench.data.description import check_description
from avbench.data.store import SPLITS, StoreInfo, class_offsets
from avbench.distilled import STEP_SIZE_BYTES, DistilledSet, LearnedSet, SelectedSet, load
from avbench.errors import RequestError
from avbench.storage import learned_bytes, selected_bytes
from avbench.verification.files import TENSORS, is_submission, read_json

if TYPE_CHECKING:
    from avbench.verification.integrity import Results

Record = Mapping[str, Any]
#: Besides name and notes, what equal fingerprints may differ in: how the data was got, not what it is.
_BESIDES = ("name", "notes", "sources", "options", "licence", "citation", "dataset_version")


def check_artefacts(results: Results) -> None:
    """Check the set of every finished cell, with its snapshots; learn the datasets' descriptions from them."""
    for key, record in results.distil.items():
        if record["status"] != "done":
            continue
        hashes = {None: record["result"]["content_hash"], **record["result"]["snapshots"]}
        for step, content_hash in hashes.items():
            check = _Check(results, key, record, step, str(content_hash))
            if check.read():
                check.compare()


class _Check:
    """The check of one set: of a cell, or of a snapshot of it."""

    def __init__(self, results: Results, key: str, record: Record, step: str | None, content_hash: str) -> None:
        self.results, self.findings = results, results.findings
        self.key, self.record, self.step, self.content_hash = key, record, step, content_hash
        self.name = f"distil/{key}" + ("" if step is None else f"/snapshots/{step}")
        self.about: dict[str, Any] = {}

    @property
    def folder(self) -> Path:
        return self.results.root / self.name

    def hold(self, check: str, true: bool, text: str) -> bool:
        return self.findings.hold(check, true, self.name, text, [self.key])

    def read(self) -> bool:
        """Read the description; False where there is none to go on with."""
        if self.step is not None and not re.fullmatch(r"\d{1,9}", self.step):
            return self.hold("artefacts", False, "the record names a snapshot that is no number")
        try:
            self.about = read_json(self.folder / "distilled.json")
            info = StoreInfo.from_json(self.about["dataset_info"])
            check_description(info, SPLITS)
            _check_form(self.about)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return self.hold("artefacts", False, f"distilled.json can't be read: {error}")
        self._learn(info)
        return True

    def _learn(self, info: StoreInfo) -> None:
        named = self.record["dataset"]
        fingerprint = named["fingerprint"]
        self.hold("artefacts", info.fingerprint == fingerprint, "its dataset has another fingerprint than the record's")
        if "adopted" not in self.record:  # a set from elsewhere may have been made of a store of another name
            same = (named["name"], named.get("plugin") or info.dataset) == (info.name, info.dataset)
            self.hold("artefacts", same, f"it was made from {info.name!r}, the record says {named['name']!r}")
        known = self.results.infos.setdefault(fingerprint, info)
        ours, theirs = ({k: v for k, v in each.as_json().items() if k not in _BESIDES} for each in (known, info))
        self.hold("artefacts", ours == theirs, "it describes its dataset otherwise than the sets beside it")

    def compare(self) -> None:
        """Compare record, description and tensors."""
        hashes = {self.about.get("content_hash"), self.content_hash}
        self.hold("artefacts", len(hashes) == 1, "record and distilled.json name different contents")
        if self._absent():
            self.findings.absent.add(self.key)
            self._arithmetic(self._promised())
            return
        if (self.folder / TENSORS).is_symlink():
            return  # reported with the files, and not followed
        try:
            found = load(self.folder)
        except (RequestError, ValueError, TypeError, RuntimeError) as error:
            self.hold("artefacts", False, str(error))
            return
        self.hold("artefacts", found.content_hash == self.content_hash, "its tensors have another content hash")
        self.hold("artefacts", found.modality == self.record["modality"], "it is of another modality")
        for problem in _problems(found, self.record["ipc"]):
            self.hold("artefacts", False, problem)
        described = found.describe()
        wrong = [name for name, value in described.items() if self.about.get(name) != value]
        self.hold("artefacts", not wrong, f"distilled.json says otherwise of the set: {', '.join(wrong)}")
        self._arithmetic(described)

    def _absent(self) -> bool:
        """Whether the tensors lie elsewhere, as only a submission may have it."""
        return is_submission(self.results.root) and not (self.folder / TENSORS).exists()

    def _promised(self) -> dict[str, Any]:
        """What a set of the recorded size must say of itself, without its tensors."""
        info, record, kind = self.results.infos[self.record["dataset"]["fingerprint"]], self.record, self.about["kind"]
        items = record["ipc"] * len(info.classes) if record["ipc"] else info.size("train")
        own = {"learned": learned_bytes, "selected": selected_bytes}
        one = own[kind](info, record["modality"], 1) // len(info.classes) if kind in own else 0
        steps = STEP_SIZE_BYTES * len(self.about.get("step_size") or {})
        return {"kind": kind, "items": items, "storage_bytes": one * items + steps}

    def _arithmetic(self, expected: Mapping[str, Any]) -> None:
        """Hold the numbers of record and description to what follows from the set."""
        sources = {"distilled.json": self.about}
        if self.step is None:
            sources["record.json"] = self.record["result"]
        for source, given in sources.items():
            for name in ("kind", "items", "storage_bytes"):
                text = f"{source}: {name} is {given.get(name)!r}, the set has {expected[name]!r}"
                self.hold("arithmetic", given.get(name) == expected[name], text)
        if self.step is None:
            size = self.results.infos[self.record["dataset"]["fingerprint"]].size("train")
            text = f"record.json: ratio is {self.record['result']['ratio']!r}, expected {expected['items'] / size!r}"
            self.hold("arithmetic", self.record["result"]["ratio"] == expected["items"] / size, text)


def _problems(found: DistilledSet, ipc: int) -> Iterator[str]:
    """What is wrong with a set of ``ipc`` items a class, 0 for the whole data."""
    info, labels = found.dataset, found.labels
    classes = len(info.classes)
    if labels.dim() != 1 or not bool(((labels >= 0) & (labels < classes)).all()):
        yield "its labels are no classes of its dataset"
        return
    counts = torch.bincount(labels, minlength=classes).tolist()
    expected = [ipc] * classes if ipc else list(info.counts["train"])
    if counts != expected:
        yield f"it has {counts} items a class, the record says {expected}"
    if isinstance(found, SelectedSet):
        yield from _row_problems(found)
    elif isinstance(found, LearnedSet):
        for name, items in found.items.items():
            if tuple(items.shape) != (len(labels), *info.shape(name)):
                yield f"its items {name!r} have shape {tuple(items.shape)}"
            elif not bool(torch.isfinite(items).all()):
                yield f"its items {name!r} hold values that are not finite"


def _row_problems(found: SelectedSet) -> Iterator[str]:
    """Rows are distinct, of the training split, and each of the class that its label says."""
    rows = found.rows
    if rows.shape != found.labels.shape or len(set(rows.tolist())) != rows.numel():
        yield "its rows are not one distinct row for each label"
        return
    bounds = torch.tensor([list(each) for each in class_offsets(found.dataset.counts["train"])])
    mine = bounds[found.labels]
    if not bool(((rows >= mine[:, 0]) & (rows < mine[:, 1])).all()):
        yield "rows are of another class than their labels say"


def _check_form(about: Mapping[str, Any]) -> None:
    """Hold what a description says of its own set to the types that are used below.

    Raises:
        KeyError, ValueError: a value is absent or of another type.
    """
    for name in ("content_hash", "kind"):
        if not isinstance(about[name], str):
            raise ValueError(f"{name} = {repr(about[name])[:60]}")
    if not isinstance(about.get("step_size"), Mapping | None):
        raise ValueError(f"step_size = {repr(about['step_size'])[:60]}")
