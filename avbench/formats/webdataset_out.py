"""Export as WebDataset: tar shards in which files of one sample follow each other and share a key."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from avbench.formats.writing import NAMES, Contents, Sample, Writer

#: How much a shard holds, about.
SHARD_BYTES = 256 << 20


class WebDatasetWriter(Writer):
    """Shards to stream from; the same set gives the same bytes."""

    name = "webdataset"
    layout = "tar shards of key.audio.npy, key.frame.npy, key.cls, key.json"

    def write(self, contents: Contents, folder: Path) -> None:
        samples = contents.samples()
        for number, count in enumerate(contents.shares(SHARD_BYTES)):
            with tarfile.open(folder / f"shard-{number:06}.tar", "w", format=tarfile.USTAR_FORMAT) as shard:
                for sample in islice(samples, count):
                    for suffix, content in _files(contents, sample):
                        _add(shard, f"{sample.key}.{suffix}", content)

    def explain(self, contents: Contents) -> str:
        arrays = "\n".join(
            f"| `KEY.{NAMES[modality]}.npy` | {contents.info.shape(modality)}, float32, in network input space |"
            for modality in contents.modalities
        )
        wanted = ", ".join(f'"{NAMES[modality]}.npy"' for modality in contents.modalities)
        return (
            "| in `shard-000000.tar` and on | what it is |\n|---|---|\n"
            f"{arrays}\n| `KEY.cls` | the class number, in digits |\n"
            "| `KEY.json` | class number and name, item, cell |\n\n"
            "Samples lie in the order of their classes: shuffle over all of them.\n\n"
            '```python\nimport webdataset\n\nsamples = webdataset.WebDataset("shard-000000.tar", shardshuffle=False)\n'
            f'samples = samples.shuffle({contents.count}).decode().to_tuple({wanted}, "cls")\n```\n'
        )


def _files(contents: Contents, sample: Sample) -> Iterator[tuple[str, bytes]]:
    """(suffix, content) of a sample's files."""
    for modality, tensor in sample.inputs.items():
        buffer = io.BytesIO()
        np.save(buffer, tensor.numpy())
        yield f"{NAMES[modality]}.npy", buffer.getvalue()
    yield "cls", str(sample.label).encode()
    yield "json", json.dumps(contents.row(sample)).encode()


def _add(shard: tarfile.TarFile, name: str, content: bytes) -> None:
    # TarInfo's own defaults: time 0, no owner, so the bytes depend on nothing but the samples.
    about = tarfile.TarInfo(name)
    about.size = len(content)
    shard.addfile(about, io.BytesIO(content))
