"""Small copies of the datasets of videos, in the exact layouts of their owners and mirrors, with real media files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from media import Media, make

from avbench_datasets.vggs10k import CLASSES as VGGS10K

AVE_CLASSES = ("Bark", "Female speech, woman speaking", "Frying (food)")
MUSIC_CLASSES = ("acoustic_guitar", "erhu", "xylophone")
VGG_CLASSES = ("child speech, kid speaking", "playing piano", "zebra braying")


def film(seconds: float, tone_hz: float) -> Media:
    """A small film whose second ``s`` sounds ``tone_hz + 10·s``."""
    return Media(width=64, height=48, fps=10, video_s=seconds, tone_hz=lambda second: tone_hz + 10.0 * second)


def ave(root: Path, header: bool = False, videos: Mapping[str, int] | None = None) -> Path:
    """``AVE/{id}.mp4`` of four seconds, events from 1 to 3 s; lists beside the folder."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    head = ["Category&VideoID&Quality&StartTime&EndTime"]
    for split, count in (videos or {"train": 2, "val": 1, "test": 1}).items():
        for cls, label in enumerate(AVE_CLASSES):
            for i in range(count):
                video = f"-{split[:2]}_{cls}{i}"
                make(root / "AVE" / f"{video}.mp4", film(4.0, 400.0 + 300.0 * cls))
                lists[split].append(f"{label}&{video}&good&1&3")
    for split, rows in lists.items():
        (root / f"{split}Set.txt").write_text("\n".join((head if header else []) + rows) + "\n")
    rows = [row for split in lists.values() for row in split]
    (root / "Annotations.txt").write_text("\n".join(head + rows) + "\n")
    return root


def music21(root: Path, per_class: int = 4) -> Path:
    """``{instrument}/{id}.mp4`` of three seconds and the owners' JSON file."""
    videos = {label: [f"{label[:2]}-_{i}" for i in range(per_class)] for label in MUSIC_CLASSES}
    for cls, (label, ids) in enumerate(videos.items()):
        for video in ids:
            make(root / label / f"{video}.mp4", film(3.0, 400.0 + 300.0 * cls))
    (root / "MUSIC21_solo_videos.json").write_text(json.dumps({"videos": videos}))
    return root


Name = Callable[[str, int, str, str], str]
#: How mirrors of VGGSound name a clip, from (id, start, label, split).
VGG_LAYOUTS: Mapping[str, Name] = {
    "flat": lambda video, start, label, split: f"{video}_{start:06d}.mp4",
    "by split": lambda video, start, label, split: f"{split}/{video}_{start}.mp4",
    "by class": lambda video, start, label, split: f"video/{label}/{video}_{start:06d}.mp4",
    "milliseconds": lambda video, start, label, split: f"{video}_{start * 1000}_{start * 1000 + 10_000}.mp4",
    "by id": lambda video, start, label, split: f"clips/{video}.mp4",
}


def vggsound(root: Path, labels: Sequence[str] = VGG_CLASSES, layout: str = "flat", train: int = 2) -> Path:
    """Clips of six seconds and ``vggsound.csv`` without header."""
    rows = []
    for cls, label in enumerate(labels):
        for i in range(train + 1):
            video, start, split = f"_{cls}-{i}", 10 * i + 7, "test" if i == train else "train"
            make(root / VGG_LAYOUTS[layout](video, start, label, split), film(6.0, 400.0 + 200.0 * cls))
            quoted = f'"{label}"' if "," in label else label
            rows.append(f"{video},{start},{quoted},{split}")
    (root / "vggsound.csv").write_text("\n".join(rows) + "\n")
    return root


def vggs10k(root: Path, train: int = 2) -> Path:
    return vggsound(root, VGGS10K, train=train)


def folder(root: Path, per_class: int = 5) -> Path:
    """``{class}/*.{mp4,webm,…}`` of two seconds, a file of each suffix."""
    for cls, label in enumerate(("drum", "whistle")):
        for i, suffix in zip(range(per_class), ("mp4", "mkv", "avi", "mov", "webm"), strict=False):
            codecs = {"video": "vp9", "audio": "opus", "rate_hz": 48_000} if suffix == "webm" else {"video": "mpeg4"}
            codecs |= {"audio": "pcm"} if suffix == "avi" else {}
            tone = 500.0 + 500.0 * cls
            make(
                root / label / f"{i}.{suffix}",
                Media(width=64, height=48, fps=10, video_s=2.0, tone_hz=lambda _, tone=tone: tone, **codecs),
            )
    return root
