"""The plan: titles that tell tasks apart, states counted each by itself, plugins asked once a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Small

from avbench import grid
from avbench.errors import RequestError
from avbench.grammar import parse_settings, parse_variants
from avbench.grid import Request
from avbench.plan import Plan, make_plan
from avbench.results import RunDirectory


def request_for(small: Small, methods: str, **more: Any) -> Request:
    for name in ("architectures", "protocols", "fusions"):
        more[name] = parse_variants(more[name], name) if name in more else ()
    return Request(parse_variants(methods, "--method"), (small.stores[1].info,), (1, 2), **{"seeds": 2, **more})


def titles(plan: Plan) -> list[str]:
    return [task.title for job in plan.jobs for task in job.tasks]


def test_titles_name_what_tells_evaluations_apart(small: Small, tmp_path: Path) -> None:
    plan = make_plan(
        request_for(
            small,
            "random,herding",
            architectures="convnet,convnet[width=8]",
            protocols="recognition-quick,recognition-code",
            modalities=("a", "av"),
        ),
        RunDirectory(tmp_path),
    )
    found = titles(plan)
    assert len(set(found)) == len(found)
    assert "evaluate random small1 ipc 1 seed 0" in found
    assert "evaluate random small1 ipc 1 seed 0 by convnet[width=8], recognition-code" in found


def test_a_chosen_distilling_network_is_in_the_title_and_a_setting_for_all_is_not(small: Small, tmp_path: Path) -> None:
    (chosen,) = parse_variants("convnet[width=8]", "--distil-arch")
    settings = parse_settings(["convnet.width=4"])
    plain = make_plan(request_for(small, "dm", settings=settings), RunDirectory(tmp_path))
    assert titles(plain)[0] == "dm small1 ipc 1 seed 0"
    named = make_plan(request_for(small, "dm", distil_architecture=chosen), RunDirectory(tmp_path))
    assert titles(named)[0] == "dm small1 ipc 1 seed 0 distilled with convnet[width=8]"


def test_two_spellings_of_one_way_to_judge_are_refused(small: Small, tmp_path: Path) -> None:
    wanted = request_for(small, "random", architectures="convnet[width=4],convnet[width=4,visual_depth=none]")
    with pytest.raises(RequestError, match="the same way to judge"):
        make_plan(wanted, RunDirectory(tmp_path))


def fail(directory: RunDirectory, kind: str, key: str) -> None:
    directory.write_record(kind, key, {"status": "failed", "error": {}})


def test_states_are_told_apart_and_cached_prerequisites_listed(small: Small, tmp_path: Path) -> None:
    directory, wanted = RunDirectory(tmp_path), request_for(small, "random,herding")
    fresh = make_plan(wanted, directory)
    first, second = fresh.prerequisites
    directory.write_record("prerequisite", first.key, {"status": "done"})
    (directory.folder("prerequisite", first.key) / "tensors.safetensors").touch()
    fail(directory, "prerequisite", second.key)
    plan = make_plan(wanted, directory)
    assert first.key in plan.done
    assert [task.key for task in plan.failed] == [second.key]
    assert {task.title for task in plan.stranded} == {
        f"{start}herding small1 ipc {ipc} seed 1" for start in ("", "evaluate ") for ipc in (1, 2)
    }
    states = len(plan.done) + len(plan.failed) + len(plan.stranded) + len(titles(plan))
    assert states == len(titles(fresh)) == len(plan.prerequisites) + len(plan.cells) + len(plan.evaluations)


def test_networks_are_tried_once_a_configuration(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(grid, "check_architecture", lambda ref, setting: tried.append(ref.label))
    wanted = request_for(small, "random,herding,dm,avdd", architectures="convnet,convnet[width=8]")
    make_plan(wanted, RunDirectory(tmp_path))
    assert tried == ["convnet", "convnet[width=8]"]


def test_cells_share_a_job_only_as_far_as_their_items_fit(
    small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(parse_variants("dm,avdd[init=random]", "--method"), (small.stores[1].info,), (1, 2), seeds=1)
    together = [job for job in make_plan(request, RunDirectory(tmp_path)).jobs if job.kind == "distil"]
    assert len(together) == 1 and len(together[0].tasks) == 4
    monkeypatch.setattr("avbench.plan._JOB_ITEM_BYTES", 4 * 2 * 4 * (16 * 24 + 16 * 16))  # ipc 2, or 1 and 1
    apart = [job for job in make_plan(request, RunDirectory(tmp_path)).jobs if job.kind == "distil"]
    assert [len(job.tasks) for job in apart] == [1, 1, 1, 1]
