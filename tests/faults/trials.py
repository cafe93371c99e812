"""The faults: each a function that makes one happen by a real mechanism and says what came of it."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from avbench.testing.stores import PLAIN
from faults.places import ReadOnly, SmallDisk, as_nobody, can_mount, chmod_folders
from faults.processes import start, start_anew
from faults.scene import KINDS, Scene, Trial, happened, stop_at

#: What a run may end with when something was taken from it: all done in spite of it, can't write, wrong, some failed.
_DISTURBED = (0, 1, 2, 3)
_TWO_DAYS_S = 172_800
_KILLED = -int(signal.SIGKILL)


class Impossible(Exception):  # noqa: N818
    """A fault that can't be made here, and why."""


def kill_coordinator(scene: Scene) -> Trial:
    """SIGKILL of the coordinator, before one of its acts or shortly after."""
    before = scene.rng.choice(KINDS)
    to_do = len(KINDS) - KINDS.index(before)
    return _kill(scene, "kill-coordinator", "coordinator", before, to_do / len(KINDS), (_KILLED,))


def kill_worker(scene: Scene) -> Trial:
    """SIGKILL of a worker of any kind; its run goes on, and says that it failed or tries again."""
    kind = scene.rng.choice(KINDS)
    return _kill(scene, "kill-worker", kind, kind, 1.0, (0, 3))


def _kill(scene: Scene, name: str, kind: str, before: str, share: float, statuses: tuple[int, ...]) -> Trial:
    """A kill in a run that has so much left to do; one whose moment never came is no kill, and another is tried."""
    while True:
        at = scene.moment(kind, share, late=scene.rng.random() < 0.5)
        trial = Trial(name, at)
        out = scene.begun(scene.folder() / "runs", before)
        environment = scene.watched(out, FAULTS_AT=at, FAULTS_DO="kill")
        ended = start(scene.grid(out), environment).wait()
        if happened(environment):
            break
    # One that ended by itself within the milliseconds of a late kill has not been killed.
    scene.judge(trial, out, ended, (*statuses, 0) if "+" in at else statuses)
    scene.rerun(trial, out)
    return trial


def kill_loader(scene: Scene) -> Trial:
    """SIGKILL of a preparation or of one of its decoders, on an empty folder or where an older store stands."""
    kind = scene.rng.choice(("prepare", "loader"))
    older = scene.rng.random() < 0.5
    while True:
        at = scene.moment(kind, late=scene.rng.random() < 0.5)
        trial = Trial("kill-loader", f"{at}, {'over an older store' if older else 'anew'}")
        data = scene.folder() / "data"
        if older:
            shutil.copytree(scene.prepared, data)
        else:
            data.mkdir()
        environment = scene.watched(data, FAULTS_AT=at, FAULTS_DO="kill")
        ended = start(scene.preparing(data), environment).wait()
        if happened(environment):
            break
    # A decoder that dies loses its video, which is counted; a preparation killed late may have been at its end.
    statuses = (0, 2) if kind == "loader" else (_KILLED, 0) if "+" in at else (_KILLED,)
    scene.judge_store(trial, data, ended, statuses)
    if older:
        trial.hold("whole", (data / "films" / "store.json").is_file(), "neither the older store nor the new one")
    scene.prepare_again(trial, data)
    return trial


def disk_full(scene: Scene) -> Trial:
    """A file system that fills up under a run."""
    _need(can_mount(), "mounting a small file system needs more rights; see file-size")
    kind, free_kib = scene.kind(), scene.rng.randrange(0, 120, 4)
    trial = Trial("disk-full", f"{free_kib} KiB before {kind}")
    with SmallDisk(scene.folder(), 64 << 20) as disk:
        out = scene.begun(disk.path / "runs", kind)
        disk.leave(free_kib << 10)
        scene.judge(trial, out, start(scene.grid(out), scene.watched(out)).wait(), _DISTURBED)
        disk.resize(64 << 20)
        scene.rerun(trial, out)
    return trial


