"""Export as a folder a class: exact arrays, and pictures to look at."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from avbench.formats.writing import NAMES, Contents, Writer, class_folder, preview

TABLE = "labels.csv"


class FolderWriter(Writer):
    """Files that any tool opens; folders sort as class numbers do."""

    name = "folder"
    layout = "a folder a class with .npy and .png, and labels.csv"

    def write(self, contents: Contents, folder: Path) -> None:
        classes = contents.info.classes
        names = [class_folder(number, name, len(classes)) for number, name in enumerate(classes)]
        for label in sorted(set(contents.labels.tolist())):
            (folder / names[label]).mkdir()
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as table:
            rows = None
            for sample in contents.samples():
                for modality, tensor in sample.inputs.items():
                    np.save(folder / names[sample.label] / f"{sample.key}.{NAMES[modality]}.npy", tensor.numpy())
                picture = preview(contents.info, sample.inputs["v"]) if "v" in sample.inputs else None
                if picture is not None:
                    (folder / names[sample.label] / f"{sample.key}.png").write_bytes(picture)
                row = {"folder": names[sample.label], **contents.row(sample)}
                if rows is None:
                    rows = csv.DictWriter(table, list(row))
                    rows.writeheader()
                rows.writerow(row)

    def explain(self, contents: Contents) -> str:
        arrays = "\n".join(
            f"| `CLASS/KEY.{NAMES[modality]}.npy` | {contents.info.shape(modality)}, float32, in network input space |"
            for modality in contents.modalities
        )
        pictures = "| `CLASS/KEY.png` | the frame rounded to 8 bits: to look at, not to train on |\n"
        return (
            "| file | what it is |\n|---|---|\n"
            f"{arrays}\n{pictures if 'v' in contents.modalities else ''}"
            f"| `{TABLE}` | a row for each sample, in order: folder, key, class number and name, item, cell |\n\n"
            "The folders' names begin with the class number, so readers that number classes by the order of their\n"
            "folders, such as torchvision's `ImageFolder` and `DatasetFolder`, number them as avbench does.\n"
        )
