"""The subjects of each kind. Importing this module imports all that register checks."""

from __future__ import annotations

from avbench.testing import (
    architectures,
    common,
    datasets,
    fusions,
    hooks,
    method_runs,
    method_sets,
    method_states,
    process,
    protocols,
)
from avbench.testing.judging import Judging
from avbench.testing.subject import Subject
from avbench.testing.trials import Trial

__all__ = ["common", "hooks", "method_runs", "method_sets", "method_states", "process", "protocols", "subject_class"]

_CLASSES: dict[str, type[Subject]] = {
    "method": Trial,
    "architecture": architectures.Encoders,
    "fusion": fusions.Heads,
    "protocol": Judging,
    "dataset": datasets.Preparation,
}


def subject_class(kind: str) -> type[Subject]:
    """The class of a kind's subjects."""
    return _CLASSES.get(kind, Subject)
