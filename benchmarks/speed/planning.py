"""How long it takes to plan 10,000 tasks, of which none and then all are done; imports aside.

Command: ``python benchmarks/speed/planning.py``. 50 variants of dm at 20 IPCs and 5 seeds make 5,000 cells, each
evaluated once: 10,000 tasks. The records of the second plan are stubs in a temporary folder.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from avbench.data.store import StoreInfo
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.plan import Plan, make_plan
from avbench.results import SCHEMA_VERSION, RunDirectory

INFO = StoreInfo(
    name="planned",
    dataset="planned",
    dataset_version=1,
    classes=tuple(f"class {i}" for i in range(28)),
    counts={"train": (100,) * 28, "val": (10,) * 28, "test": (10,) * 28},
    audio_shape=(1, 128, 56),
    frame_shape=(3, 224, 224),
    audio_mean=0.0,
    audio_std=1.0,
    frame_mean=(0.5,) * 3,
    frame_std=(0.5,) * 3,
    visual_depth=5,
    audio_depth=3,
    grid=(7, 7),
    preset="paper",
    sample_rate_hz=16000,
    audio_transform={},
    licence="",
    citation="",
    fingerprint="0" * 64,
)


@dataclass(frozen=True)
class Planned:
    """How a plan went: tasks in all, those done, jobs for the others, seconds of the clock."""

    tasks: int
    done: int
    jobs: int
    seconds: float


def plan(out: Path, variants: int, ipcs: int, seeds: int) -> tuple[Plan, Planned]:
    """Plan the grid."""
    methods = ",".join(f"dm[lr={0.1 + i / 1000:.3f}]" for i in range(variants))
    request = Request(parse_variants(methods, "--method"), (INFO,), tuple(range(1, ipcs + 1)), seeds=seeds)
    began = time.perf_counter()
    made = make_plan(request, RunDirectory(out))
    spent_s = time.perf_counter() - began
    done, to_do = len(made.done), sum(len(job.tasks) for job in made.jobs)
    return made, Planned(done + to_do, done, len(made.jobs), spent_s)


def stub(out: Path, kind: str, key: str, **more: object) -> None:
    """Write what marks a task as done."""
    folder = out / kind / key
    folder.mkdir(parents=True)
    record = {"schema_version": SCHEMA_VERSION, "status": "done", **more}
    (folder / "record.json").write_text(json.dumps(record), encoding="utf-8")
    for name in ("distilled.json", "distilled.safetensors"):
        (folder / name).touch()


def both(variants: int = 50, ipcs: int = 20, seeds: int = 5) -> tuple[Planned, Planned]:
    """Plan with nothing done, then with all of it."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        plan(out, 1, 1, 1)  # imports the plugins
        made, none = plan(out, variants, ipcs, seeds)
        for cell in made.cells:
            stub(out, "distil", cell.key, result={"content_hash": cell.key})
        for task in made.evaluations:
            stub(out, "evaluate", task.record_key(task.cell.key), result={})
        return none, plan(out, variants, ipcs, seeds)[1]


def main() -> None:
    """Print a line for each plan."""
    for each in both():
        to_do = each.tasks - each.done
        print(f"{each.done} tasks done, {to_do} to do in {each.jobs} jobs: planned in {each.seconds:.2f} s")


if __name__ == "__main__":
    main()
