"""The card of an exported set: what it is, whose it is, how it was made and how it is used; for people and programs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.formats.writing import Contents, Writer

#: Of a run's record, what says how a set was made; nothing of the machine it was made on.
_MADE = ("seed", "ipc", "preset", "precision", "architecture", "finished")
_LEARNED = (
    "Recordings of people are personal data, and distilling them does not make them anonymous. These samples were "
    "optimised from those of the dataset and may have started as some of them: where it shows people, a face, a voice "
    "or a place can still be recognised in a sample, or be drawn out of it together with other knowledge."
)
_SELECTED = (
    "These samples are not synthetic: each is one of the dataset's own, picture and sound spectrum as they were "
    "recorded. Where the dataset holds people's videos, they are pieces of those, and their makers and the people in "
    "them keep their rights."
)
_REFERENCES = (
    "This folder holds no video, but it names videos: whoever fetches them handles recordings of people, who may have "
    "withdrawn them since."
)
_DUTIES = (
    "Keep, share and use this set only as the licence of the dataset and the law allow for the dataset itself; let in "
    "only who needs it, try to identify nobody, and delete what somebody asks to have deleted. The authors of "
    "AVDD (TMLR 2024, Broader Impact Statement) warn of breaches of privacy through distilled sets that are stored or "
    "shared without care."
)


def made_by(path: Path, content_hash: str) -> dict[str, Any]:
    """How a set was made, from the record of its run; empty where none lies beside it, or one of another set.

    A snapshot lies two folders below its record.
    """
    steps = path.name if path.parent.name == "snapshots" and path.name.isdigit() else None
    folder = path if steps is None else path.parent.parent
    try:
        record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        result, method = record["result"], record["method"]
        own = result["content_hash"] if steps is None else result["snapshots"][steps]
        if own != content_hash:
            return {}
        found = {
            "method": {name: method[name] for name in ("name", "label", "version", "distribution", "options")},
            "steps": int(result["steps"] if steps is None else steps),
            **{name: record[name] for name in _MADE},
            "architecture": record["architecture"]["label"],
            "packages": dict(record["environment"]["packages"]),
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return found | ({"adopted_from": record["adopted"]} if "adopted" in record else {})


def facts(contents: Contents, writer: Writer) -> dict[str, Any]:
    """The card for programs."""
    info = contents.info
    decoding: dict[str, Any] = {"factor": contents.factor_left, "step_size": dict(contents.step_size)}
    if "a" in contents.modalities:
        decoding["audio"] = {
            "shape": list(info.audio_shape),
            "mean": info.audio_mean,
            "std": info.audio_std,
            "unit": "dB",
            "sample_rate_hz": info.sample_rate_hz,
            "transform": dict(info.audio_transform),
        }
    if "v" in contents.modalities:
        mean, std = list(info.frame_mean), list(info.frame_std)
        decoding["frames"] = {"shape": list(info.frame_shape), "mean": mean, "std": std, "pixels": [0, 1]}
    names = ("name", "dataset", "dataset_version", "fingerprint", "licence", "citation", "classes", "notes")
    return {
        "avbench": __version__,
        "layout": writer.name,
        "kind": contents.set.kind,
        "modality": contents.set.modality,
        "samples": contents.count,
        "items": contents.items,
        "decoded": contents.decoded,
        # Not its options and sources: they may name places on somebody's machine.
        "dataset": {name: getattr(info, name) for name in names},
        "made": dict(contents.made),
        "decoding": decoding,
        "storage_bytes": contents.set.storage_bytes(),
        "content_hash": contents.set.content_hash,
        "notes": list(contents.set.notes),
        "personal_data": _warning(contents, writer),
    }


def card(contents: Contents, writer: Writer) -> str:
    """The card for people, in Markdown."""
    info, about = contents.info, facts(contents, writer)
    parts = {
        f"{_plain(info.name)}, distilled": _what(contents, writer),
        "Personal data": about["personal_data"],
        "Licence and citation": _rights(contents),
        "How it was made": _made(contents),
        "The files": writer.explain(contents),
        "From numbers to sound and picture": _decoding(contents, about["decoding"]),
        "Classes": "\n".join(["| label | class |", "|---:|---|", *_class_rows(contents)]),
        "Identity": _identity(contents),
    }
    title, *others = parts
    sections = [f"# {title}\n\n{parts[title].strip()}", *(f"## {name}\n\n{parts[name].strip()}" for name in others)]
    return writer.header(contents) + "\n\n".join(sections) + "\n"


def _what(contents: Contents, writer: Writer) -> str:
    info = contents.info
    parts = " and ".join({"a": "log-mel sound", "v": "frames"}[name] for name in contents.modalities)
    held = f"{contents.count} samples of {len(info.classes)} classes: {parts}"
    if not writer.holds_samples:
        return f"References to {held}."
    if contents.set.kind == "selected":
        return f"{held}, chosen from the training split of {_plain(info.name)} and normalised as networks take them."
    packed = f" {contents.items} stored items pack l × l of them, l = {contents.factor};"
    shown = " here they are cut apart." if contents.decoded else " here they are still packed."
    counted = f"{held if contents.decoded else held.replace('samples', 'items', 1)}, synthetic, as networks take them."
    return counted + (packed + shown if contents.factor > 1 else "")


def _warning(contents: Contents, writer: Writer) -> str:
    whose = _LEARNED if contents.set.kind == "learned" else _SELECTED
    text = f"{whose if writer.holds_samples else _REFERENCES} {_DUTIES}"
    if writer.holds_samples and contents.videos is not None:
        text += " Which videos they come from, and where in them each sample lies, stands in `videos.csv`."
    return text


def _rights(contents: Contents) -> str:
    info = contents.info
    lines = [f"- dataset: {_plain(info.dataset)}, version {info.dataset_version}, prepared as {_plain(info.name)}"]
    lines.append(f"- licence of the dataset: {_plain(info.licence) or 'not stated; ask its makers'}")
    lines.append(f"- citation: {_plain(info.citation) or 'none given'}")
    lines += [f"- of the dataset: {_plain(note)}" for note in info.notes]
    return "\n".join(lines)


def _made(contents: Contents) -> str:
    made = contents.made
    lines = [f"- note: {_plain(note)}" for note in contents.set.notes]
    if not made:
        return "\n".join(["No record of the run that made it lay beside the set.", "", *lines])
    method = made["method"]
    told = [f"- method: {_plain(method['label'])} (version {method['version']}, {_plain(method['distribution'])})"]
    told.append(f"- options: {_plain(_spell(method['options'])) or 'none'}")
    told.append(f"- steps {made['steps']}, seed {made['seed']}, items a class {made['ipc'] or 'all'}")
    told.append(
        f"- network {_plain(made['architecture'])}, preset {_plain(made['preset'])}, {_plain(made['precision'])}"
    )
    told.append(f"- with {_plain(_spell(made['packages']))}; {_plain(made['finished'])}")
    if "adopted_from" in made:
        told.append("- the set came from elsewhere: avbench judged it and did not make it")
    return "\n".join([*told, *lines])


def _decoding(contents: Contents, decoding: Mapping[str, Any]) -> str:
    lines = []
    if "audio" in decoding:
        a = decoding["audio"]
        transform = _spell(a["transform"]) or "not stated"
        lines.append(
            f"- sound: (1, mels, frames) = {tuple(a['shape'])}; `x * {a['std']} + {a['mean']}` is log-mel in dB at "
            f"{a['sample_rate_hz']} Hz ({_plain(transform)}). Phases were dropped: a waveform can only be estimated."
        )
    if "frames" in decoding:
        v = decoding["frames"]
        lines.append(
            f"- frames: (channels, height, width) = {tuple(v['shape'])}; `x * std + mean`, by channel, are pixels "
            f"between 0 and 1: mean {v['mean']}, std {v['std']}. Learned frames leave that range: do not clip them."
        )
    if decoding["factor"] > 1:
        lines.append(
            f"- factor {decoding['factor']}: each item packs l × l samples; `avbench.api.decode(items, "
            f"{decoding['factor']})` cuts them out and enlarges them, as training needs."
        )
    wide = {
        str(each.dtype).removeprefix("torch.") for each in contents.set.tensors().values() if each.dtype.itemsize > 4
    }
    lines += [f"- stored as {each} and exported as float32, which networks take" for each in sorted(wide)]
    for name, value in decoding["step_size"].items():
        lines.append(f"- learned step size of modality {name}: {value!r}; train with plain SGD at this learning rate.")
    return "\n".join(lines)


def _class_rows(contents: Contents) -> list[str]:
    return [f"| {number} | {_plain(name)} |" for number, name in enumerate(contents.info.classes)]


def _identity(contents: Contents) -> str:
    return "\n".join(
        [
            f"- content hash of the set: `{contents.set.content_hash}`",
            f"- fingerprint of the dataset: `{contents.info.fingerprint}`",
            f"- bytes that must be stored to train on it: {contents.set.storage_bytes()}",
            f"- exported by avbench {__version__}; `card.json` says the same to programs",
        ]
    )


def _spell(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())


def _plain(text: Any) -> str:
    """Text from files that others wrote, as one line that Markdown and HTML leave as it is."""
    line = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", line)
