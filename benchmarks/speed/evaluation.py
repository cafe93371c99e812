"""Judging a distilled set: avbench's recognition protocol against a plain script with the same recipe.

Command: ``python benchmarks/speed/evaluation.py [--device cuda]``. Both train the same networks in the same order on
the same batches under the same ops, and test them once. Before a time counts, the training losses of all networks and
epochs and the correct test samples are compared. Shapes are the paper's. On a CPU there are 2 of the 5 networks and a
tenth of the 30 epochs and of the 444 test samples of VGGS-10k, which are in the same proportion as the whole, at IPC 1;
time is linear in networks. Whether several networks should train at once is measured by evaluating.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import peak
import torch
from comparing import Figure, Report, Run, against_hardware, agreed, in_turn, main, ratio, seconds_figure
from plain.evaluation import Judged, PlainEvaluation, TrainingBatch
from plain.network import form_of, forward_flop, training_flop
from torch import Tensor
from workload import HEAD_STD, WIDTHS, store_of

from avbench.api import Augmentation, EvaluationContext, Store, Streams, TensorSamples, TestSet
from avbench.dataset import NoOptions
from avbench.jobs import default_micro_batch
from avbench.nets.convnet import ConvNetArchitecture, ConvNetConfig
from avbench.nets.fusion import Ensemble
from avbench.protocols.network import Network
from avbench.protocols.recognition import Recognition, RecognitionConfig


@dataclass(frozen=True)
class Case:
    """Items a class, test samples a class, networks, epochs."""

    ipc: int
    classes: int
    test: int
    networks: int
    epochs: int


CASES: Mapping[tuple[str, str], tuple[Case, ...]] = {
    ("paper", "cpu"): (Case(1, 10, 4, 2, 3),),
    ("paper", "cuda"): (Case(1, 10, 44, 5, 30), Case(10, 10, 44, 5, 30)),
    ("small", "cpu"): (Case(2, 3, 2, 2, 10),),
    ("small", "cuda"): (Case(2, 3, 2, 2, 10),),
}
#: Learning rate of all parts; it costs nothing. At the published ones a few epochs hardly train, and hide a difference.
LR = 5e-3
#: Adam divides by what may be nothing but rounding, and makes much of it: how many times what rounding is.
ADAM = {"paper": 1.0, "small": 10.0}
#: How many times as fast was asked for.
ASKED = 3.0


def context_of(store: Store, case: Case, run: Run, turn: int) -> EvaluationContext:
    """What a worker gives the protocol; items are noise around a pattern of their class, another in each turn."""
    rng = torch.Generator().manual_seed(turn)
    labels = torch.arange(case.classes).repeat_interleave(case.ipc)
    items = {}
    for name in "av":
        shape = store.info.shape(name)
        patterns = torch.randn(case.classes, *shape, generator=rng)
        items[name] = (patterns[labels] + torch.randn(len(labels), *shape, generator=rng)).to(run.at)
    return EvaluationContext(
        dataset=store.info,
        samples=TensorSamples(items, labels),
        test=TestSet(store, run.at),
        modality="av",
        architecture=ConvNetArchitecture(ConvNetConfig(width=WIDTHS[run.size])),
        fusion=Ensemble(NoOptions()),
        streams=Streams(0),
        networks=case.networks,
        device=run.at,
        dtype=torch.float32,
        micro_batch=default_micro_batch(store.info),
    )


def by_avbench(context: EvaluationContext, config: RecognitionConfig, run: Run) -> list[Judged]:
    """The protocol, driven as a worker drives it."""
    work = Recognition(config).evaluation(context)
    losses: list[float] = []
    for k in range(work.steps):
        with run.computing():
            losses.append(work.step(k)["loss"])
    each, count = len(losses) // context.networks, len(context.test)
    return [
        Judged(
            tuple(losses[i * each : (i + 1) * each]),
            {name: round(share * count) for name, share in network["accuracy"].items()},
        )
        for i, network in enumerate(work.result()["networks"])
    ]


def plain_of(context: EvaluationContext, config: RecognitionConfig, run: Run) -> PlainEvaluation:
    """The same evaluation for the plain script; networks are drawn before any is timed."""
    samples, augmentation = context.samples, Augmentation(config.augment)
    assert isinstance(samples, TensorSamples)
    known = [_parameters(context, index) for index in range(context.networks)]

    def batches(index: int, epoch: int) -> Sequence[TrainingBatch]:
        rng, found = context.streams(f"evaluation epoch of network {index}", step=epoch), []
        order = rng.permutation(len(samples))
        for rows in np.split(order, range(config.batch, len(order), config.batch)):
            transform = augmentation.per_sample(rng, len(rows))
            found.append((rows, transform.op, transform.units))
        return found

    def rates(epoch: int) -> dict[str, float]:
        passed = sum(epoch >= max(1, round(at * config.epochs)) for at in config.milestones)
        full = {"a": config.lr_audio, "v": config.lr_visual, "head": config.lr_classifier}
        return {name: rate * config.decay**passed for name, rate in full.items()}

    test = context.test.batch(np.arange(len(context.test)), "av")
    return PlainEvaluation(
        forms={name: form_of(context.dataset, name, WIDTHS[run.size], HEAD_STD) for name in "av"},
        samples={name: x.cpu() for name, x in samples.tensors.items()},
        labels=samples.labels,
        test={name: x.cpu() for name, x in test.items()},
        test_labels=context.test.labels,
        parameters=lambda index: known[index],
        batches=batches,
        rates=rates,
        epochs=config.epochs,
        weight_decay=config.weight_decay,
        test_batch=context.micro_batch,
        device=run.at,
    )


def _parameters(context: EvaluationContext, index: int) -> dict[str, list[Tensor]]:
    c = context
    network = Network(c.dataset, "av", c.architecture, c.fusion, c.streams, index, torch.device("cpu"), c.dtype)
    return {
        name: [p.detach() for p in [*encoder.parameters(), *network.head.own(name)]]
        for name, encoder in network.encoders.items()
    }


def apart(ours: Sequence[Judged], theirs: Sequence[Judged]) -> tuple[float, int]:
    """The largest difference of a loss as a share of how far it fell, and the most test samples judged otherwise."""
    losses = [
        abs(a - b) / max(abs(y.losses[0] - y.losses[-1]), 1e-6)
        for x, y in zip(ours, theirs, strict=True)
        for a, b in zip(x.losses, y.losses, strict=True)
    ]
    counts = [abs(x.correct[n] - y.correct[n]) for x, y in zip(ours, theirs, strict=True) for n in y.correct]
    return max(losses), max(counts)


def flop_of(case: Case, plain: PlainEvaluation) -> float:
    """Operations of the convolutions that judging a set cannot do without."""
    trained, tested = case.epochs * len(plain.labels), len(plain.test_labels)
    each = sum(trained * training_flop(form) + tested * forward_flop(form) for form in plain.forms.values())
    return case.networks * each


def compare(case: Case, run: Run, store: Store, limit: float) -> tuple[list[Figure], str]:
    """Figures of one case, and a sentence on its floating-point operations; ``limit`` in GFLOP/s."""
    config = RecognitionConfig(epochs=case.epochs, lr_audio=LR, lr_visual=LR, lr_classifier=LR)
    contexts = [context_of(store, case, run, turn) for turn in range(run.rounds + 1)]
    plain = [plain_of(context, config, run) for context in contexts]
    found: dict[tuple[str, int], list[Judged]] = {}

    def ours(k: int) -> None:
        found["avbench", k] = by_avbench(contexts[k], config, run)

    def theirs(k: int) -> None:
        found["plain", k] = [plain[k].judge(index) for index in range(case.networks)]

    times = in_turn({"avbench": ours, "plain": theirs}, run)
    gaps = [apart(found["avbench", k], found["plain", k]) for k in range(run.rounds + 1)]
    name = f"{case.networks} networks, {case.epochs} epochs of {case.ipc * case.classes}, {len(contexts[0].test)} tests"
    bound, note = against_hardware(name, times, "plain", flop_of(case, plain[0]), limit, run)
    figures = [
        agreed(f"{name}: losses apart", max(loss for loss, _ in gaps), run, ADAM[run.size]),
        Figure(f"{name}: test samples judged otherwise", max(count for _, count in gaps), ""),
        *(seconds_figure(f"{name}: {way}", times[way], run) for way in times),
        ratio(
            f"{name}: plain / avbench", times["plain"], times["avbench"], run, ASKED if run.size == "paper" else None
        ),
        bound,
    ]
    return figures, note


def measure(run: Run) -> Report:
    """All cases of a size."""
    figures, notes = [], []
    limit = peak.limit(run)
    for case in CASES[run.size, run.device]:
        with tempfile.TemporaryDirectory() as folder:
            found, note = compare(case, run, store_of(Path(folder), run, case.classes, 1, case.test), limit)
        figures += found
        notes.append(note)
    return Report("Judging a distilled set", tuple(figures), tuple(notes))


if __name__ == "__main__":
    main(measure, __doc__)
