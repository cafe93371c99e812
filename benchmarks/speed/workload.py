"""Generated stores and the cells that are timed on them, for avbench and, with the same draws, for the plain readings.

On a CPU the shapes are the paper's and the counts smaller, which each script names; on a GPU both are the paper's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from budget_pieces import PAPER, TINY, generated, sized
from comparing import Run
from plain.matching import Drawn, PlainCell
from plain.network import form_of, forward_flop

from avbench.api import Augmentation, Context, LearnedSet, Method, Setting, Store, Streams, TrainSet
from avbench.jobs import default_micro_batch
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.options import resolve
from avbench_methods.avdd import AudioVisualDistillation
from avbench_methods.dc import DatasetCondensation
from avbench_methods.dm import DistributionMatching
from avbench_methods.dsa import SiameseCondensation
from avbench_methods.matching import MatchingMethod

METHODS: dict[str, type[Method]] = {
    "dm": DistributionMatching,
    "avdd": AudioVisualDistillation,
    "dc": DatasetCondensation,
    "dsa": SiameseCondensation,
}
#: Filters of a convolution.
WIDTHS = {"paper": 128, "small": 8}
SHAPES = {"paper": PAPER, "small": TINY}
HEAD_STD = 1e-4


def store_of(folder: Path, run: Run, classes: int, rows: int, test_rows: int = 1) -> Store:
    """A store of noise: ``rows`` training and ``test_rows`` test samples a class."""
    info = sized(SHAPES[run.size], (rows,) * classes)
    return generated(folder, replace(info, counts={**info.counts, "test": (test_rows,) * classes}))


def context_of(store: Store, run: Run, ipc: int, modality: str = "av") -> Context:
    """What a worker gives a method, for all classes and with nothing shared."""
    return Context(
        setting=Setting(store.info, ipc, modality, "paper"),
        train=TrainSet(store, run.at),
        streams=Streams(0),
        architecture=ConvNetArchitecture(ConvNetConfig(width=WIDTHS[run.size])),
        prerequisites={},
        device=run.at,
        dtype=torch.float32,
        micro_batch=default_micro_batch(SHAPES[run.size]),
        classes=tuple(range(len(store.info.classes))),
    )


def method_of(name: str, context: Context, **options: object) -> Method:
    """A method with its published options, started from random samples."""
    method = METHODS[name]
    layers = [(method.defaults(context.setting), "published"), ({"init": "random", **options}, "benchmark")]
    config = resolve(method.Config, name, layers).config
    method.check(config, context.setting)
    return method(config, context)


def items_of(method: Method) -> dict[str, torch.Tensor]:
    """The items as they stand, by modality."""
    found = method.distilled()
    assert isinstance(found, LearnedSet)
    return dict(found.items)


def drawn(context: Context, batch_real: int, augment: str, steps: int) -> list[Drawn]:
    """What distribution matching draws at steps 0 … ``steps`` - 1."""
    found, streams, augmentation = [], context.streams, Augmentation(augment)
    for k in range(steps):
        parameters = {}
        for name in context.setting.modality:
            encoder = context.architecture.build(context.setting.dataset, name)
            context.architecture.draw(encoder, streams(f"matching network {name}", step=k))
            parameters[name] = [p.detach() for p in encoder.parameters()]
        rows = [
            streams("real batch", step=k, cls=cls).permutation(context.train.class_rows(cls))[:batch_real]
            for cls in context.classes
        ]
        omega = augmentation.siamese(streams("siamese", step=k))
        found.append(Drawn(parameters, rows, omega.op, omega.units))
    return found


def in_memory(store: Store, modality: str) -> dict[str, torch.Tensor]:
    """The whole training split, normalised, as float32 on the CPU, as the published scripts hold it."""
    train = TrainSet(store, torch.device("cpu"))
    whole = {name: torch.empty(len(train), *store.info.shape(name)) for name in modality}
    for start in range(0, len(train), 64):
        rows = np.arange(start, min(start + 64, len(train)))
        for name, x in train.batch(rows, modality).items():
            whole[name][start : start + len(rows)] = x
    return whole


def plain_cell(store: Store, method: Method, run: Run, steps: int) -> PlainCell:
    """The cell of ``method``, a dm or avdd on the store, as the plain readings take it, for ``steps`` steps."""
    assert isinstance(method, MatchingMethod)
    config, context = method.config, method.context
    weights = getattr(config, "weights", None)
    return PlainCell(
        forms={name: form_of(store.info, name, WIDTHS[run.size], HEAD_STD) for name in context.setting.modality},
        data=in_memory(store, context.setting.modality),
        start={name: x.cpu() for name, x in items_of(method).items()},
        draws=drawn(context, config.batch_real, config.augment, steps),
        classes=len(context.classes),
        ipc=context.setting.ipc,
        factor=config.factor,
        weight=weights.icm if weights else 0.0,
        lr=config.lr,
        momentum=config.momentum,
        device=run.at,
    )


def flop_of_step(cell: PlainCell) -> float:
    """Operations of the convolutions that a step cannot do without.

    The real batches go forward; the synthetic samples go forward and back to the items, which is as much again.
    """
    real = sum(len(rows) for rows in cell.draws[0].rows)
    synthetic = cell.classes * cell.ipc * cell.factor**2
    return sum(forward_flop(form) for form in cell.forms.values()) * (real + 2 * synthetic)
