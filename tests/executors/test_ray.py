"""The Ray executor on real clusters of several nodes: lost nodes and workers, limits, interrupts, wrong requests."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from conftest import Small
from packages import avbench

from avbench.claims import ProcessId
from avbench.coordinator import Coordinator, Outcome
from avbench.errors import RequestError
from avbench.executors.base import Ended, Executor, Resources
from avbench.executors.local import LocalExecutor
from avbench.executors.ray import ATTEMPTS, RayExecutor, needs
from avbench.grammar import parse_variants
from avbench.grid import Request
from avbench.hooks import Hooks
from avbench.jobs import Engine
from avbench.plan import make_plan
from avbench.results import RunDirectory

ray = pytest.importorskip("ray", reason="the Ray executor needs the extra `ray`")

OBJECT_STORE_BYTES = 100 << 20
ONE = Resources(1, "cpu", 1)
SETTINGS = {
    "dm": {"steps": "200", "batch_real": "4"},
    "convnet": {"width": "4"},
    "recognition-quick": {"updates": "4", "epochs": "2"},
}
#: So long that a distillation is under way when the news of its first step has arrived.
LONG = {**SETTINGS, "dm": {"steps": "800", "batch_real": "4"}}
ENDLESS = {**SETTINGS, "dm": {"steps": "1000000", "batch_real": "4"}}
Listener = Callable[[Mapping[str, Any]], None]


class Nodes:
    """A cluster on this machine: a head that takes no jobs, and nodes of one CPU."""

    def __init__(self, count: int) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self._cluster.address
        self._nodes = [self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES) for _ in range(count)]

    def kill(self, node_id: str) -> None:
        (node,) = [node for node in self._nodes if node.node_id == node_id]
        self._cluster.remove_node(node, allow_graceful=False)
        self._nodes.remove(node)

    def restore(self, count: int) -> None:
        while len(self._nodes) < count:
            self._nodes.append(self._cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES))
        self._cluster.wait_for_nodes()

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def started() -> Iterator[Nodes]:
    nodes = Nodes(2)
    yield nodes
    nodes.close()


@pytest.fixture
def nodes(started: Nodes, monkeypatch: pytest.MonkeyPatch) -> Nodes:
    started.restore(2)
    monkeypatch.setenv("RAY_ADDRESS", started.address)
    return started


def run(
    small: Small,
    out: Path,
    executor: Executor,
    listener: Listener = lambda event: None,
    settings: Mapping[str, Mapping[str, str]] = SETTINGS,
) -> Outcome:
    """One cell of dm, distilled and evaluated."""
    store = small.stores[1].info
    request = Request(
        parse_variants("dm", "--method"), (store,), (1,), seeds=1, networks=1, preset="quick", settings=settings
    )
    plan = make_plan(request, RunDirectory(out))
    return Coordinator(
        plan, RunDirectory(out), small.data, executor, Engine(checkpoint_s=0.0), (), Hooks(()), listener
    ).run()


def results(out: Path) -> dict[Any, Any]:
    """What a grid came to: the hash of its sets with their curves, and its scores."""
    found: dict[Any, Any] = {}
    for kind in ("distil", "evaluate"):
        for record in RunDirectory(out).records(kind):
            assert record["status"] == "done", record
            result = record["result"]
            found[kind, record["key"]] = result.get("content_hash") or result["networks"]
    found |= {path.parent.name: path.read_text(encoding="utf-8") for path in out.glob("distil/*/curve.jsonl")}
    return found


def error_of(out: Path) -> dict[str, Any]:
    (record,) = RunDirectory(out).records("distil")
    assert record["status"] == "failed"
    error: dict[str, Any] = record["error"]
    return error


def distilling(out: Path) -> Path:
    (folder,) = out.glob("jobs/distil-*")
    return folder


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def worker(out: Path) -> ProcessId:
    return ProcessId(**read(distilling(out) / "worker.json"))


def at_step(number: int, act: Callable[[], None], times: int = 1) -> Listener:
    """Act once the distillation has gone so far, in each of so many workers."""
    steps = 0
    acted = set[int]()

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal steps
        if event["event"] == "task":
            steps = 0
            acted.add(len(acted))
        if event["event"] == "step" and event["kind"] == "distil":
            steps += 1
            if steps >= number and len(acted) <= times and acted:
                steps = -(10**9)
                act()

    return listen


@pytest.mark.slow  # Slurm loses a worker in the suite
def test_a_grid_that_loses_a_node_comes_to_what_it_comes_to_here(
    small: Small, nodes: Nodes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "ray"
    lost = []

    def kill() -> None:
        lost.append(read(distilling(out) / "node.json"))
        nodes.kill(lost[0]["node"])

    outcome = run(small, out, RayExecutor(ONE), at_step(1, kill), LONG)
    assert not outcome.failed and not outcome.stranded
    assert len(lost) == 1
    assert capsys.readouterr().out == ""  # where Ray tells of the node that died
    (attempt,) = read(distilling(out) / "attempts.json")
    assert (attempt["node"], attempt["attempt"]) == (lost[0]["node"], 1)
    again = read(distilling(out) / "node.json")
    assert again["attempt"] == 2 and again["node"] != lost[0]["node"]
    assert run(small, tmp_path / "local", LocalExecutor(ONE), settings=LONG).done == outcome.done
    assert len(results(out)) == 3
    assert results(out) == results(tmp_path / "local")


def test_an_interrupt_ends_the_remote_worker(small: Small, nodes: Nodes, tmp_path: Path) -> None:
    def interrupt() -> None:
        assert worker(tmp_path).here and worker(tmp_path).alive
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(small, tmp_path, RayExecutor(ONE), at_step(1, interrupt), ENDLESS)
    assert not worker(tmp_path).alive
    assert not ray.is_initialized()


def test_jobs_carry_their_needs() -> None:
    assert needs(Resources(4, "cpu", 2)) == {"CPU": 2, "GPU": 0}
    assert needs(Resources(4, "cuda", 1, memory_mib=1.5)) == {"CPU": 1, "GPU": 1, "memory": 1.5 * 2**20}


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        (Resources(1, "cpu", 2), "no node of the Ray cluster has 2 CPUs, which each job asks for"),
        (Resources(1, "cuda", 1), "has 1 CPUs, a GPU"),
        (Resources(1, "cpu", 1, memory_mib=1e9), "1e+09 MiB of memory"),
    ],
)
def test_what_no_node_could_take_is_refused(nodes: Nodes, resources: Resources, said: str) -> None:
    with pytest.raises(RequestError, match="--executor ray: ") as error:
        RayExecutor(resources)
    assert said in str(error.value)
    assert not ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "nowhere", "127.0.0.1:port"])
def test_an_address_where_no_cluster_is_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(RequestError, match=f"RAY_ADDRESS '{address}': no Ray cluster answers there"):
        RayExecutor(ONE)


def test_without_ray_the_executor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RequestError, match=r"pip install 'avbench\[ray\]'"):
        RayExecutor(ONE)


def test_a_signal_handler_of_ours_outlives_the_connection(nodes: Nodes) -> None:
    before = signal.getsignal(signal.SIGTERM)
    executor = RayExecutor(ONE)
    assert ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before
    executor.stop()
    assert not ray.is_initialized() and signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_tried_again_elsewhere(small: Small, nodes: Nodes, tmp_path: Path) -> None:
    outcome = run(
        small, tmp_path, RayExecutor(ONE), at_step(1, lambda: os.kill(worker(tmp_path).process, signal.SIGKILL))
    )
    assert not outcome.failed
    (attempt,) = read(distilling(tmp_path) / "attempts.json")
    assert "signal 9" in attempt["why"]
    assert read(distilling(tmp_path) / "node.json")["node"] != attempt["node"]
    assert len(results(tmp_path)) == 3


@pytest.mark.slow
def test_a_job_is_tried_so_often_and_no_more(small: Small, nodes: Nodes, tmp_path: Path) -> None:
    def kill() -> None:
        os.kill(worker(tmp_path).process, signal.SIGKILL)

    outcome = run(small, tmp_path, RayExecutor(ONE), at_step(1, kill, times=99), ENDLESS)
    assert len(outcome.failed) == 1 and len(outcome.stranded) == 1
    assert len(read(distilling(tmp_path) / "attempts.json")) == ATTEMPTS
    error = error_of(tmp_path)
    assert error["cause"] == "killed"
    assert f"attempt {ATTEMPTS} on " in error["reason"]


@pytest.mark.slow
def test_a_crash_of_the_worker_itself_is_recorded_and_not_repeated(small: Small, nodes: Nodes, tmp_path: Path) -> None:
    run(small, tmp_path, RayExecutor(ONE), at_step(1, lambda: os.kill(worker(tmp_path).process, signal.SIGSEGV)))
    error = error_of(tmp_path)
    assert error["cause"] == "killed" and "SIGSEGV" in error["reason"]
    assert not (distilling(tmp_path) / "attempts.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("resources", "cause"),
    [
        (Resources(1, "cpu", 1, timeout_s=15), "time limit"),
        (Resources(1, "cpu", 1, memory_mib=60), "memory limit"),
    ],
)
def test_limits_end_a_remote_job_with_the_cause_that_they_have_here(
    small: Small, nodes: Nodes, tmp_path: Path, resources: Resources, cause: str
) -> None:
    run(small, tmp_path, RayExecutor(resources), settings=ENDLESS)
    assert error_of(tmp_path)["cause"] == cause


@pytest.mark.slow
def test_a_folder_that_the_node_does_not_see_is_no_start(nodes: Nodes, tmp_path: Path) -> None:
    executor = RayExecutor(ONE)
    try:
        executor.start("job", tmp_path / "absent")
        found: list[Ended] = []
        while not found:
            found = executor.ended()
    finally:
        executor.stop()
    assert (found[0].cause, found[0].status) == ("not started", 1)
    assert "all nodes share" in found[0].reason


@pytest.mark.slow
def test_the_command_line_starts_a_ray_of_its_own(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    sets = [("--set", f"{name}.{key}={value}") for name, given in SETTINGS.items() for key, value in given.items()]
    boards = {}
    for executor in ("ray", "local"):
        done = avbench(
            *("run", "--method", "random,dm", "--dataset", "small1", "--ipc", "1,2", "--seeds", "1", "--networks", "1"),
            *(part for pair in sets for part in pair),
            *("--device", "cpu", "--jobs", "2", "--executor", executor),
            *("--data", str(small.data), "--out", str(tmp_path / executor)),
        )
        assert done.returncode == 0, done.stderr
        boards[executor] = results(tmp_path / executor)
    assert boards["ray"] == boards["local"]
