"""The Ray executor: each job on a node of a Ray cluster, under the local executor there.

Ray chooses the node; what happens on it is the local executor's: the same subprocess, limits and causes. Nodes and this
machine share the run directory and the data folder, under the same paths.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avbench import __version__
from avbench.claims import ProcessId
from avbench.errors import AvbenchError, RequestError
from avbench.executors.attempts import Attempts, leave_unsettled
from avbench.executors.base import Cause, Ended, Executor, Resources
from avbench.executors.local import LocalExecutor
from avbench.executors.ray_cluster import connect, disconnect, import_ray, one_line
from avbench.results import write_atomically

#: How often a job is tried in all, where nodes or workers die under it.
ATTEMPTS = 3
#: A job waits so long for a node that could ever take it before it is given up.
NO_NODE_S = 60.0
#: What a lost node left behind ends within a second or two of it; its job starts again after that.
_SETTLE_S = 3.0
_LOOK_FOR_NODES_S = 5.0
_SEEN_WITHIN_S = 10.0
_STOP_S = 10.0
#: Somebody else's kill, such as a node being cleared; a crash of the worker itself would only come again.
_ENDED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)


def needs(resources: Resources) -> dict[str, float]:
    """What a job asks of a node, in Ray's terms: ``CPU`` and ``GPU`` in devices, ``memory`` in bytes."""
    found = {"CPU": float(resources.threads), "GPU": 1.0 if resources.device == "cuda" else 0.0}
    if resources.memory_mib is not None:
        found["memory"] = float(int(resources.memory_mib * 2**20))
    return found


def supervise(job_id: str, folder: Path, attempt: int, resources: Resources, version: str) -> Ended:
    """Run a job on the node where this is called, and hold it to its limits; its end.

    This is the Ray task. Where Ray cancels it, or its process dies, the worker ends too.
    """
    import ray

    host = socket.gethostname()
    if version != __version__:
        return Ended(job_id, 1, "not started", f"{host} has avbench {__version__}, the run was started by {version}")
    deadline = time.monotonic() + _SEEN_WITHIN_S
    while not (folder / "spec.json").is_file():  # a shared file system may show a new folder late
        if time.monotonic() > deadline:
            shared = "the run directory must lie on a file system that all nodes share, under the same path"
            return Ended(job_id, 1, "not started", f"{host} does not see {folder}: {shared}")
        time.sleep(0.2)
    about = {"attempt": attempt, "host": host, "node": ray.get_runtime_context().get_node_id()}
    write_atomically(folder / "node.json", json.dumps(about))
    local = LocalExecutor(replace(resources, slots=1), attempts=1)  # another one is Ray's to place
    try:
        local.start(job_id, folder)
        while not (ended := local.ended()):
            time.sleep(0.1)
        return ended[0]
    except OSError as error:
        return Ended(job_id, 1, "not started", f"on {host}: {error}")
    finally:
        local.stop()


@dataclass
class _Job:
    """A job that is with Ray (it has a reference), or that is to be tried again at ``due``."""

    folder: Path
    attempts: Attempts
    reference: Any = None
    due: float = 0.0

    @property
    def place(self) -> Mapping[str, Any]:
        """Where the present attempt began: ``host`` and ``node``; empty where it has not."""
        found = _json(self.folder / "node.json")
        return found if isinstance(found, dict) and found.get("attempt") == self.attempts.number else {}

    @property
    def worker_lives(self) -> bool:
        """Whether the worker is a process of this machine and still there; of other machines nothing is known."""
        try:
            worker = ProcessId(**_json(self.folder / "worker.json"))
        except TypeError:
            return False
        return worker.here and worker.alive


