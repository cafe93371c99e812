"""Export for Hugging Face ``datasets``: Parquet files that ``load_dataset(FOLDER)`` reads, also without network.

Written with pyarrow alone. How ``datasets`` is to understand the columns stands in the schema's metadata, where that
library itself keeps it.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from avbench.errors import RequestError
from avbench.formats.writing import NAMES, Contents, Sample, Writer, preview

#: How much a file holds, about.
FILE_BYTES = 512 << 20
_ROW_GROUP_BYTES = 32 << 20


class HuggingFaceWriter(Writer):
    """Parquet with typed columns, and a card that the Hub understands."""

    name = "hf"
    layout = "Parquet for Hugging Face datasets (extra: export)"

    def check(self, contents: Contents) -> None:
        try:
            importlib.import_module("pyarrow.parquet")
        except ImportError:
            raise RequestError(
                "--to hf writes Parquet and needs pyarrow, which can't be imported here: pip install 'avbench[export]'."
            ) from None

    def write(self, contents: Contents, folder: Path) -> None:
        pyarrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
        schema = _schema(contents, pyarrow)
        (folder / "data").mkdir()
        in_group = max(1, _ROW_GROUP_BYTES // contents.sample_bytes)
        samples, shares = contents.samples(), contents.shares(FILE_BYTES)
        for number, count in enumerate(shares):
            path = folder / "data" / f"train-{number:05}-of-{len(shares):05}.parquet"
            with parquet.ParquetWriter(path, schema) as writer:
                for group in _groups(islice(samples, count), in_group):
                    writer.write_table(_table(contents, group, schema, pyarrow))

    def header(self, contents: Contents) -> str:
        lines = ["---", f"pretty_name: {json.dumps(f'{contents.info.name}, distilled')}", "license: other"]
        lines += [f"license_name: {json.dumps(contents.info.licence or 'not stated')}"]
        lines += ["tags:", "- dataset-distillation", "- audio-visual", "configs:", "- config_name: default"]
        lines += ["  data_files:", "  - split: train", "    path: data/train-*.parquet", "---", ""]
        return "\n".join(lines) + "\n"

    def explain(self, contents: Contents) -> str:
        arrays = "\n".join(
            f"| `{NAMES[modality]}` | {contents.info.shape(modality)}, float32, in network input space |"
            for modality in contents.modalities
        )
        picture = "| `preview` | the frame rounded to 8 bits: to look at, not to train on |\n"
        return (
            "| column of `data/train-*.parquet` | what it is |\n|---|---|\n"
            f"{arrays}\n| `label` | class number, with the classes' names |\n"
            "| `key`, `item`, `cell` | number of the sample, of the stored item, of the cell in it |\n"
            f"{picture if _pictures(contents) else ''}\n"
            "```python\nfrom datasets import load_dataset\n\n"
            'samples = load_dataset("FOLDER", split="train").with_format("torch")\n```\n'
        )


def _pictures(contents: Contents) -> bool:
    return "v" in contents.modalities and contents.info.frame_shape[0] in (1, 3)


def _schema(contents: Contents, pyarrow: Any) -> Any:
    """Columns, with the features that ``datasets`` takes from the metadata."""
    fields = [("key", pyarrow.string()), ("label", pyarrow.int64()), ("item", pyarrow.int64())]
    fields.append(("cell", pyarrow.int64()))
    features: dict[str, Any] = {name: {"dtype": str(kind), "_type": "Value"} for name, kind in fields}
    features["label"] = {"names": list(contents.info.classes), "_type": "ClassLabel"}
    nested = pyarrow.list_(pyarrow.list_(pyarrow.list_(pyarrow.float32())))
    for modality in contents.modalities:
        fields.append((NAMES[modality], nested))
        shape = list(contents.info.shape(modality))
        features[NAMES[modality]] = {"shape": shape, "dtype": "float32", "_type": "Array3D"}
    if _pictures(contents):
        fields.append(("preview", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])))
        features["preview"] = {"_type": "Image"}
    if contents.videos is not None:
        for name in ("video", "second"):
            fields.append((name, pyarrow.string()))
            features[name] = {"dtype": "string", "_type": "Value"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pyarrow.schema(fields, metadata=metadata)


def _groups(samples: Iterator[Sample], size: int) -> Iterator[Sequence[Sample]]:
    while group := list(islice(samples, size)):
        yield group


def _table(contents: Contents, samples: Sequence[Sample], schema: Any, pyarrow: Any) -> Any:
    rows = [contents.row(sample) for sample in samples]
    columns = []
    for field in schema:
        modality = next((m for m in contents.modalities if NAMES[m] == field.name), None)
        if modality is not None:
            stacked = np.stack([sample.inputs[modality].numpy() for sample in samples])  # (B, channels, height, width)
            columns.append(_nested(stacked, pyarrow))
        elif field.name == "preview":
            pictures = [preview(contents.info, sample.inputs["v"]) for sample in samples]
            columns.append(pyarrow.array([{"bytes": each, "path": None} for each in pictures], field.type))
        else:
            columns.append(pyarrow.array([row[field.name] for row in rows], field.type))
    return pyarrow.Table.from_arrays(columns, schema=schema)


def _nested(array: Any, pyarrow: Any) -> Any:
    """(B, C, H, W) as lists of lists of lists, without passing through Python numbers."""
    found = pyarrow.array(array.reshape(-1))
    for axis in (3, 2, 1):
        count = int(np.prod(array.shape[:axis]))
        offsets = np.arange(count + 1, dtype=np.int32) * array.shape[axis]
        found = pyarrow.ListArray.from_arrays(offsets, found)
    return found
