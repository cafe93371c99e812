"""Checks of how a plugin behaves in a process that it shares: random state, files, network, settings, stdout."""

from __future__ import annotations

from pathlib import Path

from avbench.testing.bench import store_root
from avbench.testing.observing import Observed, Outcome
from avbench.testing.registry import Failure, register
from avbench.testing.subject import Subject
from avbench.testing.trials import apart
from avbench.testing.watching import GlobalRandomness, Touched

_KINDS = ("method", "architecture", "fusion", "protocol")
_OTHER_SEED = 2


def unlike(one: Outcome, other: Outcome) -> str:
    """In words how two outcomes differ; "" where they do not."""
    for name in sorted(set(one) | set(other)):
        if name not in one or name not in other:
            return f"{name!r} in one of them alone"
        told = apart(one[name], other[name])
        if told:
            return f"{name!r} {told}"
    return ""


@register(*_KINDS, name="repeatable", promise="the same bits when the same is done again")
def repeatable(subject: Subject) -> None:
    """Two uses from scratch under equal seeds."""
    told = unlike(subject.observed().outcome, _again(subject))
    if told:
        advice = "Draw from the streams that are given, and from nothing that differs between two runs."
        raise Failure("two runs with one seed to give the same bits", told, advice)


def _again(subject: Subject) -> Outcome:
    """The outcome of another use, under the same shared generators; remembered."""
    if "again" not in subject.memo:
        with GlobalRandomness(1):
            subject.memo["again"] = dict(subject.exercise())
    found: Outcome = subject.memo["again"]
    return found


@register(*_KINDS, name="global-random-state", promise="no use of the random state that a process shares")
def global_random_state(subject: Subject) -> None:
    """The generators of torch, numpy and random: neither used for a result nor left changed."""
    one, other = subject.observed(), subject.observed(_OTHER_SEED)
    advice = "Draw from the streams that are given; leave torch.manual_seed, np.random and random alone."
    told = unlike(one.outcome, other.outcome)
    if told and not unlike(one.outcome, _again(subject)):
        raise Failure("the result not to depend on the shared generators", told, advice)
    touched = sorted({*one.random, *other.random})
    if touched:
        raise Failure("the shared generators as they were", f"{', '.join(touched)} changed", advice)


@register(*_KINDS, "dataset", name="files", promise="no file written elsewhere, no network; processes are told")
def files(subject: Subject) -> str:
    """What is opened for writing, made, moved or removed; what is connected to; a note of processes."""
    seen = subject.observed()
    touched = seen.touched
    written = [path for path in touched.written if not _allowed(path, subject)]
    if written or seen.left:
        found = ", ".join(sorted({*written, *seen.left})[:3])
        raise Failure("no file written", found, "Keep it in memory: the runner writes results, states and logs.")
    if touched.network:
        found = ", ".join(sorted(set(touched.network))[:3])
        raise Failure("no connection", found, "A run must work without network: let the user bring what it needs.")
    return _processes(touched)


def _processes(touched: Touched) -> str:
    return f"it starts processes: {', '.join(sorted(set(touched.processes))[:3])}" if touched.processes else ""


def _allowed(path: str, subject: Subject) -> bool:
    """The kit's own folders, and what Python writes when it imports a module."""
    place = Path(path)
    inside = any(root in (place, *place.parents) for root in (subject.bench.root, store_root()))
    return inside or "__pycache__" in place.parts or path.startswith(("/dev/", "/proc/"))


@register(*_KINDS, name="stdout", promise="nothing printed on stdout, where data goes")
def stdout(subject: Subject) -> None:
    """What is printed."""
    printed = subject.observed().printed
    if printed.strip():
        line = printed.strip().splitlines()[0][:80]
        raise Failure("nothing on stdout", repr(line), "Return what is worth knowing as metrics or notes.")


@register(*_KINDS, "dataset", name="settings", promise="the settings of torch and of the process as they were")
def process_settings(subject: Subject) -> None:
    """Default dtype, threads, gradient mode, current folder, environment and the like."""
    changed = subject.observed().changed
    if changed:
        advice = "Other cells run in the same process: put it back, or do without."
        raise Failure("the settings of the process as they were", "; ".join(changed), advice)


@register("method", name="test-data", promise="no access to validation or test samples")
def test_data(subject: Subject) -> None:
    """No file of those splits is opened, and other test samples change no bit."""
    seen = subject.observed()
    _not_opened(seen)
    told = unlike(seen.outcome, subject.observed(data="twin").outcome)
    if told and not unlike(seen.outcome, _again(subject)):
        advice = "Use context.train alone."
        raise Failure("the same set where only validation and test samples differ", told, advice)


def _not_opened(seen: Observed) -> None:
    root = store_root()
    for path in (*seen.touched.read, *seen.touched.written):
        place = Path(path)
        if root in place.parents and {"test", "val"} & set(place.relative_to(root).parts):
            found = "/".join(place.parts[-2:])
            raise Failure("no file of the splits test and val opened", found, "Use context.train alone.")
