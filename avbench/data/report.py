"""What a preparation found and what it lost, by reason: ``prepare-report.json`` and its table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tabulate import tabulate

REPORT_NAME = "prepare-report.json"
_EXAMPLES = 2


@dataclass(frozen=True)
class LostSample:
    """One thing that annotations promise and the files do not give.

    Attributes:
        start_s: of the window; ``None``: the whole recording.
        reason: see :class:`avbench.data.windows.Loss`.
    """

    video: str
    split: str
    file: str
    start_s: float | None
    reason: str
    detail: str


@dataclass(frozen=True)
class Report:
    """The outcome of a preparation.

    Attributes:
        listed: recordings by split that the annotations name, removed ones not among them.
        found: those whose file is there.
        samples: by split, as written.
        expected: samples by split of a complete copy, where it is known.
        left_out: classes without a training sample.
    """

    dataset: str
    name: str
    listed: Mapping[str, int]
    found: Mapping[str, int]
    samples: Mapping[str, int]
    expected: Mapping[str, int]
    lost: Sequence[LostSample]
    left_out: Sequence[str] = ()
    notes: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, int]:
        """How many were lost for each reason, the most frequent first."""
        return dict(Counter(each.reason for each in self.lost).most_common())

    def write(self, folder: Path) -> Path:
        path = folder / REPORT_NAME
        values = {"format": 1, **asdict(self), "reasons": self.reasons}
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
        return path


def read_report(folder: Path) -> Report | None:
    """The report beside a store; ``None`` where its dataset writes none."""
    path = folder / REPORT_NAME
    if not path.is_file():
        return None
    values = json.loads(path.read_text(encoding="utf-8"))
    lost = [LostSample(**each) for each in values["lost"]]
    return Report(**{k: v for k, v in values.items() if k not in ("format", "reasons", "lost")}, lost=lost)


def as_text(report: Report) -> str:
    """The report as tables: what there is by split, and what was lost by reason, with examples."""
    rows = []
    for split in report.samples:
        expected = report.expected.get(split)
        rows.append(
            [split, report.listed.get(split, 0), report.found.get(split, 0), report.samples[split], expected or "-"]
        )
    text = tabulate(rows, headers=["split", "listed", "with a file", "samples", "samples of a complete copy"])
    if not report.lost:
        return text + "\n\nNothing was lost."
    lost = []
    for reason, count in report.reasons.items():
        examples = [_example(each) for each in report.lost if each.reason == reason][:_EXAMPLES]
        lost.append([reason, count, "; ".join(examples)])
    return text + "\n\n" + tabulate(lost, headers=["lost for", "count", "such as"])


def _example(lost: LostSample) -> str:
    at = "" if lost.start_s is None else f" at {lost.start_s:g} s"
    return f"{lost.video}{at} ({lost.detail})"