def disk_full_of_data(scene: Scene) -> Trial:
    """A file system that fills up under a preparation."""
    _need(can_mount(), "mounting a small file system needs more rights; see file-size")
    size_kib = scene.rng.randrange(20, 200, 4)
    trial = Trial("disk-full-of-data", f"{size_kib} KiB")
    with SmallDisk(scene.folder(), size_kib << 10) as disk:
        ended = start(scene.preparing(disk.path), scene.watched(disk.path)).wait()
        scene.judge_store(trial, disk.path, ended, _DISTURBED)
        disk.resize(64 << 20)
        scene.prepare_again(trial, disk.path)
    return trial


def file_size(scene: Scene) -> Trial:
    """No file may grow beyond a limit (EFBIG), as under a quota."""
    size_kib = scene.rng.randrange(1, 60)
    trial = Trial("file-size", f"{size_kib} KiB a file")
    out = scene.begun(scene.folder() / "runs", scene.kind())
    limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size_kib << 10, resource.RLIM_INFINITY))
    scene.judge(trial, out, start(scene.grid(out), scene.watched(out), limit).wait(), _DISTURBED)
    scene.rerun(trial, out)
    return trial


def read_only(scene: Scene) -> Trial:
    """A file system that becomes read-only in mid-run, and is at the next start."""
    _need(can_mount(), "mounting needs more rights")
    kind, at = _some_worker(scene)
    trial = Trial("read-only", at)
    out = scene.begun(scene.folder() / "runs", kind)
    with ReadOnly(out) as folder:
        _disturb(scene, trial, out, at, folder.cover)
        refused = start(scene.grid(out), scene.watched(out)).wait()
        scene.judge(trial, out, refused, (1, 2))
        folder.uncover()
        scene.rerun(trial, out)
    return trial


def lost_permission(scene: Scene) -> Trial:
    """A user who may no longer write into any folder of the run directory."""
    kind, at = _some_worker(scene)
    trial = Trial("lost-permission", at)
    out = scene.begun(scene.folder() / "runs", kind)
    user = as_nobody(out)
    _disturb(scene, trial, out, at, lambda: chmod_folders(out, 0o555), before=user)
    refused = start(scene.grid(out), scene.watched(out), user).wait()
    scene.judge(trial, out, refused, (1, 2))
    chmod_folders(out, 0o777)
    scene.rerun(trial, out)
    return trial


def removed_store(scene: Scene) -> Trial:
    """The dataset's store vanishes in mid-run."""
    kind, at = _some_worker(scene)
    trial = Trial("removed-store", at)
    place = scene.folder()
    out = scene.begun(place / "runs", kind)
    data = place / "data"
    shutil.copytree(scene.data, data)
    _disturb(scene, trial, out, at, lambda: shutil.rmtree(data / PLAIN), data=data)
    refused = start(scene.grid(out, data), scene.watched(out)).wait()
    scene.judge(trial, out, refused, (2,))
    shutil.copytree(scene.data, data, dirs_exist_ok=True)
    scene.rerun(trial, out, data)
    return trial


def clock_back(scene: Scene) -> Trial:
    """The clock jumps back two days in mid-run, for Python's own functions of time; timestamps of files stay true."""
    kind, at = _some_worker(scene)
    trial = Trial("clock-back", at)
    place = scene.folder()
    out, hands = scene.begun(place / "runs", kind), place / "hands"
    hands.write_text("0", encoding="ascii")
    more = {"FAULTS_HANDS": str(hands)}
    _disturb(scene, trial, out, at, lambda: hands.write_text(f"-{_TWO_DAYS_S}", encoding="ascii"), (0,), more=more)
    told = start(("status", str(out)), scene.watched(out, **more)).wait()
    scene.judge(trial, out, told, (0,))
    scene.rerun(trial, out)
    return trial


def stdin_closed(scene: Scene) -> Trial:
    """The command is started without a standard input."""
    return _started_so(scene, "stdin-closed", (0,), lambda: os.close(0))


def outputs_closed(scene: Scene) -> Trial:
    """The command is started without standard output and standard error."""
    return _started_so(scene, "outputs-closed", (0,), lambda: (os.close(1), os.close(2)))


