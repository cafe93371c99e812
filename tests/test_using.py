"""The training loop that docs/using.md prints, run as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from conftest import Small

import avbench
from avbench.api import (
    DistilledSet,
    EvaluationContext,
    NoOptions,
    SelectedSet,
    Store,
    Streams,
    TestSet,
    TrainSet,
)
from avbench.nets.fusion import Ensemble
from avbench.protocols.recognition import QuickConfig, RecognitionQuick

PAGE = Path(__file__).resolve().parent.parent / "docs" / "using.md"
#: One network against the mean of two, drawn otherwise and without augmentation: over seeds it lay 3 % below at most.
TOLERANCE = 0.05


class Judged(Small):
    """As the tiny stores, with enough test samples to compare accuracies."""

    COUNTS: ClassVar[dict[str, tuple[int, ...]]] = {**Small.COUNTS, "test": (75, 75, 75, 75)}


def evaluated(small: Small, store: Store, path: Path) -> float:
    """Mean accuracy of two networks of the suite's own evaluation."""
    given, cpu = avbench.load(path), torch.device("cpu")
    context = EvaluationContext(
        dataset=store.info,
        samples=given.samples(TrainSet(store, cpu)),
        test=TestSet(store, cpu),
        modality="av",
        architecture=small.architecture(16),
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=2,
        device=cpu,
        dtype=torch.float32,
        micro_batch=256,
    )
    evaluation = RecognitionQuick(QuickConfig()).evaluation(context)
    for k in range(evaluation.steps):
        evaluation.step(k)
    return float(np.mean([each["accuracy"]["av"] for each in evaluation.result()["networks"]]))


def distilled(small: Small, store: Store, kind: str) -> DistilledSet:
    context = small.context(ipc=3, channels=3, store=store)
    if kind == "selected":
        rows = torch.cat([torch.from_numpy(context.train.class_rows(cls)[:3]) for cls in range(4)])
        return SelectedSet(store.info, "av", torch.arange(4).repeat_interleave(3), rows)
    method = small.method("dm", context, lr=1.0, factor=2)
    for k in range(3):
        method.step(k)
    return method.distilled()


@pytest.mark.parametrize(("kind", "noise"), [("learned", 1.5), ("selected", 2.5)])
def test_the_training_loop_of_the_page_reaches_the_evaluator(
    tmp_path: Path, kind: str, noise: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    small = Judged(tmp_path / "data")
    store = small.write("noisy", 3, noise=noise)
    distilled(small, store, kind).save(tmp_path / "set")
    expected = evaluated(small, store, tmp_path / "set")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.setattr(sys, "argv", ["train.py", str(tmp_path / "set"), str(tmp_path / "data")])
    with torch.random.fork_rng():
        exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
    (accuracy,) = re.findall(r"accuracy ([01]\.\d+)", capsys.readouterr().out)
    assert expected > 0.5  # well above the chance of 0.25
    assert float(accuracy) >= expected - TOLERANCE
