"""What stands side by side without being comparable: said aloud, so that nobody reads it across."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avbench.report.board import Board


def mixed(boards: Sequence[Board]) -> list[str]:
    """One sentence for each dataset name with several fingerprints, protocol or method with several versions."""
    return [*_datasets(boards), *_protocols(boards), *_methods(boards)]


def _datasets(boards: Sequence[Board]) -> Iterator[str]:
    found: dict[str, dict[str, None]] = {}
    for board in boards:
        found.setdefault(board.about["dataset"], {})[board.about["fingerprint"][:8]] = None
    for name, fingerprints in found.items():
        if len(fingerprints) > 1:
            yield (
                f"{name} was prepared in {len(fingerprints)} ways ({', '.join(fingerprints)}): "
                "other samples, so numbers are not to be compared from one board to the other."
            )


def _protocols(boards: Sequence[Board]) -> Iterator[str]:
    found: dict[tuple[str, str], set[int]] = {}
    for board in boards:
        place = (board.about["dataset"], board.about["protocol"])
        found.setdefault(place, set()).add(board.about["protocol_version"])
    for (dataset, protocol), versions in found.items():
        if len(versions) > 1:
            yield (
                f"{dataset} was judged by {len(versions)} versions of {protocol} ({_listed(versions)}): "
                "numbers are not to be compared from one board to the other."
            )


def _methods(boards: Sequence[Board]) -> Iterator[str]:
    found: dict[str, set[int]] = {}
    for board in boards:
        for spellings, version in zip(board.spellings, board.rows["version"], strict=True):
            for label in spellings:
                found.setdefault(label, set()).add(int(version))
    for label, versions in found.items():
        if len(versions) > 1:
            yield f"{label} was distilled by versions {_listed(versions)} of its plugin: a row each."


def _listed(versions: set[int]) -> str:
    return ", ".join(map(str, sorted(versions)))
