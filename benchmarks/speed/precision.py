"""Does a lower precision cost accuracy? The same cells at two precisions, seed by seed.

Command: ``python benchmarks/speed/precision.py RUNS… [--lower bfloat16]``, after runs that differ in ``--precision``
alone::

    avbench run --method random,dm,avdd --dataset avdigits --ipc 1,10 --seeds 5 --out runs
    avbench run --method random,dm,avdd --dataset avdigits --ipc 1,10 --seeds 5 --precision bfloat16 --out runs
    python benchmarks/speed/precision.py runs

A seed's score is the mean accuracy of its networks on both modalities (or what the cell has). Seeds draw the same in
both precisions, so their difference is paired; it is shown beside the standard deviation over seeds of float32.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import mean, stdev

from tabulate import tabulate

from avbench.results import RunDirectory

#: Dataset, method as the board calls it, IPC, what is scored; and the score of each seed by precision.
Cell = tuple[str, str, int, str]
Scores = dict[Cell, dict[str, dict[int, float]]]


def scores(directories: Sequence[Path]) -> Scores:
    """Of every finished evaluation, in percent."""
    found: Scores = defaultdict(lambda: defaultdict(dict))
    for directory in directories:
        for record in RunDirectory(directory).records("evaluate"):
            if record["status"] != "done":
                continue
            part = record["modality"]
            networks = [network[record["result"]["primary"]][part] for network in record["result"]["networks"]]
            cell = (record["dataset"]["name"], record["method"]["label"], record["ipc"], part)
            found[cell][record["precision"]][record["seed"]] = 100 * mean(networks)
    return found


def rows(found: Scores, lower: str) -> Iterator[list[str | int]]:
    """A row for each cell with at least two seeds in both precisions."""
    for (dataset, method, ipc, part), by_precision in sorted(found.items()):
        exact, lowered = by_precision.get("float32", {}), by_precision.get(lower, {})
        seeds = sorted(exact.keys() & lowered.keys())
        if len(seeds) < 2:
            continue
        columns = [[exact[s] for s in seeds], [lowered[s] for s in seeds], [lowered[s] - exact[s] for s in seeds]]
        shown = [f"{mean(values):.1f} ± {stdev(values):.1f}" for values in columns[:2]]
        gap = f"{mean(columns[2]):+.2f} ± {stdev(columns[2]):.2f}"
        yield [dataset, method, ipc, part, len(seeds), *shown, gap]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="run directories")
    parser.add_argument("--lower", default="bfloat16", choices=["bfloat16", "tf32"])
    given = parser.parse_args(arguments)
    headers = ["dataset", "method", "IPC", "scored", "seeds", "float32 %", f"{given.lower} %", "difference by seed"]
    print(tabulate(list(rows(scores(given.runs), given.lower)), headers, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
