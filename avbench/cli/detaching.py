"""``avbench run --detach``: the same run as a process of its own, which outlives the terminal."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from avbench.errors import RequestError

_FLAG = "--detach"
_POLL_S = 0.1
#: A run that has not begun its jobs after so long is still preparing a dataset, or planning.
_BEGINS_WITHIN_S = 60.0


def detach(arguments: list[str], out: Path, dry_run: bool) -> int:
    """Start the run without ``--detach`` in a session of its own, and wait until it has begun.

    A run that is refused, or has nothing to do, ends before: then what it printed and its exit status are passed on.

    Args:
        arguments: of the command line, the verb first.

    Returns:
        The exit status.

    Raises:
        RequestError: there is nothing to detach, or the run directory can't be written.
    """
    if dry_run:
        raise RequestError("--dry-run ends at once: leave out --detach.")
    stem = out / "jobs" / f"detached-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    logs = stem.with_suffix(".out"), stem.with_suffix(".err")
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        with logs[0].open("wb") as stdout, logs[1].open("wb") as stderr:
            # -P: what lies in the current folder must not shadow a module.
            running = subprocess.Popen(
                [sys.executable, "-P", "-c", "from avbench.cli import main; main()", *_without_flag(arguments)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
    except OSError as error:
        raise RequestError(f"--out {out}: can't be written ({error.strerror}); choose another folder.") from None
    deadline = time.monotonic() + _BEGINS_WITHIN_S
    while running.poll() is None and time.monotonic() < deadline and not _begun(out, running.pid):
        time.sleep(_POLL_S)
    if running.poll() is not None:
        print(logs[0].read_text(encoding="utf-8", errors="replace"), end="")
        print(logs[1].read_text(encoding="utf-8", errors="replace"), end="", file=sys.stderr)
        for log in logs:
            log.unlink(missing_ok=True)
        return running.returncode if running.returncode >= 0 else 128 - running.returncode
    state = "goes on" if _begun(out, running.pid) else "is still preparing, and goes on"
    print(
        f"The run {state} as process {running.pid}, without this terminal. How far it is: avbench status {out} "
        f"(--watch: until it ends). To end it: avbench cancel {out}. Its board: {logs[0]}; its messages: {logs[1]}.",
        file=sys.stderr,
    )
    return 0


def _without_flag(arguments: list[str]) -> list[str]:
    return [each for each in arguments if each != _FLAG]


def _begun(out: Path, process: int) -> bool:
    return any((out / "jobs").glob(f"run-{process}-*.json"))
