"""Do AVDD with equal weights and DM with a step 1 + 2λ times as large move their items alike?

Command: ``python benchmarks/findings/trajectories.py --data DIR [--dataset avdigits] [--ipc 1] [--steps 150]``. From
one start and with the same draws, under the preset quick: ``avdd`` with λ_ICM = λ_CGM, and beside it ``dm[init=herding,
factor=2]`` with the step that the parallelogram law gives. The table has ‖x − y‖ / ‖x − x₀‖ over both modalities after
chosen steps, in float64 and in float32; x₀ is the start, x avdd's items, y the other's. The last rows are controls that
ought to differ: ``dm`` with its own step, and avdd with unequal weights beside dm with the step of their mean.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from avbench.api import Context, Method, Setting, Store, Streams, TrainSet, open_store
from avbench.nets.convnet import ConvNetArchitecture
from avbench.options import resolve
from avbench_methods.avdd import AudioVisualDistillation
from avbench_methods.dm import DistributionMatching

Weights = tuple[float, float, float]
CPU = torch.device("cpu")
#: Herding by a random network needs no network trained beforehand, and both methods start alike.
START = {"init": "herding", "features": "random", "factor": 2}
METHODS: dict[str, type[Method]] = {"avdd": AudioVisualDistillation, "dm": DistributionMatching}
#: What is compared: avdd's λ_ICM and λ_CGM, and how many times its own step dm takes.
PAIRS: dict[str, Weights] = {
    "λ = 1, dm's step × 3": (1, 1, 3),
    "λ = 10, dm's step × 21": (10, 10, 21),
    "λ = 20, dm's step × 41": (20, 20, 41),
    "λ = 10, dm's own step": (10, 10, 1),
    "λ_ICM = 10, λ_CGM = 0, dm's step × 11": (10, 0, 11),
    "λ_ICM = 0, λ_CGM = 10, dm's step × 11": (0, 10, 11),
}


def method_of(name: str, store: Store, ipc: int, dtype: torch.dtype, **options: object) -> Method:
    """A method as a run under the preset quick has it."""
    setting = Setting(store.info, ipc, "av", "quick")
    context = Context(
        setting=setting,
        train=TrainSet(store, CPU, dtype),
        streams=Streams(0),
        architecture=ConvNetArchitecture(
            resolve(
                ConvNetArchitecture.Config, "convnet", [(ConvNetArchitecture.defaults(setting), "preset quick")]
            ).config
        ),
        prerequisites={},
        device=CPU,
        dtype=dtype,
        micro_batch=256,
        classes=tuple(range(len(store.info.classes))),
    )
    method = METHODS[name]
    layers = [(method.defaults(setting), "preset quick"), ({**START, **options}, "benchmark")]
    return method(resolve(method.Config, name, layers).config, context)


def items_of(method: Method) -> torch.Tensor:
    """All learned numbers, in one row."""
    return torch.cat([x.detach().double().flatten() for x in method.distilled().items.values()])  # type: ignore[attr-defined]


def apart(store: Store, ipc: int, dtype: torch.dtype, pair: Weights, at: Sequence[int]) -> list[str]:
    """‖x − y‖ / ‖x − x₀‖ after the steps ``at``."""
    icm, cgm, times = pair
    ours = method_of("avdd", store, ipc, dtype, icm=icm, cgm=cgm)
    theirs = method_of("dm", store, ipc, dtype, lr=0.2 * times)
    start = items_of(ours)
    found: list[str] = []
    for k in range(max(at)):
        ours.step(k)
        theirs.step(k)
        if k + 1 in at:
            x = items_of(ours)
            found.append(f"{float((x - items_of(theirs)).norm() / (x - start).norm()):.1e}")
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data folder with the prepared dataset")
    parser.add_argument("--dataset", default="avdigits")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--steps", type=int, default=150, help="of both methods")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    store = open_store(given.data, given.dataset)
    at = sorted({k for k in (1, 5, 20, 60, given.steps) if k <= given.steps})
    rows = [
        [name, str(dtype).removeprefix("torch."), *apart(store, given.ipc, dtype, pair, at)]
        for name, pair in PAIRS.items()
        for dtype in (torch.float64, torch.float32)
    ]
    heads = ["avdd against dm", "precision", *(f"after {k}" for k in at)]
    print(tabulate(rows, heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
