"""The same command in two fresh virtual environments: are all its bits the same?

    python tests/environments.py                                  # installs avbench twice: an index, 10 GB, minutes
    python tests/environments.py --python A/bin/python --python B/bin/python      # environments that are there
    python tests/environments.py -- --method dm --dataset avdigits --ipc 10       # another run than the short one

Each has a working folder, data folder and run directory of its own, and the second another hash seed and other numbers
of threads in its variables. Compared are the stores that they prepared, every tensor file, learning curve and result,
and the boards without their times. Prints JSON; exit status 3 where something differs.
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = ("--method", "random,herding,dm,avdd", "--dataset", "avdigits", "--ipc", "1", "--seeds", "1")
#: What surrounds the run in either environment.
SURROUNDINGS = (
    {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "3", "MKL_NUM_THREADS": "2"},
)
_VERSIONS = (
    "from importlib.metadata import version as v; print(*(f'{n} {v(n)}' for n in ('torch', 'numpy', 'avbench')))"
)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--python", action="append", default=[], help="an interpreter with avbench; give it twice")
    parser.add_argument("command", nargs="*", help="options of avbench run, after --")
    asked = parser.parse_args(arguments)
    if len(asked.python) not in (0, 2):
        parser.error("--python: expected two of them, or none")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="environments-") as folder:
        root = Path(folder)
        # Links are left as they are: resolved, they would lead out of their environments.
        given = [os.path.abspath(each) for each in asked.python]  # noqa: PTH100
        pythons = given or [fresh(root / name / "environment") for name in "ab"]
        found = []
        for name, python, around in zip("ab", pythons, SURROUNDINGS, strict=True):
            place = root / name
            place.mkdir(exist_ok=True)
            found.append(results(place, run(place, python, asked.command or COMMAND, around)))
        versions = [_ask(python, "-c", _VERSIONS).strip() for python in pythons]
    differing = differences(*found)
    boards = list(difflib.unified_diff(*(each["board"] for each in found), n=0, lineterm=""))
    about = {"environments": versions, "compared": len(found[0]), "differing": differing, "boards": boards}
    print(json.dumps({**about, "duration_s": round(time.monotonic() - began)}, indent=1))
    return 3 if differing else 0


def fresh(folder: Path) -> str:
    """The interpreter of a new environment into which avbench was installed from its sources, and all else anew."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    _ask(python, "-m", "pip", "install", "-q", f"{ROOT}[speech]")
    return python


def run(place: Path, python: str, command: Sequence[str], around: dict[str, str]) -> str:
    """Run the command below ``place``; returns the board that it prints."""
    code = "from avbench.cli import main; main()"
    where = ("--data", "data", "--out", "runs", "--device", "cpu")
    return _ask(python, "-P", "-c", code, "run", *command, *where, cwd=place, **around)


def results(place: Path, board: str) -> dict[str, Any]:
    """Everything that must be the same, by its name."""
    return dict(_results(place, board))


def _results(place: Path, board: str) -> Iterator[tuple[str, Any]]:
    for path in sorted(place.glob("data/*/store.json")):
        yield path.parent.name, json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    for path in sorted((place / "runs").glob("*/*/*")):
        name = path.relative_to(place / "runs").as_posix()
        if path.suffix == ".safetensors" or path.name == "curve.jsonl":
            yield name, hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "record.json":
            record = json.loads(path.read_text(encoding="utf-8"))
            yield name, (record["status"], record.get("result"))
    yield "board", [_timeless(line) for line in board.splitlines() if not line.startswith("results: ")]


def _timeless(line: str) -> str:
    """A line of a board; of a row, all but its last column."""
    return line.rpartition("|")[0].rpartition("|")[0] or line


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What is not in both, or not the same in both."""
    names = one.keys() | other.keys()
    return sorted(name for name in names if name not in one or name not in other or one[name] != other[name])


def _ask(python: str, *arguments: str, cwd: Path | None = None, **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run([python, *arguments], cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{python} {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
