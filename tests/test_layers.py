"""What may know what: the core names no plugin, plugins use the public API, the command line starts light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "avbench").rglob("*.py"))
PLUGINS = sorted((ROOT / "plugins").rglob("*.py"))
PUBLIC = {"avbench.api"}


def _imports(path: Path) -> list[str]:
    found: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return found


def _strings(path: Path) -> set[str]:
    """String constants that are not docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
    }


def test_the_core_imports_and_names_no_first_party_method_or_dataset() -> None:
    names = {path.stem for path in PLUGINS if path.parent.name in ("avbench_methods", "avbench_datasets")}
    # Words of their own; their imports are looked at all the same.
    names -= {"__init__", "random", "matching", "folder"}
    assert {"dm", "avdd", "herding", "whole", "avdigits", "arrays"} <= names
    for path in CORE:
        assert not [name for name in _imports(path) if name.startswith(("avbench_methods", "avbench_datasets"))]
        # "herding" is also an initialisation that the core offers to every method.
        named = {text for text in _strings(path) if text in names - {"herding"}}
        assert not named, f"{path} names {named}"


def test_plugins_import_only_the_public_api_and_their_own_package() -> None:
    for path in PLUGINS:
        for name in _imports(path):
            if name == "avbench" or name.startswith("avbench."):
                assert name in PUBLIC, f"{path} imports {name}"


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "--json"], ["run", "--help"], ["new", "--help"]])
def test_help_and_list_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from avbench.cli import main; sys.argv[1:] = sys.argv[1:]\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'torchaudio', 'torchvision', 'timm', 'pandas', 'sklearn', 'numpy', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)), 'avbench_methods' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY [] False"
