"""What a prerequisite is shared over, what is withheld from it, and how its tensors are handed over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import Small
from safetensors.torch import save_file

from avbench.api import Prerequisite, PrerequisiteContext, Product, Protocol, Streams
from avbench.cells import Networks, PluginRef
from avbench.desk import Desk, Spec, TaskError
from avbench.grammar import parse_variants
from avbench.jobs import DEPENDENCIES, Engine, prerequisite_key, task_from_json, task_to_json
from avbench.plan import Request, make_plan
from avbench.prerequisite import SHARED_SEED
from avbench.results import RunDirectory
from avbench.tasks.prerequisites import StoredTensors, _context, read_tensors

TRAINED = {"kind": "trained-network", "version": 1, "index": 0}


def networks(**changes: str) -> Networks:
    parts = {name: changes.get(name, name[0]) for name in ("protocol", "architecture", "fusion")}
    return Networks(**{n: PluginRef(v, v, 1, "avbench", "0", {"x": 1}, {}) for n, v in parts.items()})


def key(depends_on: frozenset[str] = DEPENDENCIES, *, seed: int = 3, modality: str = "av", **parts: str) -> str:
    return prerequisite_key(TRAINED, "f" * 8, seed, modality, "float32", networks(**parts), depends_on)


def test_what_depends_on_everything_has_the_key_it_always_had() -> None:
    assert key() == "f586dce2d9d5d7be3377"


CHANGES: Mapping[str, dict[str, Any]] = {
    "seed": {"seed": 4}, "modality": {"modality": "a"}, "protocol": {"protocol": "q"},
    "architecture": {"architecture": "q"}, "fusion": {"fusion": "q"},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(DEPENDENCIES))
def test_a_key_changes_with_what_it_depends_on_and_with_nothing_else(name: str) -> None:
    assert key(**CHANGES[name]) != key()
    without = DEPENDENCIES - {name}
    assert key(without, **CHANGES[name]) == key(without) != key()
    only = frozenset({name})
    assert key(only, **CHANGES[name]) != key(only)
    assert len({key(only, **change) for other, change in CHANGES.items() if other != name} | {key(only)}) == 1


def test_an_unknown_dependency_is_refused() -> None:
    with pytest.raises(ValueError, match="depends_on names luck"):
        key(frozenset({"luck"}))


@dataclass(frozen=True)
class Lean(Prerequisite):
    """Depends on the architecture alone."""

    kind = "lean"
    depends_on: ClassVar[frozenset[str]] = frozenset({"architecture"})

    def build(self, context: PrerequisiteContext) -> Product:
        raise NotImplementedError


@dataclass(frozen=True)
class Full(Lean):
    """Depends on everything."""

    depends_on = DEPENDENCIES


def context_of(small: Small, out: Path, need: Prerequisite) -> PrerequisiteContext:
    request = Request(parse_variants("random", "--method"), (small.stores[1].info,), (1,), seeds=2)
    cell = make_plan(request, RunDirectory(out)).cells[1]
    assert cell.seed == 1
    out.mkdir(exist_ok=True)
    desk = Desk(Spec((), out, small.data, Engine(), (), ()), out / "events.jsonl")
    return _context(desk, cell, need)


def test_what_a_prerequisite_does_not_depend_on_is_withheld(small: Small, tmp_path: Path) -> None:
    lean, full = (context_of(small, tmp_path, need) for need in (Lean(), Full()))
    assert (full.modality, full.streams) == ("av", Streams(1)) and isinstance(full.protocol, Protocol)
    assert (lean.modality, lean.streams) == ("", Streams(SHARED_SEED))
    assert lean.architecture.build(small.stores[1].info, "a").embedding_dim == 16 * 16
    for name in ("protocol", "fusion"):
        with pytest.raises(TaskError, match=f"it uses the {name}, which its depends_on does not name"):
            _ = getattr(lean, name).config


def test_the_shared_seed_is_no_run_s() -> None:
    assert SHARED_SEED < 0
    draws = {float(Streams(seed)("expert").random()) for seed in (SHARED_SEED, 0, 1)}
    assert len(draws) == 3


def test_tensors_are_read_one_at_a_time(tmp_path: Path) -> None:
    tensors = {f"epoch {k}": torch.full((5,), float(k)) for k in range(4)}
    save_file(tensors, tmp_path / "tensors.safetensors")
    found = read_tensors(tmp_path)
    assert isinstance(found, StoredTensors) and len(found) == 4 and set(found) == set(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert "epoch 9" not in found
    with pytest.raises(KeyError):
        found["epoch 9"]


def test_reading_one_tensor_reads_no_other(tmp_path: Path) -> None:
    """By what lies in memory: 64 tensors of 4 MiB, of which one is asked for."""
    save_file({str(k): torch.ones(1 << 20) for k in range(64)}, tmp_path / "tensors.safetensors")
    found = read_tensors(tmp_path)
    before = resident_mib()
    assert float(found["63"].sum()) == 1 << 20
    assert resident_mib() - before < 64


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


@pytest.mark.parametrize("spoil", ["gone", "empty", "cut", "garbage"])
def test_a_file_that_is_not_whole_is_named(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "tensors.safetensors"
    save_file({"x": torch.ones(100)}, path)
    if spoil == "gone":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": path.read_bytes()[:-4], "garbage": b"\xff" * 1000}[spoil])
    with pytest.raises(TaskError, match=r"can't be read .* remove .* and run the command again"):
        read_tensors(tmp_path)


def test_a_task_survives_json_with_what_it_depends_on(small: Small, tmp_path: Path) -> None:
    request = Request(parse_variants("herding,mtt", "--method"), (small.stores[1].info,), (1,), seeds=1)
    tasks = make_plan(request, RunDirectory(tmp_path)).prerequisites
    assert [task_from_json(task_to_json(task)) for task in tasks] == list(tasks)
    assert {"features for small1 seed 0", "audio expert 0 for small1"} <= {task.title for task in tasks}
