"""What a Slurm job runs on its node: ``python -m avbench.executors.slurm_node SUBMISSION``.

It runs one job of the array under the local executor, with its limits and causes, leaves word of the end in the job's
folder, and queues the job again where Slurm announces that its time is up. It reads JSON; nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from avbench import __version__
from avbench.events import settled
from avbench.executors.attempts import leave_unsettled
from avbench.executors.base import Cause, Ended
from avbench.executors.local import LocalExecutor
from avbench.executors.slurm_claims import JobClaims
from avbench.executors.slurm_files import Submission, about_node, attempts_of, read_json, write_ended
from avbench.executors.slurm_queue import SlurmError, requeue
from avbench.results import write_atomically

_POLL_S = 0.1
_HEARD_WITHIN_S = 0.5
_SEEN_WITHIN_S = 20.0
#: Slurm looks at time limits once or twice a minute, and may tell a job that much earlier than it was asked to.
_EARLY_S = 90.0


class _ToldError(Exception):
    """Slurm sent a signal: USR2 announces the time limit or a preemption, TERM is the end itself."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class NodeJob:
    """One job of an array on the node where it runs."""

    def __init__(self, submission: Path, index: int, number: str) -> None:
        """Read what is to be done.

        Args:
            submission: the array's folder.
            index: of the job in the array.
            number: Slurm's number of the job.

        Raises:
            OSError, ValueError, TypeError, KeyError, IndexError: there is no such job.
        """
        self._told = Submission.read(submission)
        self._job, self._number = self._told.jobs[index], number
        self._folder = (submission.parent / self._job.folder).resolve()
        self._claims = JobClaims(submission.parent.parent)
        self._attempts = attempts_of(self._folder, self._told.attempts)
        self._began = time.monotonic()
        self._host = socket.gethostname()
        self._signal = 0

    def run(self) -> int:
        """Do the job; the exit status: 0 where ``ended.json`` says how it ended."""
        for each in (signal.SIGTERM, signal.SIGUSR2):
            signal.signal(each, self._hear)
        try:
            refused = self._refusal()
            ended = Ended(self._job.id, 1, "not started", refused) if refused else self._attempt()
        except _ToldError as told:
            return self._told_to_end(told.number)
        finally:
            self._claims.release_all()
        write_ended(self._folder, ended)
        return 0

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or number

    def _refusal(self) -> str:
        """Why the job can't begin here; "" where it can."""
        if self._told.version != __version__:
            return f"{self._host} has avbench {__version__}, the run was started by {self._told.version}"
        deadline = time.monotonic() + _SEEN_WITHIN_S
        while not (self._folder / "spec.json").is_file():  # a shared file system may show a new folder late
            if time.monotonic() > deadline:
                return f"{self._host} does not see {self._folder}"
            time.sleep(0.2)
        return ""

    def _attempt(self) -> Ended:
        """Run the worker, again where it is killed; the end of the job."""
        attempts = self._attempts
        if attempts.number > len(attempts.lost):
            self._lose("it ended without a word: Slurm or its node failed")
        status = -signal.SIGKILL.value
        while len(attempts.lost) < attempts.most:
            if attempts.number and not leave_unsettled(self._folder):
                return Ended(self._job.id, 0)
            if not self._hold():
                return Ended(self._job.id, 1, "taken over")
            ended = self._supervise()
            if ended.cause != "killed":
                return ended
            time.sleep(_HEARD_WITHIN_S)
            if self._signal:  # Slurm sends its signals to the worker too
                raise _ToldError(self._signal)
            status = ended.status
            self._lose(f"the worker was killed by signal {-status}")
        return Ended(self._job.id, status, "killed", attempts.told)

    def _lose(self, why: str) -> None:
        """Note that the present attempt came to nothing, or one that did not come to begin."""
        if len(self._attempts.lost) >= self._attempts.number:
            self._attempts.begin()
        self._attempts.lose(str(read_json(self._folder / "node.json").get("host", self._host)), why)

    def _hold(self) -> bool:
        """Claim what remains of the job for as long as it runs here."""
        if self._claims.held:
            return True
        # What an attempt before this one has ended is claimed no more.
        left = set(self._job.keys) - settled(self._folder / "events.jsonl")
        return all(self._claims.join(key, self._folder, self._number) for key in self._job.keys if key in left)

    def _supervise(self) -> Ended:
        number = self._attempts.begin()
        about = about_node(number, self._host, self._number)
        write_atomically(self._folder / "node.json", json.dumps(about))
        local = LocalExecutor(replace(self._told.resources, slots=1), attempts=1)  # another one is ours to count
        try:
            local.start(self._job.id, self._folder)
            while not (ended := local.ended()):
                if self._claims.beat():
                    local.end(self._job.id)
                if self._signal:
                    raise _ToldError(self._signal)
                time.sleep(_POLL_S)
            return ended[0]
        except OSError as error:
            return Ended(self._job.id, 1, "not started", f"on {self._host}: {error}")
        finally:
            local.stop()

    def _told_to_end(self, number: int) -> int:
        """Note the lost attempt; where only a notice came, queue the job again as long as it has attempts left."""
        if number == signal.SIGTERM:  # Slurm decides what follows: a cancelled job stays away, a preempted one returns
            self._lose("Slurm ended it (SIGTERM): preempted, requeued or cancelled")
            return 128 + number
        why, cause = self._notice()
        self._lose(why)
        refused = ""
        if len(self._attempts.lost) < self._attempts.most:
            try:
                requeue(self._number)
                return 128 + number
            except SlurmError as error:
                refused = f"; it can't be queued again ({error})"
        ended = Ended(self._job.id, -signal.SIGTERM, cause, self._attempts.told + refused)
        write_ended(self._folder, ended)
        return 0

    def _notice(self) -> tuple[str, Cause]:
        """What Slurm's notice means, told by the time that the job has had."""
        limit_min = self._told.time_min
        if limit_min is None:
            return "Slurm announced its end (SIGUSR2): time limit or preemption", "time limit"
        if time.monotonic() - self._began < 60 * limit_min - self._told.notice_s - _EARLY_S:
            return "Slurm announced its end (SIGUSR2) before the time limit: preemption", "killed"
        return f"Slurm's time limit of {limit_min} min", "time limit"


def main(submission: Path) -> int:
    """Do the job that Slurm's environment names."""
    index = int(os.environ.get("SLURM_ARRAY_TASK_ID", "0"))
    return NodeJob(submission.resolve(), index, os.environ["SLURM_JOB_ID"]).run()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
