"""What a figure was measured on: hardware and commit, in words."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path

import torch


def machine(device: str) -> str:
    """The hardware and torch's version."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), cpu)
    gpu = f", {torch.cuda.get_device_name()}" if device == "cuda" else ", no GPU used"
    return f"{len(os.sched_getaffinity(0))} cores of {cpu}{gpu}, torch {torch.__version__}"


def commit() -> str:
    """The commit of the working tree, and whether files differ from it."""
    where = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        " with uncommitted changes" if git("status", "--porcelain") else ""
    )
