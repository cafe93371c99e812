"""The sources themselves: what could run what a file says is nowhere called, or only in its harmless form."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for name in ("avbench", "plugins") for path in (ROOT / name).rglob("*.py"))
#: Calls by their last two names, and the argument that makes them harmless; ``None``: nothing does.
CALLS: dict[str, tuple[str, bool] | None] = {
    "torch.load": ("weights_only", True),
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "lib.format.read_array": ("allow_pickle", False),
    **dict.fromkeys(["eval", "exec", "compile", "__import__", "os.system", "os.popen", "marshal.loads", "shelve.open"]),
    **dict.fromkeys(["yaml.load", "yaml.unsafe_load", "joblib.load", "dill.load", "torch.jit.load", "hub.load"]),
    **dict.fromkeys(["pickle.load", "pickle.loads", "pickle.Unpickler", "pandas.read_pickle", "pd.read_pickle"]),
}
#: Between processes that one run started, through pipes that nobody else holds.
EXCEPTIONS = {("avbench/data/pool.py", "pickle.load")}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.AST) -> Iterator[str]:
    """Calls that may run what they are given; a shell counts as one."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = dotted(node.func)
        given = {word.arg: word.value for word in node.keywords}
        if any(isinstance(value, ast.Constant) and value.value for key, value in given.items() if key == "shell"):
            yield "shell"
        for call, harmless in CALLS.items():
            if name == call or ("." in call and name.endswith(f".{call}")):
                value = given.get(harmless[0]) if harmless else None
                if harmless is None or not (isinstance(value, ast.Constant) and value.value is harmless[1]):
                    yield call
        if name.endswith(".extractall") and "filter" not in given:
            yield "extractall"


def test_nothing_that_could_execute_a_file_is_called() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), call)
        for path in SOURCES
        for call in unsafe(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert len(SOURCES) > 100 and found == EXCEPTIONS


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "pickle.loads(text)",
        "eval(text)",
        "subprocess.run(text, shell=True)",
        "archive.extractall(folder)",
    ],
)
def test_the_search_finds_what_it_looks_for(source: str) -> None:
    assert list(unsafe(ast.parse(source)))


def test_what_is_imported_by_a_name_is_found_by_no_other() -> None:
    """``from pickle import load`` would hide a call from the search above."""
    hidden = {"pickle", "marshal", "shelve", "yaml", "dill", "joblib", "runpy", "code"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in hidden, path
                assert not (node.module in ("torch", "numpy") and {"load"} & {each.name for each in node.names}), path