class RayExecutor(Executor):
    """Jobs on the nodes of a Ray cluster (RAY_ADDRESS), or of a Ray started for the run on this machine."""

    def __init__(self, resources: Resources) -> None:
        """Connect to the cluster.

        Raises:
            RequestError: Ray is not installed, the address leads nowhere, or no node could ever take a job.
        """
        super().__init__(resources)
        self._ray = import_ray()
        self._jobs: dict[str, _Job] = {}
        self._retries = 0
        self._streams, self._redirected = contextlib.ExitStack(), False
        self._nodes_seen = self._nodes_looked = time.monotonic()
        # A Ray of our own gets as many CPUs as --jobs and --threads ask for: they mean what they mean elsewhere.
        self._connected_here = connect(self._ray, resources.slots * resources.threads)
        try:
            self._check_fit()
        except RequestError:
            self._disconnect()
            raise
        self._task = self._ray.remote(supervise)

    def has_room(self) -> bool:
        return len(self._jobs) < self.resources.slots

    def start(self, job_id: str, folder: Path) -> None:
        if not self._redirected:  # Ray tells of dead nodes on stdout, which is the board's
            self._streams.enter_context(contextlib.redirect_stdout(sys.stderr))
            self._redirected = True
        job = _Job(folder.resolve(), Attempts(folder.resolve(), ATTEMPTS))
        try:
            self._submit(job_id, job)
        except self._ray.exceptions.RayError as error:
            raise OSError(f"Ray says: {one_line(error)}") from error
        self._jobs[job_id] = job

    def ended(self) -> list[Ended]:
        """As the contract says.

        Raises:
            AvbenchError: the cluster itself is lost.
        """
        try:
            return self._look()
        except self._ray.exceptions.RayError as error:
            raise AvbenchError(
                f"the Ray cluster is lost ({one_line(error)}); the same command goes on where it stopped."
            ) from error

    def _look(self) -> list[Ended]:
        found = list(self._again())
        references = {job.reference: job_id for job_id, job in self._jobs.items() if job.reference is not None}
        if references:
            ready, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
            found += filter(None, [self._result(references[each]) for each in ready])
            found += self._stuck()
        for ended in found:
            del self._jobs[ended.job_id]
        return found

    def stop(self) -> None:
        references = [job.reference for job in self._jobs.values() if job.reference is not None]
        with contextlib.suppress(self._ray.exceptions.RayError):
            for reference in references:
                self._ray.cancel(reference, force=False)
            if references:
                _, left = self._ray.wait(references, num_returns=len(references), timeout=_STOP_S)
                for reference in left:
                    self._ray.cancel(reference, force=True)
        deadline = time.monotonic() + _STOP_S
        while any(job.worker_lives for job in self._jobs.values()) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._jobs.clear()
        self._disconnect()
        self._streams.close()
        self._redirected = False

    def _disconnect(self) -> None:
        if self._connected_here:
            disconnect(self._ray)

    def _submit(self, job_id: str, job: _Job) -> None:
        asked = needs(self.resources)
        task = self._task.options(
            num_cpus=asked["CPU"],
            num_gpus=asked["GPU"],
            memory=int(asked.get("memory", 0)) or None,
            max_retries=0,  # ours are counted and recorded
            scheduling_strategy=self._where(job),
        )
        job.reference = task.remote(job_id, job.folder, job.attempts.begin(), self.resources, __version__)

    def _where(self, job: _Job) -> Any:
        """Spread over the nodes; a job tried again goes to one where it has not been, if there is such a node."""
        tried = {loss["node"] for loss in job.attempts.lost}
        fresh = [node["NodeID"] for node in self._fitting() if node["NodeID"] not in tried] if tried else []
        if not fresh:
            return "SPREAD"
        self._retries += 1
        strategies = self._ray.util.scheduling_strategies
        return strategies.NodeAffinitySchedulingStrategy(fresh[self._retries % len(fresh)], soft=True)

    def _result(self, job_id: str) -> Ended | None:
        """How a job ended; ``None`` where it was lost and is to be tried again."""
        job, errors = self._jobs[job_id], self._ray.exceptions
        try:
            ended: Ended = self._ray.get(job.reference)
        except errors.OutOfMemoryError:
            return self._lose(job_id, "Ray ended it because its node ran out of memory", cause="out of memory")
        except (errors.WorkerCrashedError, errors.NodeDiedError, errors.TaskCancelledError):
            return self._lose(job_id, "the node or its Ray process died")
        except errors.RayTaskError as error:  # such as an avbench that the node does not have
            return Ended(job_id, 1, "not started", f"on the node: {type(error.cause).__name__}: {error.cause}")
        except errors.RayError as error:
            return Ended(job_id, 1, "not started", f"Ray says: {one_line(error)}")
        if ended.cause == "killed" and ended.status in _ENDED_FROM_OUTSIDE:
            return self._lose(job_id, f"the worker got signal {-ended.status}", status=ended.status)
        return ended

    def _lose(self, job_id: str, why: str, *, status: int = -signal.SIGKILL, cause: Cause = "killed") -> Ended | None:
        """Note an attempt that came to nothing; the end of the job where it was the last one."""
        job = self._jobs[job_id]
        place = job.place
        host = place.get("host", "a node that it had not begun on")
        if not job.attempts.lose(host, why, node=place.get("node")):
            return Ended(job_id, status, cause, job.attempts.told)
        job.reference, job.due = None, time.monotonic() + _SETTLE_S
        return None

    def _again(self) -> Iterator[Ended]:
        """Start lost jobs anew, without the tasks that they had settled; those with none left have ended."""
        for job_id, job in self._jobs.items():
            if job.reference is not None or time.monotonic() < job.due or job.worker_lives:
                continue
            if leave_unsettled(job.folder):
                self._submit(job_id, job)
            else:
                yield Ended(job_id, 0)

    def _stuck(self) -> list[Ended]:
        """Jobs that wait for a node when for a while there has been none that could take them."""
        now = time.monotonic()
        if now - self._nodes_looked < _LOOK_FOR_NODES_S:
            return []
        self._nodes_looked = now
        waiting = {job_id: job for job_id, job in self._jobs.items() if job.reference is not None and not job.place}
        if not waiting or self._fitting():
            self._nodes_seen = now
        if now - self._nodes_seen < NO_NODE_S:
            return []
        for job in waiting.values():
            self._ray.cancel(job.reference, force=True)
        return [Ended(job_id, 1, "not started", f"{self._lack()} for {NO_NODE_S:.0f} s") for job_id in waiting]

    def _fitting(self) -> list[dict[str, Any]]:
        """The living nodes that could take a job if they were idle."""
        asked = needs(self.resources)
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        return [node for node in alive if all(node["Resources"].get(name, 0) >= asked[name] for name in asked)]

    def _lack(self) -> str:
        gpu = ", a GPU" if self.resources.device == "cuda" else ""
        memory = f", {self.resources.memory_mib:g} MiB of memory" if self.resources.memory_mib is not None else ""
        return f"no node of the Ray cluster has {self.resources.threads} CPUs{gpu}{memory}"

    def _check_fit(self) -> None:
        if not self._fitting():
            raise RequestError(
                f"--executor ray: {self._lack()}, which each job asks for; lower --threads or --memory-mib, or add "
                "such a node."
            )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
