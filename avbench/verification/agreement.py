"""Does an evaluation that was done again agree with the recorded one?

The same set, protocol, seed and network index train the same network from the same draws. On the same kind of machine
its scores are equal to the bit. Elsewhere roundings part. A mean over K networks may then be off by ``z·s/√K`` and one
test sample, ``s`` being the standard deviation of a network's difference, recorded to repeated. It is estimated from
the differences within records, which a number raised on all networks of a record does not change. Where few were
repeated the worst case counts: two independent draws, as far apart as networks trained here are. That is also the most
that ``s`` can be, so that scattering recorded numbers gains nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from statistics import fmean, variance
from typing import Any

from avbench.verification import rebuild

Record = Mapping[str, Any]
BIT_EQUAL, WITHIN, DIFFERS = "bit-equal", "within the spread", "differs"
#: Standard errors that a record's mean, and the mean over all records of a row, may be off. A grid has hundreds of
#: records and tens of rows: by chance alone about one grid in a hundred would show one such record.
_RECORD_ERRORS, _ROW_ERRORS = 4.0, 3.0
#: What is known before anything is measured counts as much as so many more networks: for the networks trained here the
#: binomial variance p(1 − p)/n of a test of n samples, for differences that of two independent draws.
_PRIOR_WEIGHT = 2.0
#: A difference that a metric which is no share may always have, such as a rank.
_PLAIN_FLOOR = 1.0


@dataclass(frozen=True)
class Repeated:
    """A recorded evaluation and the same one done again, over the network indices that both have."""

    key: str
    recorded: Record
    again: Record
    test_samples: int

    @property
    def pairs(self) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
        """(recorded, again) by network."""
        theirs = {network["index"]: network for network in self.recorded["result"]["networks"]}
        return [(theirs[n["index"]], n) for n in self.again["result"]["networks"]]

    @property
    def metrics(self) -> dict[str, bool]:
        """Names of the metrics, and whether each is a share of one."""
        return {metric["name"]: metric["share"] for metric in self.again["result"]["metrics"]}

    def scores(self) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
        """By (metric, part): the recorded scores and those of now, one a network."""
        found: dict[tuple[str, str], tuple[list[float], list[float]]] = {}
        for metric in self.metrics:
            for part in self.pairs[0][1][metric]:
                theirs = [float(old[metric].get(part, float("nan"))) for old, _ in self.pairs]
                found[metric, part] = (theirs, [float(new[metric][part]) for _, new in self.pairs])
        return found

    @property
    def equal(self) -> bool:
        """Whether all scores are the same to the bit."""
        return all(old[metric] == new[metric] for old, new in self.pairs for metric in self.metrics)

    @property
    def rounds_alike(self) -> bool:
        """Whether something shows that both machines round alike: other numbers of a network, else all its scores."""
        besides = [
            (old[name], new[name])
            for old, new in self.pairs
            for name in old.keys() & new.keys() - {"index", *self.metrics}
            if isinstance(new[name], float)
        ]
        return any(old == new for old, new in besides) if besides else self.equal

    @property
    def machine(self) -> Hashable:
        """What decides how numbers are rounded, as far as records tell."""
        return _machine(self.recorded) if _machine(self.recorded) == _machine(self.again) else None


def _machine(record: Record) -> Hashable:
    about, engine = record["environment"], record.get("engine") or {}
    packages = about.get("packages")
    packages = packages if isinstance(packages, dict) else {}
    versions = tuple(str(packages.get(name)) for name in ("torch", "torchvision", "torchaudio", "numpy"))
    hardware = (str(about.get("processor")), str(about.get("gpu")) if engine.get("device") == "cuda" else "")
    return (*versions, *hardware, str(engine.get("device")), engine.get("threads"), engine.get("micro_batch"))


@dataclass(frozen=True)
class Verdict:
    """How one evaluation compares. ``shown`` is its metric that ranks, averaged over parts: recorded, then now."""

    key: str
    verdict: str
    text: str
    networks: int
    shown: tuple[float, float]


def compare(repeated: Sequence[Repeated]) -> list[Verdict]:
    """Judge repeated evaluations together: they tell each other's spread, and whether the machines are alike."""
    alike = {each.machine for each in repeated if each.machine is not None and each.rounds_alike}
    spreads = _spreads(repeated)
    rows = _rows_off(repeated, spreads)
    return [_verdict(each, each.machine in alike, spreads, rows) for each in repeated]


Spreads = Mapping[tuple[Hashable, str, str], float]


