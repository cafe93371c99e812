"""Grids in files: what ``avbench run --grid`` runs and ``avbench compare`` holds against reported numbers.

A grid (TOML) is lists of the command line's own options under their names without dashes, in the same grammar, and what
else a reader should know of it. It may have several ``[[block]]``: each takes the options above the first of them and
adds or replaces some; their union is one plan. The grids of the paper lie in ``benchmarks/paper``; docs/paper.md says
what a file may hold.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from avbench.blocks import Beside, Block, Grid
from avbench.errors import RequestError, nearest
from avbench.grammar import Variant, parse_settings, parse_variants
from avbench.grid import MODALITIES
from avbench.precision import PRECISIONS
from avbench.presets import preset
from avbench.tuning import parse_tunes

# --- finding ------------------------------------------------------------------------------------------------------


def shelf() -> Path | Traversable:
    """Where the grids are that come with avbench: in the package, or where a reader of a checkout looks for them."""
    found: Path | Traversable = files("avbench") / "grids"
    return found if found.is_dir() else Path(__file__).parent.parent / "benchmarks" / "paper"


def shipped() -> list[str]:
    """Names of the grids that come with avbench."""
    return sorted(each.name.removesuffix(".toml") for each in shelf().iterdir() if each.name.endswith(".toml"))


def grid_text(name: str) -> tuple[str, str]:
    """Where a grid was found, by path or by the name of one that comes with avbench, and what it says.

    Raises:
        RequestError: there is none, or it can't be read.
    """
    path: Path | Traversable = Path(name)
    if not name.endswith(".toml"):
        known = shipped()
        if name not in known:
            raise RequestError(f"--grid {name!r}: {nearest(name, known)} The name of a file ends in .toml.")
        path = shelf() / f"{name}.toml"
    try:
        return str(path), path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a name that holds a zero byte
        raise RequestError(f"--grid {path}: can't be read ({getattr(error, 'strerror', None) or error}).") from None


# --- reading ------------------------------------------------------------------------------------------------------


def read_grid(name: str) -> Grid:
    """The grid of a path, or of a name that comes with avbench.

    Raises:
        RequestError: no such file, an unknown or missing key, or a value that a key can't have: says which.
    """
    where, text = grid_text(name)
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # beyond its own error: numbers of thousands of digits, deep nesting
        raise RequestError(f"--grid {where}: {error}.") from None
    if "sets" in values:
        raise RequestError(
            f"--grid {where} is a release of sets: avbench evaluate --grid {name} --source DIR judges it."
        )
    top = _Reader(f"--grid {where}", values)
    title = top.take("title", _text)
    if title is None:
        raise RequestError(f"--grid {where}: 'title' is missing: say in a line what the grid shows.")
    about = {key: top.take(key, _text) or "" for key in ("cost", "needs")}
    seeds, networks = (top.take(key, _count) for key in ("seeds", "networks"))
    prepare = top.take("prepare", _texts_by_name) or {}
    parts = top.take("block", _tables)
    blocks = [top] if parts is None else [top.joined(part, i) for i, part in enumerate(parts, 1)]
    return Grid(
        name, title, tuple(block.build() for block in blocks), **about, prepare=prepare, seeds=seeds, networks=networks
    )


class _Reader:
    """The keys of a table, with errors that say where they stand."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where, self.values = where, dict(values)

    def take(self, key: str, kind: Callable[[Any, str], Any]) -> Any:
        """A value that is no option of a run, or ``None`` where it is not said."""
        return kind(self.values.pop(key), f"{self.where}, {key}") if key in self.values else None

    def joined(self, part: Mapping[str, Any], number: int) -> _Reader:
        """A block: what stands above the blocks, and what it says itself."""
        where = f"{self.where}, block {number}"
        for key in ("seeds", "networks"):
            if key in part:
                raise RequestError(f"{where}, {key}: it holds for the whole grid; put it above the first [[block]].")
        reported = [_table(each.get("reported", {}), f"{where}, reported") for each in (self.values, part)]
        return _Reader(where, {**self.values, **part, "reported": {**reported[0], **reported[1]}})

    def build(self) -> Block:
        unknown = [key for key in self.values if key not in _KEYS]
        if unknown:
            raise RequestError(f"{self.where}: unknown key {unknown[0]!r}; {nearest(unknown[0], _KNOWN)}")
        found = {
            name: kind(self.values[key], f"{self.where}, {key}")
            for key, (name, kind) in _KEYS.items()
            if key in self.values
        }
        for key in ("method", "dataset", "ipc"):
            if key not in self.values:
                raise RequestError(f"{self.where}: {key!r} is missing: give a list, as with --{key}.")
        block = Block(**found)
        self._check(block)
        return block

    def _check(self, block: Block) -> None:
        strange = set(block.reported.variants).difference(variant.label for variant in block.methods)
        if strange:
            label = sorted(strange)[0]
            raise RequestError(
                f"{self.where}, reported.variant: {label!r} is none of the block's methods; "
                f"{nearest(label, [variant.label for variant in block.methods])}"
            )
        if block.reported.table and not (block.preset and block.reported.source):
            missing = "reported.source" if block.preset else "preset"
            raise RequestError(f"{self.where}: reported.table needs {missing!r} too, to know what is comparable.")


