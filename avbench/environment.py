"""What a result was made with: versions, hardware, code revision. Part of every record."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import torch

from avbench.diagnosis import driver_version, installed_version

_PACKAGES = ("avbench", "torch", "torchvision", "torchaudio", "numpy", "safetensors", "scikit-learn", "timm")


@cache
def environment() -> dict[str, Any]:
    """Python, packages, processor, GPU and driver, git revision of avbench's own checkout if it is one."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "packages": {name: installed_version(name) for name in _PACKAGES},
        "cuda": torch.version.cuda,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "driver": driver_version(),
        "host": platform.node(),
        "git": _git_revision(),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _git_revision() -> str | None:
    """The commit, with "+changes" where the checkout differs from it; ``None`` for an installed wheel."""
    here = Path(__file__).resolve().parent
    if not (here.parent / ".git").exists():
        return None
    found = [_git(here, "rev-parse", "HEAD"), _git(here, "status", "--porcelain", "--untracked-files=no")]
    if found[0] is None:
        return None
    return found[0] + ("+changes" if found[1] else "")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def peak_memory_mib(device: torch.device) -> dict[str, float]:
    """Peak memory of this process in MiB: resident, and allocated on the GPU where there is one."""
    import resource

    # Linux counts in KiB, macOS in bytes.
    unit = 1024**2 if sys.platform == "darwin" else 1024
    found = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit}
    if device.type == "cuda":
        found["gpu"] = torch.cuda.max_memory_allocated(device) / 1024**2
    return {name: round(value, 1) for name, value in found.items()}
