"""``--init-weights FILE``: from a file to protocols whose networks start from its weights. Imports torch."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

from avbench.errors import RequestError
from avbench.grammar import Variant, canonical
from avbench.grid import Request, judging
from avbench.plugin import Setting
from avbench.presets import preset
from avbench.results import RunDirectory
from avbench.weights import GivenWeights, check_fits, keep_weights, read_weights

_OPTION = "init_weights"


def start_from(request: Request, file: Path | None, modalities: Iterable[str], out: Path | None) -> Request:
    """The request with every file of weights replaced by the key of its content.

    A protocol starts from ``file``, or from the one that its own option names; distilling and what it requires do not.

    Args:
        modalities: those in which sets will be judged.
        out: the run directory that the weights are copied into; ``None`` for a dry run.

    Raises:
        RequestError: a file that can't be read, or weights that do not fit a network of this request.
    """
    for owner, options in request.settings.items():
        if _OPTION in options:
            raise RequestError(
                f"--set {owner}.{_OPTION}: it would reach the networks that methods require, too; say --init-weights."
            )
    protocols = request.protocols or (_usual_protocols(request) if file else ())
    default = {_OPTION: str(file)} if file else {}
    wanted = [canonical(variant.name, {**default, **variant.given}) for variant in protocols]
    given = {path: read_weights(Path(path)) for v in wanted if (path := v.given.get(_OPTION))}
    if not given:
        return request
    settled = replace(request, protocols=tuple(_by_key(variant, given) for variant in wanted))
    _check(settled, {each.key: each for each in given.values()}, tuple(modalities))
    if out is not None:
        for each in given.values():
            keep_weights(each, RunDirectory(out))
    return settled


def _usual_protocols(request: Request) -> tuple[Variant, ...]:
    """The preset's protocol, where the datasets agree in it."""
    names = {preset(request.preset or info.preset).protocol for info in request.datasets}
    if len(names) > 1:
        raise RequestError(
            f"--init-weights: the datasets' presets differ in their protocol ({', '.join(sorted(names))}); "
            "say --protocol or --preset."
        )
    return tuple(Variant(name) for name in names)


def _by_key(variant: Variant, given: Mapping[str, GivenWeights]) -> Variant:
    path = variant.given.get(_OPTION)
    return canonical(variant.name, {**variant.given, _OPTION: given[path].key}) if path else variant


def _check(request: Request, given: Mapping[str, GivenWeights], modalities: tuple[str, ...]) -> None:
    """Hold the weights to every network that will start from them; modalities without are told once."""
    told: set[str] = set()
    for info, modality, ipc in product(request.datasets, modalities, request.ipcs or (1,)):
        chosen = preset(request.preset or info.preset)
        _, judges = judging(request, chosen, Setting(info, ipc, modality, chosen.name))
        for networks in judges:
            key = networks.protocol.options.get(_OPTION)
            if not key:
                continue
            started = check_fits(given[key], networks.architecture, info, modality)
            drawn = modality.replace(started, "")
            if drawn and key not in told:
                told.add(key)
                print(
                    f"note: {given[key].path} has weights of {started!r} alone; the encoder of {drawn!r} is drawn as "
                    "usual, and the records say so.",
                    file=sys.stderr,
                )
