"""The script behind the finding that AVDD with equal weights is DM with a larger step."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

FINDINGS = Path(__file__).parents[1] / "benchmarks" / "findings"


@pytest.fixture(scope="module")
def trajectories() -> ModuleType:
    spec = importlib.util.spec_from_file_location("finding_trajectories", FINDINGS / "trajectories.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_equal_weights_stay_together_and_the_controls_part(
    small, trajectories: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    trajectories.main(["--data", str(small.data), "--dataset", "small3", "--steps", "3"])
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    apart = {(name, precision): float(last) for name, precision, *_, last in rows}
    assert len(apart) == 2 * len(trajectories.PAIRS)
    for (name, precision), value in apart.items():
        icm, cgm, times = trajectories.PAIRS[name]
        if icm == cgm and times == 1 + 2 * icm:
            assert value <= (1e-10 if precision == "float64" else 1e-3)
        else:
            assert value > 0.05