def _board(each: Repeated) -> Hashable:
    """Evaluations whose networks scatter alike: one dataset, way of judging and IPC."""
    return (each.again["dataset"]["fingerprint"], rebuild.way(each.again), each.again["ipc"])


def _spreads(repeated: Iterable[Repeated]) -> Spreads:
    """Standard deviation of one network's difference, by board, metric and part."""
    seen: dict[tuple[Hashable, str, str], list[tuple[list[float], list[float], float]]] = defaultdict(list)
    for each in repeated:
        for (metric, part), (theirs, now) in each.scores().items():
            chance = fmean(now) * (1 - fmean(now)) / each.test_samples if each.metrics[metric] else 0.0
            seen[_board(each), metric, part].append((theirs, now, chance))
    return {place: _spread(values) for place, values in seen.items()}


def _spread(values: Sequence[tuple[list[float], list[float], float]]) -> float:
    """Of (recorded, now, binomial variance) by record."""
    independent = 2 * _pooled([now for _, now, _ in values], fmean(chance for _, _, chance in values))
    differences = [[new - old for old, new in zip(theirs, now, strict=True)] for theirs, now, _ in values]
    # A record without some score has no difference; it is found to differ all the same.
    known = [each for each in differences if all(isfinite(value) for value in each)]
    return sqrt(min(independent, _pooled(known, independent)))


def _pooled(groups: Iterable[Sequence[float]], prior: float) -> float:
    """The variance within groups, steadied by a variance expected beforehand."""
    several = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in several)
    within = sum((len(group) - 1) * variance(group) for group in several)
    return (within + _PRIOR_WEIGHT * prior) / (freedom + _PRIOR_WEIGHT)


def _allowed(errors: float, spread: float, networks: int, floor: float) -> float:
    return errors * spread / sqrt(networks) + floor


def _floor(each: Repeated, metric: str) -> float:
    return 1 / each.test_samples if each.metrics[metric] else _PLAIN_FLOOR


def _rows_off(repeated: Sequence[Repeated], spreads: Spreads) -> dict[Hashable, str]:
    """Rows whose mean over several records is off, with what is wrong: a little on each record adds up."""
    rows: dict[Hashable, list[Repeated]] = defaultdict(list)
    for each in repeated:
        rows[_row(each)].append(each)
    found = {}
    for row, members in rows.items():
        for metric, part in members[0].scores() if len(members) > 1 else ():
            theirs = [v for each in members for v in each.scores()[metric, part][0]]
            now = [v for each in members for v in each.scores()[metric, part][1]]
            spread = spreads[_board(members[0]), metric, part]
            allowed = _allowed(_ROW_ERRORS, spread, len(now), _floor(members[0], metric))
            if not abs(fmean(theirs) - fmean(now)) <= allowed:
                found[row] = f"its row: {_told(metric, part, theirs, now, allowed)}"
    return found


def _row(each: Repeated) -> Hashable:
    return (rebuild.configuration(each.again), rebuild.way(each.again))


def _told(metric: str, part: str, theirs: Sequence[float], now: Sequence[float], allowed: float) -> str:
    return f"{metric} {part} is {fmean(theirs):.4f}, here {fmean(now):.4f}; {allowed:.4f} would be in the spread"


def _verdict(each: Repeated, must_be_equal: bool, spreads: Spreads, rows: Mapping[Hashable, str]) -> Verdict:
    scores = each.scores()
    primary = [values for (metric, _), values in scores.items() if metric == each.again["result"]["primary"]]
    shown = (fmean(v for old, _ in primary for v in old), fmean(v for _, new in primary for v in new))
    networks = len(each.pairs)
    if each.equal:
        return Verdict(each.key, BIT_EQUAL, "", networks, shown)
    for (metric, part), (theirs, now) in scores.items():
        spread = spreads[_board(each), metric, part]
        allowed = _allowed(_RECORD_ERRORS, spread, networks, _floor(each, metric))
        if not abs(fmean(theirs) - fmean(now)) <= allowed:  # NaN is not within
            return Verdict(each.key, DIFFERS, _told(metric, part, theirs, now, allowed), networks, shown)
    if must_be_equal:
        text = "this machine rounds like the recorded one, so every score should be equal to the bit"
        return Verdict(each.key, DIFFERS, text, networks, shown)
    if _row(each) in rows:
        return Verdict(each.key, DIFFERS, rows[_row(each)], networks, shown)
    return Verdict(each.key, WITHIN, "", networks, shown)
