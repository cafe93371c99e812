"""Export of a selection as what it is: which samples of the dataset, and nobody's videos."""

from __future__ import annotations

import csv
from pathlib import Path

from avbench.distilled import SelectedSet
from avbench.errors import RequestError
from avbench.formats.writing import Contents, Writer

TABLE = "references.csv"


class ReferencesWriter(Writer):
    """A table of rows and, where the store is at hand, of the videos they were cut from."""

    name = "references"
    layout = "references.csv: which samples a selection took, without them"
    holds_samples = False

    def check(self, contents: Contents) -> None:
        if not isinstance(contents.set, SelectedSet):
            raise RequestError(
                "--to references: this set was learned, its samples are in no dataset; export it as npz, folder, "
                "webdataset or hf."
            )

    def write(self, contents: Contents, folder: Path) -> None:
        assert isinstance(contents.set, SelectedSet)
        videos = contents.videos or (("", ""),) * contents.items
        with (folder / TABLE).open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(("item", "label", "class", "row", "video", "second"))
            labels, rows = contents.set.labels.tolist(), contents.set.rows.tolist()
            for item, (label, row, video) in enumerate(zip(labels, rows, videos, strict=True)):
                table.writerow((item, label, contents.info.classes[label], row, *video))

    def explain(self, contents: Contents) -> str:
        known = (
            "`video` and `second` say which recording that is and where in it."
            if contents.videos is not None
            else "The store was not at hand, so the columns `video` and `second` are empty."
        )
        return (
            f"`{TABLE}` names the samples and holds none: `row` counts rows of the training split of the store with\n"
            f"the fingerprint above. {known}\n"
        )
