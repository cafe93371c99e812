"""Processes of a run that kill themselves at a chosen moment of their writing: a real SIGKILL, at a known place.

A folder on ``PYTHONPATH`` with this ``sitecustomize`` counts what a process does to the run directory (files opened
for writing, renamed, linked, removed) and, told so, kills it just before its Nth such act. A file that is opened but
not yet whole, a checkpoint not yet renamed, an artefact without its record: each is such a moment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

SITE = """
    import atexit, json, os, signal, sys

    ROOT = os.environ["KILLING_ROOT"]
    ARGUMENTS = sys.orig_argv
    KIND = "coordinator"
    if "avbench.worker" in ARGUMENTS:
        KIND = os.path.basename(ARGUMENTS[-1]).partition("-")[0]
    TARGET, _, NUMBER = os.environ.get("KILLING_AT", "").partition(":")
    count = 0

    def watch(event, arguments):
        global count
        if event == "open":
            path, mode, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, writes = arguments[0], event in ("os.rename", "os.remove", "os.link", "os.mkdir")
        if not writes or not isinstance(path, (str, bytes, os.PathLike)) or not os.fsdecode(path).startswith(ROOT):
            return
        count += 1
        if KIND == TARGET and count == int(NUMBER):
            os.kill(os.getpid(), signal.SIGKILL)

    def tell():
        with open(os.environ["KILLING_COUNTS"], "a") as file:
            file.write(json.dumps({"kind": KIND, "count": count}) + "\\n")

    if "KILLING_COUNTS" in os.environ and ("avbench.worker" in ARGUMENTS or "avbench.cli" in " ".join(ARGUMENTS)):
        atexit.register(tell)
    sys.addaudithook(watch)
"""


def run_watched(site: Path, out: Path, arguments: tuple[str, ...], **more: str) -> subprocess.CompletedProcess[str]:
    """Run the command line with the counting ``sitecustomize`` of the folder ``site``."""
    return subprocess.run(
        [sys.executable, "-c", "from avbench.cli import main; main()", *arguments, "--out", str(out)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(site), "KILLING_ROOT": str(out), **more},
        stdin=subprocess.DEVNULL,
        timeout=300,
    )


def counts(path: Path) -> Mapping[str, int]:
    """How many acts of writing each kind of process made."""
    found = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {each["kind"]: each["count"] for each in found}
