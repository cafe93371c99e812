"""Real third-party packages for the tests: built and installed by pip into a folder of their own, without network."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import venv
from collections.abc import Mapping
from pathlib import Path


def install(
    folder: Path, distribution: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]
) -> Path:
    """Install a package into ``folder/site`` and return that folder.

    Args:
        entry_points: group → {name: target}.
        modules: module name → source.
    """
    source = folder / f"source-{distribution}"
    source.mkdir(parents=True)
    lines = [
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
        "[project]",
        f'name = "{distribution}"',
        'version = "1.2.3"',
    ]
    for group, names in entry_points.items():
        lines.append(f'[project.entry-points."{group}"]')
        lines += [f'{name} = "{target}"' for name, target in names.items()]
    lines += ["[tool.hatch.build.targets.wheel]", f"only-include = {[f'{name}.py' for name in modules]}"]
    (source / "pyproject.toml").write_text("\n".join(lines), encoding="utf-8")
    for name, text in modules.items():
        (source / f"{name}.py").write_text(textwrap.dedent(text), encoding="utf-8")
    return pip_install(folder / "site", source)


def pip_install(site: Path, what: Path) -> Path:
    """``pip install --target``: a venv inside a venv would not see the outer one's torch."""
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run(
        [*command, "--upgrade", "--target", str(site), str(what)],
        check=True,
        capture_output=True,
        text=True,
    )
    return site


def avbench(
    *arguments: str, site: Path | None = None, cwd: Path | None = None, timeout_s: float = 900.0
) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, with the packages of ``site`` installed."""
    path = os.pathsep.join(filter(None, [str(site) if site else "", os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-c", "from avbench.cli import main; main()", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
    )


def fresh_environment(folder: Path) -> str:
    """The interpreter of a new virtual environment, with the packages of this one by a ``.pth`` file."""
    venv.create(folder, with_pip=False, symlinks=True)
    (site,) = folder.glob("lib/*/site-packages")
    paths = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    # Of an editable installation the .pth files count, which a plain path would not have read.
    lines = [f"import site; site.addsitedir({path!r})" for path in paths]
    (site / "packages.pth").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(folder / "bin" / "python")
