"""Export as one ``.npz``: plain arrays, which ``avbench evaluate`` and anything that knows numpy read."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from avbench.formats.writing import Contents, Writer

FILE = "distilled.npz"
_ARRAYS = {"a": "audio", "v": "frames"}
#: The earliest that a zip archive knows: the same set gives the same bytes, whenever it is exported.
_TIME = (1980, 1, 1, 0, 0, 0)


class NpzWriter(Writer):
    """All samples in one file, without pickling."""

    name = "npz"
    layout = "one .npz with audio, frames, labels"

    def write(self, contents: Contents, folder: Path) -> None:
        with zipfile.ZipFile(folder / FILE, "w", zipfile.ZIP_STORED) as archive:
            for modality in contents.modalities:
                with _member(archive, _ARRAYS[modality]) as file:
                    _stream(contents, modality, file)
            for name, array in _facts(contents).items():
                with _member(archive, name) as file:
                    np.lib.format.write_array(file, array, allow_pickle=False)

    def explain(self, contents: Contents) -> str:
        lines = ["| array in `distilled.npz` | shape | what it is |", "|---|---|---|"]
        for modality in contents.modalities:
            shape = (contents.count, *contents.info.shape(modality))
            lines.append(f"| `{_ARRAYS[modality]}` | {shape} | float32, in network input space |")
        for name, array in _facts(contents).items():
            lines.append(f"| `{name}` | {array.shape} | {_MEANING[name]} |")
        inputs = ", ".join(f'"{modality}": file["{_ARRAYS[modality]}"]' for modality in contents.modalities)
        return "\n".join(lines) + (
            f'\n\n```python\nimport numpy as np\n\nwith np.load("{FILE}") as file:\n'
            f'    inputs, labels = {{{inputs}}}, file["labels"]\n```\n\n'
            "With a prepared store of the dataset, avbench judges it as any other set:\n\n"
            f"```\navbench evaluate {FILE} --dataset {contents.info.name} --frames network --audio network\n```\n"
        )


_MEANING = {
    "labels": "int64, class numbers",
    "classes": "the names of the classes, by number",
    "factor": "l: each sample still packs l × l samples; 1: none",
    "audio_mean": "in dB: what was subtracted from the log-mel values",
    "audio_std": "in dB: what they were divided by then",
    "frame_mean": "by channel: what was subtracted from pixels between 0 and 1",
    "frame_std": "by channel: what they were divided by then",
    "step_size_a": "the learning rate that was learned with the audio samples",
    "step_size_v": "the learning rate that was learned with the frames",
}


def _facts(contents: Contents) -> dict[str, npt.NDArray[Any]]:
    """The small arrays, by name."""
    info = contents.info
    found: dict[str, npt.NDArray[Any]] = {
        "labels": contents.labels.numpy(),
        "classes": np.array(info.classes, dtype=np.str_),
        "factor": np.array(contents.factor_left),
    }
    if "a" in contents.modalities:
        found |= {"audio_mean": np.array(info.audio_mean), "audio_std": np.array(info.audio_std)}
    if "v" in contents.modalities:
        found |= {"frame_mean": np.array(info.frame_mean), "frame_std": np.array(info.frame_std)}
    return found | {f"step_size_{name}": np.array(value) for name, value in contents.step_size.items()}


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    # Sizes are not known ahead, and an array may pass 4 GiB.
    return archive.open(zipfile.ZipInfo(f"{name}.npy", _TIME), "w", force_zip64=True)


def _stream(contents: Contents, modality: str, file: IO[bytes]) -> None:
    """One modality of all samples as an .npy; one sample at a time is in memory."""
    shape = (contents.count, *contents.info.shape(modality))
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    for sample in contents.samples():
        file.write(sample.inputs[modality].contiguous().numpy().astype("<f4", copy=False).tobytes())
