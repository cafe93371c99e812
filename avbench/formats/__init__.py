"""Foreign layouts of distilled sets, one class each. Nothing that they read is ever executed."""

from __future__ import annotations

from pathlib import Path

from avbench.data.store import StoreInfo
from avbench.errors import RequestError, nearest
from avbench.formats.authors import AuthorsClassWise, AuthorsJoint
from avbench.formats.base import Format, Found, Reading
from avbench.formats.own import Own
from avbench.formats.plain import Npz, Safetensors

__all__ = ["FORMATS", "Found", "Reading", "read_sets"]

FORMATS: dict[str, Format] = {
    each.name: each for each in (Own(), AuthorsJoint(), AuthorsClassWise(), Npz(), Safetensors())
}


def read_sets(path: Path, info: StoreInfo, reading: Reading, name: str = "auto") -> list[Found]:
    """All distilled sets in a file or folder.

    Args:
        info: the dataset that they are for.
        name: one of :data:`FORMATS`, or ``auto``.

    Raises:
        RequestError: nothing there, an unknown layout, or a set that does not fit the dataset.
    """
    if not path.exists():
        raise RequestError(f"{path}: there is no such file or folder.")
    if name != "auto":
        if name not in FORMATS:
            raise RequestError(f"--format {name!r}: {nearest(name, ['auto', *FORMATS])}")
        return FORMATS[name].read(path, info, reading)
    for each in FORMATS.values():
        if each.reads(path):
            return each.read(path, info, reading)
    layouts = "; ".join(each.layout for each in FORMATS.values())
    raise RequestError(f"{path} is in no layout that avbench reads: {layouts}.")