def _wrong(value: Any, flag: str, expected: str) -> RequestError:
    return RequestError(f"{flag} = {value!r}: expected {expected}.")


def _text(value: Any, flag: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _wrong(value, flag, "text")
    return value


def _texts(value: Any, flag: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not (isinstance(texts, list) and texts and all(isinstance(each, str) and each.strip() for each in texts)):
        raise _wrong(value, flag, "text or a list of texts")
    return texts


def _flag(value: Any, flag: str) -> bool:
    if not isinstance(value, bool):
        raise _wrong(value, flag, "true or false")
    return value


def _whole(value: Any, flag: str, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _wrong(value, flag, f"a whole number of at least {least}")
    return value


def _count(value: Any, flag: str) -> int:
    return _whole(value, flag, 1)


def _numbers(value: Any, flag: str, least: int = 1) -> tuple[int, ...]:
    listed = value if isinstance(value, list) else [value]
    found = tuple(_whole(each, flag, least) for each in listed)
    if not found or len(set(found)) < len(found):
        raise _wrong(value, flag, "numbers, each listed once")
    return found


def _steps(value: Any, flag: str) -> tuple[int, ...]:
    return tuple(sorted(_numbers(value, flag, 0)))


def _variants(value: Any, flag: str) -> tuple[Variant, ...]:
    return parse_variants(",".join(_texts(value, flag)), flag)


def _one_variant(value: Any, flag: str) -> Variant:
    found = _variants(value, flag)
    if len(found) > 1:
        raise _wrong(value, flag, "one architecture")
    return found[0]


def dataset_names(text: str, flag: str) -> tuple[str, ...]:
    """Names of stores, as ``--dataset`` lists them.

    Raises:
        RequestError: a broken list, or a store with options.
    """
    variants = parse_variants(text, flag)
    options = [v.label for v in variants if v.options]
    if options:
        raise RequestError(f"{flag} {options[0]}: options belong to avbench prepare; a run takes the store's name.")
    return tuple(v.name for v in variants)


def _datasets(value: Any, flag: str) -> tuple[str, ...]:
    return dataset_names(",".join(_texts(value, flag)), flag)


def _choice(known: Sequence[str]) -> Callable[[Any, str], tuple[str, ...]]:
    def read(value: Any, flag: str) -> tuple[str, ...]:
        found = tuple(part.strip() for text in _texts(value, flag) for part in text.split(","))
        for each in found:
            if each not in known:
                raise RequestError(f"{flag} = {value!r}: {nearest(each, known)}")
        return found

    return read


def _table(value: Any, flag: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(value, flag, "a table")
    return value


def _tables(value: Any, flag: str) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not value:
        raise _wrong(value, flag, "tables, each headed [[block]]")
    return [_table(each, flag) for each in value]


def _texts_by_name(value: Any, flag: str) -> dict[str, str]:
    return {key: _text(text, f"{flag}, {key!r}") for key, text in _table(value, flag).items()}


def _reported(value: Any, flag: str) -> Beside:
    plain = dict(_table(value, flag))
    variants: dict[str, str] = {}
    for key, text in _table(plain.pop("variant", {}), f"{flag}.variant").items():
        if not isinstance(text, str):  # "" is the figures' plain method
            raise _wrong(text, f"{flag}.variant, {key!r}", "text")
        variants[parse_variants(key, f"{flag}.variant")[0].label] = text
    known = ("source", "table", "method")
    unknown = [key for key in plain if key not in known]
    if unknown:
        raise RequestError(f"{flag}: unknown key {unknown[0]!r}; {nearest(unknown[0], (*known, 'variant'))}")
    return Beside(**{key: _text(text, f"{flag}.{key}") for key, text in plain.items()}, variants=variants)


#: Key in a file → field of a block, and how a value is read.
_KEYS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "method": ("methods", _variants),
    "dataset": ("datasets", _datasets),
    "ipc": ("ipcs", _numbers),
    "modality": ("modalities", _choice(MODALITIES)),
    "arch": ("architectures", _variants),
    "distil-arch": ("distil_architecture", _one_variant),
    "fusion": ("fusions", _variants),
    "protocol": ("protocols", _variants),
    "snapshots": ("snapshots", _steps),
    "set": ("settings", lambda value, flag: parse_settings(_texts(value, flag))),
    "tune": ("tunes", lambda value, flag: parse_tunes(_texts(value, flag))),
    "preset": ("preset", lambda value, flag: preset(_text(value, flag)).name),
    "precision": ("precision", lambda value, flag: _choice(PRECISIONS)(value, flag)[0]),
    "controls": ("controls", _flag),
    "equal-storage": ("equal_storage", _flag),
    "init-weights": ("init_weights", lambda value, flag: Path(_text(value, flag))),
    "needs-weights": ("needs_weights", _flag),
    "reported": ("reported", _reported),
}
_KNOWN = (*_KEYS, "title", "cost", "needs", "seeds", "networks", "prepare", "block")
