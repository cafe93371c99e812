"""VGGS-10k: ten classes of VGGSound, from videos or cut from a prepared VGGSound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from avbench.api import (
    Dataset,
    Plan,
    PrepareContext,
    RequestError,
    Store,
    StoreInfo,
    StoreWriter,
    open_store,
    option,
    prepare_clips,
    sha256_of,
)
from avbench_datasets._release import store_from_release
from avbench_datasets._video import folder_of, index_of
from avbench_datasets.vggsound import CITATION, LICENCE, VGGSoundConfig, read_list, recordings

#: In the order of their ids in the authors' list.
CLASSES = (
    "chicken crowing",
    "toilet flushing",
    "playing acoustic guitar",
    "playing piano",
    "ocean burbling",
    "fireworks banging",
    "child speech, kid speaking",
    "basketball bounce",
    "police radio chatter",
    "driving buses",
)
_EXPECTED = {"train": 8_808, "test": 444}
#: A test clip that the paper counts and the AVDD code leaves out.
_LEFT_OUT = "JsxLvhJ4P6w"
_PAPER = "; ten classes as in S. S. Kushwaha et al., Audio-Visual Dataset Distillation, TMLR 2024."


@dataclass(frozen=True)
class VGGS10kConfig(VGGSoundConfig):
    """Options of VGGS-10k."""

    left_out: Literal["none", "code"] = option("none", "code: leave out the test clip that the AVDD code does (443)")


class VGGS10k(Dataset):
    """VGGS-10k: ten classes of VGGSound, 8808 train and 444 test clips; also cut from a prepared vggsound."""

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = VGGS10kConfig

    config: VGGS10kConfig

    def prepare(self, context: PrepareContext) -> Store:
        """Decode the clips, or copy them from the store of VGGSound that the source is.

        Raises:
            RequestError: the list, the videos or the classes are not under the source.
        """
        if self.config.from_release:
            citation = CITATION + _PAPER
            return store_from_release(
                context, self.config, "vggs10k", self.version, "vgg_subset", LICENCE, citation, CLASSES
            )
        source = folder_of(context, "vggs10k")
        if (source / "store.json").is_file():
            return self._cut(source, context)
        index = index_of(source, "vggs10k")
        rows, path = read_list(source, self.config, "vggs10k")
        # A list of all VGGSound is one of more labels; a list of this subset has wrong labels where it has others.
        if not self.config.split_file:
            rows = [row for row in rows if row.label in CLASSES]
        rows = [row for row in rows if not self._left_out(row.video)]
        plan = Plan(
            dataset="vggs10k",
            dataset_version=self.version,
            recordings=recordings(rows, index, self.config),
            classes=CLASSES,
            licence=LICENCE,
            citation=CITATION + _PAPER,
            expected={**_EXPECTED, "test": _EXPECTED["test"] - (self.config.left_out == "code")},
            sources={path.name: sha256_of(path)},
        )
        return prepare_clips(plan, self.config, context)

    def _left_out(self, video: str) -> bool:
        return self.config.left_out == "code" and video == _LEFT_OUT

    def _cut(self, source: Path, context: PrepareContext) -> Store:
        """Copy the ten classes of a store of VGGSound; its options are what samples look like, ours do not matter.

        Raises:
            RequestError: the store is of another dataset, or lacks some of the classes.
        """
        whole = open_store(source.parent, source.name)
        lacking = [name for name in CLASSES if name not in whole.info.classes]
        if whole.info.dataset != "vggsound":
            raise RequestError(f"{source} is a store of {whole.info.dataset!r}; vggs10k is cut from one of vggsound.")
        if lacking:
            raise RequestError(f"{source} has no class {lacking[0]!r} ({len(lacking)} of ten lack); prepare it whole.")
        if context.name == source.name and context.data.resolve() == source.parent.resolve():
            raise RequestError(f"--name {context.name}: this is the store that is being cut; give another --name.")
        rows = {split: list(self._rows(whole, split)) for split in whole.info.counts}
        writer = StoreWriter(context.data, self._info(whole.info, rows, context.name))
        total, done = sum(map(len, rows.values())), 0
        try:
            for split, chosen in rows.items():
                samples = whole.samples(split)
                for row, (_, old) in enumerate(chosen):
                    audio, frames = whole.audio[split][old], whole.frames[split][old]
                    writer.put(split, row, audio, frames, *samples[old])
                    done += 1
                    if done % 500 == 0 or done == total:
                        context.progress(done, total, "samples copied")
            return writer.finish()
        except BaseException:
            writer.discard()
            raise

    def _rows(self, whole: Store, split: str) -> Iterator[tuple[int, int]]:
        """(class, row of the whole store) in the order of our classes."""
        counts = whole.info.counts[split]
        samples = whole.samples(split)
        for cls, name in enumerate(CLASSES):
            index = whole.info.classes.index(name)
            first = sum(counts[:index])
            for row in range(first, first + counts[index]):
                if not self._left_out(samples[row][0]):
                    yield cls, row

    def _info(self, whole: StoreInfo, rows: dict[str, list[tuple[int, int]]], name: str) -> StoreInfo:
        counts = {
            split: tuple(sum(1 for cls, _ in chosen if cls == wanted) for wanted in range(len(CLASSES)))
            for split, chosen in rows.items()
        }
        return replace(
            whole,
            name=name,
            dataset="vggs10k",
            dataset_version=self.version,
            classes=CLASSES,
            counts=counts,
            citation=CITATION + _PAPER,
            options={**whole.options, "left_out": self.config.left_out},
            sources={**whole.sources, "cut from": whole.fingerprint},
            notes=(*whole.notes, f"Cut from the store {whole.name!r} without decoding."),
            fingerprint="",
        )
