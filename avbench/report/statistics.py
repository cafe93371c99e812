"""How sure a mean is, and whether one method beats another: by distillation seeds, which alone are independent.

The networks that judge one distilled set share it, so they are no repetitions of the method. An interval therefore
counts seeds, each by the mean of its networks. Two methods are compared in pairs: under one seed both meet the same
draws and the same evaluation networks, so what those contribute cancels in the difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose, nan, sqrt
from statistics import fmean, stdev

from scipy.stats import t as student

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds and the half width of its 95 % interval; NaN below two seeds."""

    mean: float
    half: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half


def interval(values: Sequence[float]) -> Interval:
    """Student's interval of the mean of independent values."""
    n = len(values)
    if n < 2:
        return Interval(values[0] if values else nan, nan, n)
    quantile = float(student.ppf((1 + LEVEL) / 2, n - 1))
    return Interval(fmean(values), quantile * stdev(values) / sqrt(n), n)


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """The difference first − second over the seeds that both have."""
    return interval([first[seed] - second[seed] for seed in sorted(first.keys() & second.keys())])


def beats(first: Mapping[int, float], second: Mapping[int, float]) -> bool:
    """Whether the first is better beyond the noise: the whole interval of the paired difference lies above 0."""
    difference = paired(first, second)
    # Differences that are all the same have no spread: two variants of one computation, or too few seeds to tell.
    return difference.n >= 2 and difference.low > 0 and not isclose(difference.mean, 0.0, abs_tol=1e-12)
