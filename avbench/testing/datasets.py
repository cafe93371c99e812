"""Checks of a dataset: what it declares, what it refuses and, with a source, the store that it prepares."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avbench.data.audit import audit
from avbench.data.prepare import prepare
from avbench.data.store import SPLITS, Store
from avbench.errors import PluginError, RequestError
from avbench.testing.lending import DISTRIBUTION
from avbench.testing.observing import Outcome
from avbench.testing.registry import Failure, NotChecked, register
from avbench.testing.subject import NAME, Subject

_STORE = "prepared"
#: A store whose seconds are found out by one process and by two must be the same.
_WORKERS = 2


class Preparation(Subject):
    """A dataset under check."""

    @property
    def prepared(self) -> Store:
        """The store, prepared once.

        Raises:
            NotChecked: there is no source, or preparing raises; the check "prepare" tells which.
        """
        if "prepared" not in self.memo:
            self._need_source()
            try:
                self.memo["prepared"] = self.prepare_into("data")
            except (Exception, SystemExit) as error:
                self.memo["prepared"] = error
        found = self.memo["prepared"]
        if isinstance(found, BaseException):
            raise NotChecked("it can't be prepared: see the check 'prepare'")
        assert isinstance(found, Store)
        return found

    def _need_source(self) -> None:
        if self.source is None and not self.target.embedded:
            raise NotChecked("it needs a source: give it with --source")

    def prepare_into(self, folder: str, workers: int = 1) -> Store:
        """Prepare into a fresh folder, by the runner's own code."""
        self._need_source()
        data = self.bench.new_folder(folder)
        store: Any = prepare(f"{DISTRIBUTION}:{NAME}", self.options, self.source, _STORE, data, _quiet, workers=workers)
        if not isinstance(store, Store):
            raise Failure("prepare() to give the opened Store", type(store).__name__, "Return writer.finish().")
        return store

    def exercise(self, data: str = "data") -> Outcome:
        self.prepare_into("observed-data")
        return {}


def _quiet(done: int, total: int, what: str) -> None:
    """Takes progress."""


@register("dataset", name="class-variables", promise="embedded said by True or False")
def class_variables(subject: Preparation) -> str:
    """What a run decides by, before it prepares anything."""
    if type(subject.target.embedded) is not bool:
        advice = "True: prepare() needs no source, and a run may call it."
        raise Failure("embedded to be True or False", repr(subject.target.embedded), advice)
    return "embedded" if subject.target.embedded else "made from the user's own copy"


@register("dataset", name="refuses-other-sources", promise="a RequestError for what it does not read, and no remains")
def refuses_other_sources(subject: Preparation) -> str:
    """An empty folder, and a file of another kind."""
    if subject.target.embedded:
        raise NotChecked("it takes no source")
    places = subject.bench.new_folder("wrong")
    empty, other = places / "empty", places / "other.bin"
    empty.mkdir()
    other.write_bytes(bytes(range(256)) * 4)
    said = ""
    for source in (empty, other):
        data = subject.bench.new_folder("refused")
        what = "an empty folder" if source is empty else "a file of noise"
        advice = "Say what was expected and what is there."
        try:
            prepare(f"{DISTRIBUTION}:{NAME}", subject.options, source, _STORE, data, _quiet)
        except PluginError as error:
            raise Failure(f"{what} to be refused by a RequestError", f"{error}", advice) from error
        except RequestError as error:
            said = str(error)
        else:
            raise Failure(f"{what} to be refused", "a store", advice)
        left = [path.name for path in data.iterdir() if not _empty(path)]
        if left:
            raise Failure("nothing left behind", ", ".join(left), "Call writer.discard() where something fails.")
    return said.replace(str(places), "…")


def _empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


@register("dataset", name="prepare", promise="a store that is described, complete and unchanged on disk")
def prepares(subject: Preparation) -> str:
    """With a source, or for an embedded dataset: everything that ``avbench prepare`` and ``data audit`` do."""
    subject.memo.pop("prepared", None)
    store = subject.memo["prepared"] = subject.prepare_into("data")
    info = store.info
    if info.dataset_version != subject.target.version:
        found = f"{info.dataset_version} and {subject.target.version}"
        raise Failure("the store's dataset_version to be the plugin's version", found, "Use self.version.")
    if not info.licence.strip():
        raise Failure("a licence", "none", "State it, if only that it is not stated.")
    if not info.size("train") or not info.size("test"):
        sizes = ", ".join(f"{split} {info.size(split)}" for split in info.counts)
        raise Failure("samples in train and test", sizes, "Look at how rows are assigned.")
    if min(info.counts["train"]) < 1:
        name = info.classes[int(np.argmin(info.counts["train"]))]
        raise Failure("a training sample of every class", f"none of {name!r}", "Leave the class out.")
    looked = audit(store, _quiet)
    if not looked.unchanged:
        raise Failure("the fingerprint of what is on disk", "another one", "Let StoreWriter write everything.")
    told = [f"{f.check}: {f.count} {f.unit}" for f in looked.findings if f.level != "note" and f.count]
    without = [] if info.citation.strip() else ["no citation"]
    sizes = ", ".join(f"{split} {info.size(split)}" for split in SPLITS if split in info.counts)
    return "; ".join([sizes, *without, *told])


@register("dataset", name="values", promise="sound in decibels and frames that differ, in every split")
def values(subject: Preparation) -> None:
    """Finite sound; not one value everywhere."""
    store = subject.prepared
    for split in store.info.counts:
        if not store.info.size(split):
            continue
        audio, frames = store.audio[split], store.frames[split]
        if not bool(np.isfinite(audio).all()):
            raise Failure(f"finite sound in {split}", "NaN or infinity", "Look at the logarithm of silence.")
        if float(audio.min()) == float(audio.max()) or int(frames.min()) == int(frames.max()):
            raise Failure(f"content in {split}", "one value everywhere", "Look at what put() is given.")


@register("dataset", name="repeatable", promise="the same fingerprint when prepared again, with more workers too")
def repeatable(subject: Preparation) -> None:
    """What keys hold must not depend on when and how a store was made."""
    first = subject.prepared.info.fingerprint
    again = subject.prepare_into("again", _WORKERS).info.fingerprint
    if again != first:
        found = f"{first[:12]} and {again[:12]}"
        advice = "Sort what is listed from disk, draw by seeds, and write no time into samples."
        raise Failure("one fingerprint of two preparations", found, advice)
