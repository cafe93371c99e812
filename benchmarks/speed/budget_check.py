"""What budget.py predicts held against what whole steps take, in processes of their own on a CPU. Used by budget.py.

Steps of real methods on a generated store at the paper's sizes, small enough for a CPU: once with the paper's
networks, where what passes through them decides, and once with networks 2 wide and many items, where what is held of
the items does. There the prediction counts items alone.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from budget_cells import METHODS, Cell, Pieces, cell
from budget_pieces import (
    OP,
    PAPER,
    PIECES,
    TINY,
    Piece,
    as_a_worker,
    context_of,
    generated,
    in_a_process,
    peak_of,
    sized,
)

from avbench.api import Classifier, Method, Store, Streams
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench_methods.experts import after
from avbench_methods.mtt import expert_name

CPU = torch.device("cpu")
CLASSES, REAL = 2, 6
PAPER_WIDTH = ConvNetConfig().width
NOTHING: Pieces = {m: dict.fromkeys(PIECES, Piece(0, 0, 0)) for m in "av"}


@dataclass(frozen=True)
class Trial:
    """Steps of a method: how many, IPC, micro-batch, width of the networks, options beside the published ones."""

    method: str
    steps: int
    ipc: int
    micro_batch: int
    width: int
    options: Mapping[str, Any]


#: Enough steps for gradient and momentum to be there before the last one; dsa makes two outer ones in each.
_OF = {
    ("dsa", 1): {"batch_real": REAL, "outer": 2, "inner": 1, "augment": OP},
    ("mtt", 2): {"experts": 1, "inner_visual": 2, "inner_audio": 4, "lr_audio": 1.0, "lr_visual": 1.0, "augment": OP},
    ("dm", 2): {"batch_real": REAL, "augment": OP},
}
TRIALS = tuple(
    Trial(method, steps, ipc, micro_batch, width, options)
    for ipc, micro_batch, width in ((6, 5, PAPER_WIDTH), (60, 2, 2))
    for (method, steps), options in _OF.items()
)


def predicted(trial: Trial, pieces: Pieces) -> float:
    """The peak of a trial's steps in bytes: the start and the finish are no steps."""
    info = sized(PAPER, (REAL,) * CLASSES)
    plain = cell(trial.method, info, trial.ipc, pieces if trial.width == PAPER_WIDTH else NOTHING, trial.micro_batch)
    given = replace(plain, config=replace(plain.config, **trial.options), on_gpu=False)
    return max(value for name, value in given.phases().items() if name not in ("start", "finish"))


def made(trial: Trial, store: Store) -> Method:
    """The method, its experts drawn at random."""
    architecture = ConvNetArchitecture(ConvNetConfig(width=trial.width))
    context = context_of(store, "av", trial.ipc, trial.micro_batch, CPU, architecture=architecture)
    plain: Cell = cell(trial.method, store.info, trial.ipc, NOTHING, trial.micro_batch)
    config = replace(plain.config, **trial.options, init="noise")
    if trial.method == "mtt":
        experts = {}
        for m in "av":
            network = Classifier(architecture, store.info, m)
            points = [
                network.flatten(network.draw(Streams(0), "expert", step=e)) for e in range(config.last_target + 1)
            ]
            experts[expert_name(m, 0)] = {after(epoch): point for epoch, point in enumerate(points)}
        context = replace(context, prerequisites=experts)
    return METHODS[trial.method](config, context)


def take(trial: Trial) -> None:
    """In a process of its own: print the peak of a trial's steps in bytes."""
    as_a_worker()
    with tempfile.TemporaryDirectory() as folder:
        tiny, store = (generated(Path(folder), sized(info, (REAL,) * CLASSES)) for info in (TINY, PAPER))
        made(replace(trial, ipc=2), tiny).step(0)

        def build() -> Any:
            method = made(trial, store)
            return lambda: [method.step(k) for k in range(trial.steps)]

        print(json.dumps({"peak": peak_of(build, CPU)[0]}))


def compare(pieces: Pieces) -> list[dict[str, Any]]:
    """Predicted and measured peaks of all trials."""
    found = []
    for number, trial in enumerate(TRIALS):
        measured = in_a_process(__file__, str(number))["peak"]
        about = {"method": trial.method, "ipc": trial.ipc, "micro_batch": trial.micro_batch, "width": trial.width}
        found.append({**about, "predicted": predicted(trial, pieces), "measured": measured})
        print(found[-1], file=sys.stderr, flush=True)
    return found


if __name__ == "__main__":
    take(TRIALS[int(sys.argv[1])])
