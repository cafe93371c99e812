"""Random streams: independent, reproducible, and the same for ever under one scheme number."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest

from avbench.randomness import STREAM_SCHEME, Streams

PURPOSES = ("real batch", "siamese", "matching network a", "matching network v", "initial")


def first(seed: int, purpose: str, **where: int) -> int:
    return int(Streams(seed)(purpose, **where).integers(2**63))


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    streams = Streams(0)
    alone = streams("real batch", step=5, cls=2).random(10)
    streams("siamese", step=5).random(1000)
    streams("real batch", step=5, cls=1).permutation(100)
    np.random.default_rng(0).random()
    assert np.array_equal(streams("real batch", step=5, cls=2).random(10), alone)
    assert np.array_equal(Streams(0)("real batch", step=5, cls=2).random(10), alone)


def test_seeds_purposes_steps_and_classes_all_give_other_streams() -> None:
    keys = list(itertools.product((0, 1, 2), PURPOSES, (-1, 0, 1, 10, 11), (-1, 0, 1, 10, 11)))
    found = {first(seed, purpose, step=step, cls=cls) for seed, purpose, step, cls in keys}
    assert len(found) == len(keys)


def test_the_authors_fault_is_not_ours_seed_and_step_do_not_add_up() -> None:
    """Experiment e at step k must not draw what experiment 0 draws at step k + e."""
    shifted = {first(0, "siamese", step=k) for k in range(50)}
    assert not shifted & {first(1, "siamese", step=k) for k in range(50)}


def test_an_omitted_step_or_class_is_minus_one() -> None:
    assert first(0, "initial") == first(0, "initial", step=-1, cls=-1)
    assert first(0, "initial") != first(0, "initial", step=0) != first(0, "initial", cls=0)


def test_streams_are_uncorrelated() -> None:
    draws = np.stack([Streams(0)("real batch", step=k).standard_normal(2000) for k in range(20)])
    correlation = np.corrcoef(draws) - np.eye(20)
    assert np.abs(correlation).max() < 5 / np.sqrt(2000)


def test_the_derivation_is_sha_256_into_a_philox_key() -> None:
    """key = first 16 bytes, little-endian, of SHA-256 of "scheme/seed/purpose/step/class"."""
    digest = hashlib.sha256(b"1/7/real batch/3/2").digest()
    own = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
    assert np.array_equal(own.random(5), Streams(7)("real batch", step=3, cls=2).random(5))


# Written down from the derivation above (NumPy's Philox-4x64-10). If they change, every published result does:
# raise STREAM_SCHEME, which is part of every key, and write the new ones down.
GOLDEN = {
    ("real batch", 3, 2): [6427044440140031546, 9307667632420244358, 8312311722682199575],
    ("siamese", 0, -1): [1897474771635063625, 14056768330952716232, 7702843098062964543],
}


@pytest.mark.parametrize(("purpose", "step", "cls"), GOLDEN)
def test_golden_values(purpose: str, step: int, cls: int) -> None:
    assert STREAM_SCHEME == 1
    rng = Streams(7)(purpose, step=step, cls=cls)
    assert [int(value) for value in rng.bit_generator.random_raw(3)] == GOLDEN[purpose, step, cls]
