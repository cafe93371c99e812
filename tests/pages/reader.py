"""Somebody who types the commands of the pages: the folder in which that is done, and what it comes to."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
from packages import avbench
from releases import save, split_file
from sources import ave, folder, music21, vggsound

from avbench.api import StoreInfo, StoreWriter
from avbench.cli import main
from avbench_datasets.vggs10k import CLASSES as VGGS10K

#: Stores of these names, with few small samples; and the side of their frames, their depth and preset.
STORES = {
    "avdigits": "quick",
    "recorded": "quick",
    "mine": "quick",
    "films": "quick",
    **dict.fromkeys(("ave", "music21", "vggsound", "vggs10k", "vggs10k-release"), "paper"),
}
TRAIN, VAL, TEST = 25, 2, 4
#: Instead of minutes: an option that is given twice holds as it was given last.
SMALL = ("--seeds", "1", "--networks", "1", "--jobs", "1", "--set", "convnet.width=4")
FEW_STEPS = {
    **dict.fromkeys(("dm", "avdd"), ("steps=2",)),
    **dict.fromkeys(("dc", "dsa"), ("steps=1",)),
    "mtt": ("steps=1", "experts=1"),
}
#: Short trainings of the protocols that the presets quick and paper take.
QUICKLY, PAPER = ("recognition-quick.updates=2", "recognition-quick.epochs=1"), ("recognition-code.epochs=1",)


def write_store(data: Path, name: str, preset: str) -> None:
    """A store whose classes are patterns under noise; as many training samples as the pages' IPCs ask for."""
    classes = VGGS10K if name.startswith("vgg") else tuple(f"class {c}" for c in range(3))
    info = StoreInfo(
        name=name,
        dataset={"mine": "arrays", "recorded": "arrays", "films": "folder"}.get(name, name.partition("-")[0]),
        dataset_version=1,
        classes=classes,
        counts={"train": (TRAIN,) * len(classes), "val": (VAL,) * len(classes), "test": (TEST,) * len(classes)},
        audio_shape=(1, 16, 24),
        frame_shape=(3, 16, 16),
        audio_mean=-40.0,
        audio_std=15.0,
        frame_mean=(0.5, 0.4, 0.3),
        frame_std=(0.25, 0.2, 0.3),
        visual_depth=2,
        audio_depth=2,
        grid=(4, 4),
        preset=preset,
        sample_rate_hz=8000,
        audio_transform={},
        licence="CC0-1.0",
        citation="",
    )
    rng = np.random.default_rng(len(name))
    writer = StoreWriter(data, info)
    for split, counts in info.counts.items():
        for row, cls in enumerate(np.repeat(np.arange(len(classes)), counts)):
            sound = rng.normal(-40.0 + cls, 15.0, info.audio_shape).astype(np.float32)
            writer.put(split, row, sound, rng.integers(cls, 256, info.frame_shape, np.uint8), f"{split}{row}")
    writer.finish()


def write_clips(path: Path) -> None:
    """One's own clips, as docs/datasets/arrays.md describes them."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), TRAIN + TEST)
    split = np.tile(np.repeat([0, 1], [TRAIN, TEST]), 3)
    sounds = rng.normal(0.0, 0.1, (len(labels), 1, 4000)).astype(np.float32)
    pictures = rng.integers(0, 256, (len(labels), 32, 32), np.uint8)
    np.savez(path, audio=sounds, sample_rate_hz=4000, image=pictures, label=labels, split=split)


def write_sources(root: Path) -> None:
    """Raw copies under the names that the pages give them."""
    ave(root / "AVE_Dataset", videos={"train": 3, "val": 1, "test": 1})
    music21(root / "MUSIC21")
    rows = [
        f"{video.stem},{('train', 'test')[i % 2]},{video.parent.name}"
        for i, video in enumerate(sorted((root / "MUSIC21").rglob("*.mp4")))
    ]
    (root / "music_21.csv").write_text("\n".join(["vid,split,label", *rows]) + "\n", encoding="utf-8")
    vggsound(root / "VGGSound", VGGS10K, train=2)
    write_subset(root)
    folder(root / "films")
    for name in ("clips.npz", "my_clips.npz", "spoken_written_digits.npz"):
        write_clips(root / name)
    labels = tuple(range(10)) * 3
    save(root / "AVDD/train_data/vgg_subset_train.pt", split_file("train", labels))
    save(root / "AVDD/test_data/vgg_subset_test.pt", split_file("test", labels[:10], 100))


def write_subset(root: Path) -> None:
    """The authors' list of VGGS-10k, of the clips that are there."""
    lines = (root / "VGGSound" / "vggsound.csv").read_text(encoding="utf-8").splitlines()
    rows = []
    for line in lines:
        video, start, rest = line.split(",", 2)
        label, _, split = rest.rpartition(",")
        number = VGGS10K.index(label.strip('"'))
        rows.append(f"{video},{start},{label},{split},{number}")
    (root / "vgg_subset.csv").write_text("\n".join(["vid,num,label,split,label_id", *rows]) + "\n", encoding="utf-8")


