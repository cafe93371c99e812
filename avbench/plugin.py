"""What every configurable plugin has in common: a version, options, and defaults that depend on the setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from avbench.data.store import StoreInfo
from avbench.dataset import NoOptions


@dataclass(frozen=True)
class Setting:
    """What published defaults may depend on.

    Attributes:
        dataset: the dataset's description.
        ipc: stored items per class; 0 for a method that uses the whole training set.
        modality: ``"a"``, ``"v"`` or ``"av"``: what is distilled.
        preset: ``"quick"`` or ``"paper"``.
    """

    dataset: StoreInfo
    ipc: int
    modality: str
    preset: str


class Plugin:
    """Base of methods, architectures, fusions and protocols.

    Class attributes:
        version: an integer of the plugin's own; raise it when results change. It is part of every key.
        Config: a frozen dataclass whose fields are made by :func:`avbench.options.option`.
        family: for a plugin that stands for many, the option that takes what follows the slash of ``NAME/REST``.
    """

    version: ClassVar[int] = 1
    Config: ClassVar[type[Any]] = NoOptions
    family: ClassVar[str] = ""

    @classmethod
    def defaults(cls, setting: Setting) -> Mapping[str, Any]:
        """Published or preset values for this setting, as ``{option: Sourced(value, source)}``."""
        return {}
