"""One tiny grid and one tiny preparation, what they come to undisturbed, and whether they came to that again."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

from media import Media, make
from safetensors import safe_open

from avbench.checkpoint import load_checkpoint
from avbench.data.store import available, open_store
from avbench.distilled import load
from avbench.report.board import build_boards
from avbench.report.render import to_markdown
from avbench.results import RunDirectory
from avbench.testing.stores import PLAIN, write_store
from faults.processes import Ended, Running, start, stopped, wait_for

KINDS = ("prerequisite", "distil", "evaluate")
_GRID = ("run", "--method", "dm[init=herding]", "--ipc", "1", "--seeds", "1", "--networks", "1", "--preset", "quick")
_GRID += ("--set", "dm.steps=8", "--set", "dm.batch_real=4", "--set", "convnet.width=4", "--checkpoint-s", "0")
_GRID += ("--set", "recognition-quick.updates=4", "--set", "recognition-quick.epochs=3", "--dataset", PLAIN)
_FILM = Media(width=64, height=48, fps=10, video_s=3.0)
_FILMS = "films"


@dataclass
class Trial:
    """A fault that was made to happen once, and what came of it. ``problems`` says what did not hold, and where."""

    fault: str
    moment: str
    finished: bool = True
    identical: bool = True
    whole: bool = True
    duration_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def hold(self, what: str, holds: bool, why: str) -> None:
        """Note whether ``finished``, ``identical`` or ``whole`` holds."""
        if not holds:
            setattr(self, what, False)
            self.problems.append(f"{self.fault} at {self.moment}: not {what}: {why}")

    def fail(self, why: str) -> None:
        self.problems.append(f"{self.fault} at {self.moment}: {why}")


class Scene:
    """Where faults happen. Whoever makes a folder below it writes there alone.

    Args:
        root: an empty folder that other users may enter.
        rng: decides the moments.
        kinds: the kinds of task in which other faults than kills happen.
    """

    def __init__(self, root: Path, rng: random.Random, kinds: tuple[str, ...] = KINDS) -> None:
        self.root, self.rng, self._kinds = root, rng, kinds
        self._numbers = count()
        self.data = root / "data"
        write_store(self.data, PLAIN)
        self.films = root / "films"
        for split in ("train", "test"):
            for label in ("cat", "dog"):
                make(self.films / split / label / f"{label}.mp4", _FILM)

    def folder(self) -> Path:
        """A new folder below the root."""
        found = self.root / f"at-{next(self._numbers)}"
        found.mkdir()
        return found

    # --- a grid -------------------------------------------------------------------------------------------------------

    def grid(self, out: Path, data: Path | None = None) -> tuple[str, ...]:
        """The command; what failed before is tried again."""
        return (*_GRID, "--data", str(data or self.data), "--out", str(out), "--retry-failed")

    def begun(self, out: Path, before: str) -> Path:
        """Fill a run directory with all that was done before the first task of a kind."""
        for kind in (*KINDS, "jobs", "claims"):
            (out / kind).mkdir(parents=True, exist_ok=True)
        for kind in KINDS[: KINDS.index(before)]:
            shutil.copytree(self.reference / kind, out / kind, dirs_exist_ok=True)
        return out

    @cached_property
    def reference(self) -> Path:
        """The run directory of a grid that nobody disturbed."""
        out = self.folder() / "runs"
        for kind in (*KINDS, "jobs", "claims"):
            (out / kind).mkdir(parents=True)
        done = start(self.grid(out), self.watched(out, FAULTS_COUNTS=str(self.root / "acts.jsonl"))).wait()
        assert done.status == 0, done.stderr
        return out

    @cached_property
    def acts(self) -> dict[str, int]:
        """How often each kind of process touched what it works on."""
        assert self.reference and self.prepared
        lines = (self.root / "acts.jsonl").read_text(encoding="utf-8").splitlines()
        return {each["kind"]: each["count"] for each in map(json.loads, lines)}

    def watched(self, *roots: Path, **more: str) -> dict[str, str]:
        """The environment in which something happens below these folders."""
        mark = self.folder() / "mark"
        return {"FAULTS_ROOTS": os.pathsep.join(map(str, roots)), "FAULTS_MARK": str(mark), **more}

    def kind(self) -> str:
        """The kind of task in which a fault is to happen."""
        return self.rng.choice(self._kinds)

    def moment(self, kind: str, share: float = 1.0, *, late: bool = False) -> str:
        """A moment of a kind of process: before one of its acts, or, if ``late``, up to 50 ms after it.

        Args:
            share: how much of its acts a process has before it that resumes.
        """
        number = self.rng.randint(1, max(1, int(share * self.acts[kind])))
        return f"{kind}:{number}+{self.rng.uniform(0.001, 0.05):.3f}" if late else f"{kind}:{number}"

    def results(self, out: Path) -> dict[tuple[str, str], Any]:
        """What a grid came to: content hash of sets, scores of evaluations, bytes of prerequisites."""
        found: dict[tuple[str, str], Any] = {}
        for kind in KINDS:
            for record in RunDirectory(out).records(kind):
                result = record.get("result", {})
                found[kind, record["key"]] = result.get("content_hash") or result.get("networks") or record["status"]
                if kind == "prerequisite" and record["status"] == "done":
                    path = RunDirectory(out).folder(kind, record["key"]) / "tensors.safetensors"
                    found[kind, record["key"]] = path.read_bytes()
        return found

    def judge(self, trial: Trial, out: Path, ended: Ended, statuses: tuple[int, ...]) -> None:
        """After a fault: no traceback, an exit status that says what happened, nothing half-written read as whole."""
        if "Traceback" in ended.stderr:
            trial.fail(f"a traceback: …{ended.stderr[-1500:]}")
        if ended.status not in statuses:
            trial.fail(f"exit status {ended.status}, expected one of {statuses}: {ended.stderr[-600:]}")
        for why in half_read(out):
            trial.hold("whole", False, why)

    def rerun(self, trial: Trial, out: Path, data: Path | None = None) -> None:
        """The same command, now undisturbed: it ends, and what was finished before is not touched."""
        before = {path: path.read_bytes() for path in out.glob("*/*/record.json") if b'"done"' in path.read_bytes()}
        ended = start(self.grid(out, data), self.watched(out)).wait()
        trial.hold("finished", ended.status == 0, f"exit status {ended.status}: {ended.stderr[-600:]}")
        touched = [path for path, text in before.items() if not path.is_file() or path.read_bytes() != text]
        trial.hold("identical", not touched, f"{len(touched)} finished records were written again")
        trial.hold("identical", self.results(out) == self.results(self.reference), "other results than undisturbed")
        # The claim of a killed run on a task that was done already lies there for ever, and binds nobody.
        left = [*out.glob("claims/.*"), *(path for kind in KINDS for path in out.glob(f"{kind}/*/.*"))]
        trial.hold("whole", not left, f"left lying about: {[str(path.relative_to(out)) for path in left]}")

    # --- a preparation ------------------------------------------------------------------------------------------------

    def preparing(self, data: Path) -> tuple[str, ...]:
        """The command."""
        given = ("--size", "24", "--mels", "16", "--val-fraction", "0", "--workers", "2", "--name", _FILMS)
        return ("prepare", "folder", "--source", str(self.films), "--data", str(data), *given)

    @cached_property
    def prepared(self) -> Path:
        """The data folder of a preparation that nobody disturbed."""
        data = self.folder() / "data"
        data.mkdir()
        done = start(self.preparing(data), self.watched(data, FAULTS_COUNTS=str(self.root / "acts.jsonl"))).wait()
        assert done.status == 0, done.stderr
        return data

    def judge_store(self, trial: Trial, data: Path, ended: Ended, statuses: tuple[int, ...]) -> None:
        """As :meth:`judge`, for a preparation."""
        if "Traceback" in ended.stderr:
            trial.fail(f"a traceback: …{ended.stderr[-1500:]}")
        if ended.status not in statuses:
            trial.fail(f"exit status {ended.status}, expected one of {statuses}: {ended.stderr[-600:]}")
        for name in available(data):
            store = open_store(data, name)
            same = store.recompute_fingerprint() == store.info.fingerprint
            trial.hold("whole", same, f"store {name} opens and is not what its fingerprint says")

    def prepare_again(self, trial: Trial, data: Path) -> None:
        """The same command, now undisturbed: the store is there, and nothing else."""
        ended = start(self.preparing(data), self.watched(data)).wait()
        trial.hold("finished", ended.status == 0, f"exit status {ended.status}: {ended.stderr[-600:]}")
        if ended.status == 0:
            found, wanted = (open_store(each, _FILMS).info.fingerprint for each in (data, self.prepared))
            trial.hold("identical", found == wanted, "another store than undisturbed")
        left = [path.name for path in data.glob(".*")]
        trial.hold("whole", not left, f"left lying about: {left}")


def half_read(out: Path) -> Iterator[str]:
    """What is read as whole and is not: records of sets and networks that do not load, boards that can't be made."""
    directory = RunDirectory(out)
    for kind in KINDS:
        for folder in (out / kind).glob("*"):
            record = directory.record(kind, folder.name)
            if record is not None and record["status"] == "done":
                try:
                    _read(kind, folder, record)
                except Exception as error:
                    yield f"{kind} {folder.name} is done and can't be read: {error}"
            checkpoint = folder / "checkpoint.safetensors"
            if checkpoint.is_file() and load_checkpoint(checkpoint) is None:
                yield f"{checkpoint.name} of {kind} {folder.name} is not whole"
    to_markdown(build_boards([directory]))


def _read(kind: str, folder: Path, record: dict[str, Any]) -> None:
    if kind == "distil":
        assert load(folder).content_hash == record["result"]["content_hash"], "another content hash"
    elif kind == "prerequisite":
        with safe_open(folder / "tensors.safetensors", framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)
    else:
        assert record["result"]["networks"], "no scores"


def happened(environment: dict[str, str]) -> bool:
    """Whether the moment of :meth:`Scene.watched` came."""
    return Path(environment["FAULTS_MARK"]).exists()


def stop_at(running: Running, environment: dict[str, str]) -> int | None:
    """Wait until a process of the command stops itself at its moment; its number, or ``None`` if it never came."""
    mark = Path(environment["FAULTS_MARK"])
    if not wait_for(lambda: mark.is_file() and bool(mark.read_text()), running):
        return None
    process = int(mark.read_text())
    wait_for(lambda: stopped(process), running)
    return process
