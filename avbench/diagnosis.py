"""Whether this machine fits: versions, driver and devices checked against each other, and what to do where not."""

from __future__ import annotations

import importlib
import os
import platform
import shutil
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

#: torch 2.N, torchvision 0.(N+15) and torchaudio 2.N are one generation, but for torchaudio 2.11.1: it allows any torch
#: from 2.11 on and needs a symbol that torch 2.11 lacks. The same bounds as in pyproject.toml.
GENERATION = {"torch": ">=2.11,<2.12", "torchvision": ">=0.26,<0.27", "torchaudio": ">=2.11,<2.11.1"}
INSTALL = "pip install " + " ".join(f"'{name}{bounds}'" for name, bounds in GENERATION.items())
#: The oldest driver for each CUDA major version (NVIDIA, CUDA toolkit release notes, Linux).
OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
_LOW_DISK_BYTES = 5_000_000_000


@dataclass(frozen=True)
class Device:
    """A GPU as torch sees it; ``capability`` is (major, minor)."""

    name: str
    capability: tuple[int, int]
    memory_mib: int


@dataclass(frozen=True)
class Facts:
    """What was found.

    Attributes:
        packages: version by name, ``None`` where it is not installed.
        import_errors: why a package that is installed can't be imported.
        cuda: the CUDA version torch was built for.
        driver: the NVIDIA driver's version.
        architectures: what torch's kernels were compiled for, such as ``"sm_90"``.
        plugins: how many load; ``broken`` says what is wrong with the others.
        disk_free_bytes: by folder.
    """

    python: str
    packages: dict[str, str | None]
    import_errors: dict[str, str] = field(default_factory=dict)
    cuda: str | None = None
    driver: str | None = None
    devices: tuple[Device, ...] = ()
    architectures: tuple[str, ...] = ()
    plugins: int = 0
    broken: tuple[str, ...] = ()
    disk_free_bytes: dict[str, int] = field(default_factory=dict)


def gather(folders: tuple[Path, ...]) -> Facts:
    """Look at this machine; imports torch and every plugin."""
    from avbench.plugins import audit

    packages = {name: installed_version(name) for name in ("avbench", *GENERATION, "numpy", "timm", "safetensors")}
    import_errors = {name: why for name in GENERATION if packages[name] and (why := _import_error(name))}
    cuda, devices, architectures = (None, (), ()) if "torch" in import_errors else _devices()
    report = audit()
    return Facts(
        python=platform.python_version(),
        packages=packages,
        import_errors=import_errors,
        cuda=cuda,
        driver=driver_version(),
        devices=devices,
        architectures=architectures,
        plugins=sum(not problem for _, problem in report),
        broken=tuple(f"{i.name} ({i.distribution} {i.version}): {problem}" for i, problem in report if problem),
        disk_free_bytes={str(folder): _free_bytes(folder) for folder in folders},
    )


def problems(facts: Facts) -> list[str]:
    """What does not fit, each with what to do; empty where all is well."""
    found = [*_version_problems(facts), *_gpu_problems(facts)]
    found += [f"plugin {text}" for text in facts.broken]
    for folder, free in facts.disk_free_bytes.items():
        if free < _LOW_DISK_BYTES:
            found.append(f"only {free / 1e9:.1f} GB are free under {folder}: choose another with --out or --data.")
    return found


def _version_problems(facts: Facts) -> list[str]:
    found = []
    if not (3, 11) <= _numbers(facts.python)[:2] < (3, 13):
        found.append(f"Python {facts.python}: avbench is made for 3.11 and 3.12.")
    wrong = {
        name: facts.packages.get(name)
        for name, bounds in GENERATION.items()
        if not SpecifierSet(bounds).contains(facts.packages.get(name) or "0", prereleases=True)
    }
    if wrong:
        spelled = ", ".join(f"{name} {found_version or 'absent'}" for name, found_version in wrong.items())
        found.append(f"torch, torchvision and torchaudio are not of one generation ({spelled}): {INSTALL}")
    for name, why in facts.import_errors.items():
        found.append(f"{name} is installed but can't be imported ({why}): {INSTALL}")
    return found


def _gpu_problems(facts: Facts) -> list[str]:
    if facts.driver is None:
        return []
    driver = _numbers(facts.driver)[0]
    if facts.cuda is None:
        return [f"driver {facts.driver} is there, but this torch was built without CUDA: {INSTALL}"]
    needed = OLDEST_DRIVER.get(_numbers(facts.cuda)[0], 0)
    if driver < needed:
        return [
            f"driver {facts.driver} is too old for torch's CUDA {facts.cuda}: "
            f"install driver {needed} or newer; until then everything runs on the CPU."
        ]
    if not facts.devices:
        return [f"driver {facts.driver} fits CUDA {facts.cuda}, but torch sees no device: look at nvidia-smi."]
    compiled = [int(name.removeprefix("sm_")) for name in facts.architectures if name[3:].isdigit()]
    return [
        f"{device.name} has compute capability {device.capability[0]}.{device.capability[1]}, torch's kernels start "
        f"at {min(compiled) // 10}.{min(compiled) % 10}: use --device cpu, or a newer GPU."
        for device in facts.devices
        if compiled and device.capability[0] * 10 + device.capability[1] < min(compiled)
    ]


def driver_version() -> str | None:
    """The NVIDIA kernel driver's version, without asking torch, which is silent when the driver is too old."""
    try:
        return Path("/sys/module/nvidia/version").read_text(encoding="utf-8").strip()
    except OSError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """``"2.11.0+cu130"`` as (2, 11, 0)."""
    parts = text.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit()) or (0,)


def installed_version(package: str) -> str | None:
    """The version of an installed distribution, or ``None``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _import_error(package: str) -> str:
    try:
        importlib.import_module(package)
    except Exception as error:  # a broken binary fails in many ways
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return ""


def _devices() -> tuple[str | None, tuple[Device, ...], tuple[str, ...]]:
    import torch

    if not torch.cuda.is_available():
        return torch.version.cuda, (), ()
    found = []
    for index in range(torch.cuda.device_count()):
        about: Any = torch.cuda.get_device_properties(index)
        found.append(Device(about.name, (about.major, about.minor), about.total_memory // 2**20))
    return torch.version.cuda, tuple(found), tuple(torch.cuda.get_arch_list())


def _free_bytes(folder: Path) -> int:
    """Free space where the folder is, or will be."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