def broken_pipe(scene: Scene) -> Trial:
    """Whoever reads the board has gone before it is printed."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        return _started_so(scene, "broken-pipe", (1,), lambda: None, stdout=writing)
    finally:
        os.close(writing)


def _started_so(
    scene: Scene, name: str, statuses: tuple[int, ...], before: Callable[[], object], stdout: int | None = None
) -> Trial:
    kind = scene.kind()
    trial = Trial(name, f"before {kind}")
    out = scene.begun(scene.folder() / "runs", kind)
    ended = start_anew(scene.grid(out), scene.watched(out), lambda: (before(), None)[1], stdout).wait()
    scene.judge(trial, out, ended, statuses)
    trial.hold("finished", scene.results(out) == scene.results(scene.reference), "the run itself did not finish")
    scene.rerun(trial, out)
    return trial


def address_space(scene: Scene) -> Trial:
    """A process gets no more address space from some moment on."""
    before = scene.kind()
    kind = scene.rng.choice((before, "coordinator"))
    at = scene.moment(kind, 1.0 if kind == before else 1 / len(KINDS))
    trial = Trial("address-space", at)
    out = scene.begun(scene.folder() / "runs", before)
    ended = start(scene.grid(out), scene.watched(out, FAULTS_AT=at, FAULTS_DO="starve")).wait()
    scene.judge(trial, out, ended, _DISTURBED)
    scene.rerun(trial, out)
    return trial


def gpu_gone(scene: Scene) -> Trial:
    """Workers that are started from some moment on see no GPU."""
    import torch

    _need(torch.cuda.is_available(), "there is no GPU")
    at = scene.moment("coordinator")
    trial = Trial("gpu-gone", at)
    out, whole = scene.folder() / "runs", scene.folder() / "runs"
    on_gpu = ("--device", "cuda")
    assert start_anew((*scene.grid(whole), *on_gpu), scene.watched(whole)).wait().status == 0
    environment = scene.watched(out, FAULTS_AT=at, FAULTS_DO="hide GPU")
    scene.judge(trial, out, start_anew((*scene.grid(out), *on_gpu), environment).wait(), (0, 3))
    ended = start_anew((*scene.grid(out), *on_gpu), scene.watched(out)).wait()
    trial.hold("finished", ended.status == 0, ended.stderr[-600:])
    trial.hold("identical", scene.results(out) == scene.results(whole), "other results than undisturbed")
    return trial


def _need(possible: bool, why: str) -> None:
    if not possible:
        raise Impossible(why)


def _some_worker(scene: Scene) -> tuple[str, str]:
    kind = scene.kind()
    return kind, scene.moment(kind)


def _disturb(
    scene: Scene,
    trial: Trial,
    out: Path,
    at: str,
    apply: Callable[[], object],
    statuses: tuple[int, ...] = _DISTURBED,
    *,
    data: Path | None = None,
    before: Callable[[], None] = lambda: None,
    more: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Run until a worker stops itself at its moment, do something to the run, let it go on."""
    environment = scene.watched(out, FAULTS_AT=at, FAULTS_DO="stop", **more)
    Path(environment["FAULTS_MARK"]).parent.chmod(0o777)
    running = start(scene.grid(out, data), environment, before)
    process = stop_at(running, environment)
    apply()
    if process is not None:
        os.kill(process, signal.SIGCONT)
    scene.judge(trial, out, running.wait(), statuses)


#: By the name on the command line.
FAULTS: dict[str, Callable[[Scene], Trial]] = {
    "kill-coordinator": kill_coordinator,
    "kill-worker": kill_worker,
    "kill-loader": kill_loader,
    "disk-full": disk_full,
    "disk-full-of-data": disk_full_of_data,
    "file-size": file_size,
    "read-only": read_only,
    "lost-permission": lost_permission,
    "removed-store": removed_store,
    "clock-back": clock_back,
    "stdin-closed": stdin_closed,
    "outputs-closed": outputs_closed,
    "broken-pipe": broken_pipe,
    "address-space": address_space,
    "gpu-gone": gpu_gone,
}
KILLS = ("kill-coordinator", "kill-worker", "kill-loader")