def write_run(root: Path) -> None:
    """``runs`` with finished cells of three methods, and an export of one of them, both of ``avdigits``."""
    grid = ("--method", "random,dm,avdd", "--dataset", "avdigits", "--ipc", "1,10")
    command = ("run", *grid, *SMALL, *small_settings())
    done = avbench(*command, cwd=root)
    assert done.returncode == 0, done.stderr
    assert run("export", str(a_set(root)), "--to", "npz", "-o", str(root / "exported")) == (0, "")
    shutil.copy(root / "exported" / "distilled.npz", root / "theirs.npz")
    shutil.copytree(root / "runs", root / "more-runs")


def small_settings(methods: Sequence[str] = (), judge: Sequence[str] = QUICKLY) -> list[str]:
    """``--set`` of few steps for methods, and of short trainings of what judges their sets."""
    given = [f"{name}.{each}" for name in methods for each in FEW_STEPS.get(name, ())]
    return [word for each in (*given, *judge) for word in ("--set", each)]


def a_set(root: Path) -> Path:
    """A learned set of the run."""
    found = sorted(path.parent for path in root.glob("runs/distil/*/distilled.safetensors"))
    learned = [path for path in found if '"items"' in (path / "distilled.json").read_text(encoding="utf-8")]
    return (learned or found)[0]


def run(*arguments: str) -> tuple[int, str]:
    """The command line in this process: exit status, and what it said on stderr."""
    told = io.StringIO()
    streams = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(told)
    try:
        with mock.patch.object(sys, "argv", ["avbench", *arguments]), streams[0], streams[1]:
            main()
    except SystemExit as ended:
        return (ended.code if isinstance(ended.code, int) else int(ended.code is not None)), told.getvalue()
    return 0, told.getvalue()


@dataclass
class Reader:
    """A folder of one page's reader: raw copies, stores, a finished run, and what the page's commands add.

    Attributes:
        whole: commands are run to their end, on small settings; else those that take long are only planned.
    """

    folder: Path
    whole: bool

    @classmethod
    def beginning(cls, base: Path, folder: Path, whole: bool) -> Reader:
        shutil.copytree(base, folder, copy_function=os.link)
        return cls(folder, whole)

    def type(self, arguments: Sequence[str]) -> str:
        """Run ``avbench`` with these arguments; empty where it ends as it should, else what it said.

        Commands of a page are often alternatives: what an earlier one wrote is put out of the way.
        """
        for option, path in pairwise(arguments):
            if option in ("-o", "--output"):
                shutil.rmtree(path, ignore_errors=True)
        status, told = run(*arguments)
        return f"exit status {status}: {told}" if status else ""

    def filled(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with the names that stand for a reader's own things put in."""
        (weights,) = list(self.folder.glob("pretrain/prerequisite/*"))[:1] or [Path("KEY")]
        own = {"prerequisite/KEY": f"prerequisite/{weights.name}", "mtt ave ipc 10": "dm avdigits ipc 10"}
        own |= {"KEY": a_set(self.folder).name, "/shared/": f"{self.folder}/", "DATA": "data", "NAME": "avdigits"}
        own |= {"PATH": str(a_set(self.folder)), "DIR/distilled.npz": "theirs.npz"}
        for name, mine in own.items():
            arguments = [word.replace(name, mine) for word in arguments]
        return list(arguments)


def make_base(root: Path) -> Path:
    """What every reader begins with."""
    for name, preset in STORES.items():
        write_store(root / "data", name, preset)
    write_sources(root)
    write_run(root)
    return root
