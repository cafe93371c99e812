"""The event log: every event of a run as a line of JSON, for programs that follow it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from avbench.api import hookimpl


class EventLog:
    """Every event of a run as a line of JSON, a file for each process.

    Files are called ``ROLE-HOST-PID.jsonl``. Each line holds ``time`` (seconds since 1970), ``event``, and the event's
    arguments; of a job its id and the keys of its tasks. A line is whole as soon as it is there.
    """

    def __init__(self) -> None:
        self._file: IO[str] | None = None

    @hookimpl
    def process_started(self, folder: Path, role: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{role}-{socket.gethostname()}-{os.getpid()}.jsonl"
        self._file = path.open("a", encoding="utf-8", buffering=1)

    @hookimpl
    def process_finished(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @hookimpl
    def run_started(self, run: Mapping[str, Any]) -> None:
        self._write("run_started", run=dict(run))

    @hookimpl
    def run_finished(self, run: Mapping[str, Any], failed: int, stranded: int, interrupted: bool) -> None:
        self._write("run_finished", run=dict(run), failed=failed, stranded=stranded, interrupted=interrupted)

    @hookimpl
    def job_started(self, job: Mapping[str, Any]) -> None:
        self._write("job_started", **_job(job))

    @hookimpl
    def job_finished(self, job: Mapping[str, Any], status: str) -> None:
        self._write("job_finished", **_job(job), status=status)

    @hookimpl
    def task_finished(self, task: str, kind: str, title: str, status: str, folder: Path | None) -> None:
        place = None if folder is None else str(folder)
        self._write("task_finished", task=task, kind=kind, title=title, status=status, folder=place)

    @hookimpl
    def step(self, task: str, step: int, metrics: Mapping[str, float]) -> None:
        self._write("step", task=task, step=step, metrics=dict(metrics))

    def _write(self, event: str, **facts: Any) -> None:
        if self._file is not None:
            self._file.write(json.dumps({"time": time.time(), "event": event, **facts}, ensure_ascii=False) + "\n")


def _job(job: Mapping[str, Any]) -> dict[str, Any]:
    """What identifies a job; the whole specification is in the run's own folder of jobs."""
    return {"job": job["id"], "kinds": sorted({task["kind"] for task in job["tasks"]}), "tasks": len(job["tasks"])}
