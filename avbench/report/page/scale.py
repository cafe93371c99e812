"""From values to pixels: linear and logarithmic scales, and where their ticks stand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10


@dataclass(frozen=True)
class Scale:
    """Maps ``low`` … ``high`` to the pixels ``start`` … ``end``; what has no extent goes to the middle."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """The pixel of a value; a logarithmic scale takes positive ones only."""
        low, high, value = (log10(v) if self.logarithmic else v for v in (self.low, self.high, value))
        share = (value - low) / (high - low) if high > low else 0.5
        return self.start + share * (self.end - self.start)


def reach(values: Iterable[float]) -> tuple[float, float]:
    """The least and the greatest of the finite values; (0, 1) where there are none."""
    finite = [value for value in values if isfinite(value)]
    return (min(finite), max(finite)) if finite else (0.0, 1.0)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round numbers that enclose ``low`` … ``high``: multiples of 1, 2 or 5 times a power of ten."""
    extent = (high - low) or abs(high) or 1.0
    rough = extent / about
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    # One step at least, so that a single value has an axis too.
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten that enclose ``low`` … ``high``, both positive; within two decades also their 2 and 5 fold."""
    first, last = floor(log10(low)), ceil(log10(high))
    factors = (1, 2, 5) if last - first <= 2 else (1,)
    all_of_them = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = max(value for value in all_of_them if value <= low)
    above = min((value for value in all_of_them if value >= high), default=all_of_them[-1])
    return [value for value in all_of_them if below <= value <= above]
