"""Making a plugin's checks in processes of their own: one that ends or hangs costs its check, never the tool.

Imports neither torch nor the plugin.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avbench.errors import AvbenchError, PluginError

_LOOK_EVERY_S = 0.05
#: Importing torch and the plugin, before the first check.
_START_S = 120.0


@dataclass(frozen=True)
class Outcome:
    """What came of one check: ``ok``, ``failed`` or ``not checked``."""

    check: str
    status: str
    reason: str
    duration_s: float


class _RefusalError(AvbenchError):
    """What the child could not begin, with its exit status."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def supervise(
    plugin: str,
    options: Mapping[str, str],
    source: Path | None,
    limit_s: float,
    progress: Callable[[str], None],
) -> list[Outcome]:
    """The outcome of every check of ``"kind:name"``, in order.

    Args:
        limit_s: seconds that a check may take; then its process is killed, and the others go on.
        progress: called with the name of each check that is begun.

    Raises:
        PluginError: the plugin ends or hangs the process that imports it.
        AvbenchError: whatever refuses to be checked: unknown names and options.
    """
    outcomes: dict[str, Outcome] = {}
    names: list[str] = []
    with tempfile.TemporaryDirectory(prefix="avbench-supervised-") as folder:
        request, report = Path(folder) / "request.json", Path(folder) / "report.jsonl"
        while not names or len(outcomes) < len(names):
            wanted = {
                "plugin": plugin,
                "options": dict(options),
                "source": str(source.absolute()) if source is not None else None,
                "made": list(outcomes),
            }
            request.write_text(json.dumps(wanted), encoding="utf-8")
            report.write_text("", encoding="utf-8")
            names, found, begun, how = _one_process(folder, request, report, limit_s, progress)
            outcomes |= {outcome.check: outcome for outcome in found}
            if begun is not None:
                outcomes[begun] = Outcome(begun, "failed", how, 0.0)
            elif not found and len(outcomes) < len(names):
                raise PluginError(f"checking {plugin} went no further: {how}", plugin=plugin, phase="check")
            if not names:
                raise PluginError(f"{plugin} can't be checked: importing it {how}", plugin=plugin, phase="import")
    return [outcomes[name] for name in names]


def _one_process(
    folder: str, request: Path, report: Path, limit_s: float, progress: Callable[[str], None]
) -> tuple[list[str], list[Outcome], str | None, str]:
    """Run a child until it ends or hangs: all checks' names, what is made, what it was in, and how that ended."""
    log = Path(folder) / "log.txt"
    # A child that is killed leaves its temporary folders: below ours they go with it.
    temporary = Path(folder) / "temporary"
    temporary.mkdir(exist_ok=True)
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(temporary))
    with log.open("ab") as file:
        process = subprocess.Popen(
            # -P: a file of the user's, such as random.py in the current folder, must not shadow a module.
            [sys.executable, "-P", "-m", "avbench.testing.child", str(request), str(report)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **places, "OMP_NUM_THREADS": "1"},
        )
        try:
            how = _watch(process, report, limit_s, progress)
        finally:
            # Nothing that a plugin started may outlive its check.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    names, found, begun = _read(report)
    return names, found, begun, how


def _watch(process: subprocess.Popen[bytes], report: Path, limit_s: float, progress: Callable[[str], None]) -> str:
    """Wait, telling what is begun; how the process ended."""
    seen, since, allowed_s = 0, time.monotonic(), _START_S
    while process.poll() is None:
        lines = _lines(report)
        if len(lines) > seen:
            for line in lines[seen:]:
                if "begun" in line:
                    progress(line["begun"])
            seen, since, allowed_s = len(lines), time.monotonic(), limit_s
        if time.monotonic() - since > allowed_s:
            return f"took longer than {allowed_s:g} s and was ended. Look for a loop, or give it --timeout-s."
        time.sleep(_LOOK_EVERY_S)
    status = process.returncode
    by = f"signal {-status} ({signal.Signals(-status).name})" if status < 0 else f"status {status}"
    return f"ended the process with {by}. A plugin must raise where it fails, never exit."


def _lines(report: Path) -> list[dict[str, Any]]:
    """The whole lines of a report."""
    text = report.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def _read(report: Path) -> tuple[list[str], list[Outcome], str | None]:
    names: list[str] = []
    found: list[Outcome] = []
    begun: str | None = None
    for line in _lines(report):
        if "error" in line:
            raise _RefusalError(line["error"], line["exit_status"])
        names = line.get("names", names)
        begun = line.get("begun", begun)
        if "made" in line:
            found.append(Outcome(line["made"], line["status"], line["reason"], line["duration_s"]))
            begun = None
    return names, found, begun
