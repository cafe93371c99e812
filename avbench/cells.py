"""Cells, and how what they are made with is named, recorded and keyed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avbench.presets import PRESETS
from avbench.randomness import STREAM_SCHEME

_KEY_LENGTH = 20


def content_key(kind: str, facts: Mapping[str, Any]) -> str:
    """A key from JSON-able facts, the same for any order in which they are given."""
    text = json.dumps({"kind": kind, "streams": STREAM_SCHEME, **facts}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_KEY_LENGTH]


def plain_name(name: str) -> str:
    """A plugin's own name in any spelling of it: what follows the slash of ``family/rest`` is among the options."""
    return name.rpartition(":")[2].partition("/")[0]


@dataclass(frozen=True)
class PluginRef:
    """A plugin with its resolved options, as recorded and keyed.

    Attributes:
        equals: the :func:`configuration` that this one is the same computation as, where its method declares one; a
            statement for boards, and no part of the identity.
    """

    name: str
    label: str
    version: int
    distribution: str
    distribution_version: str
    options: Mapping[str, Any]
    origins: Mapping[str, str]
    equals: str = ""

    def identity(self) -> dict[str, Any]:
        """What results depend on: not how the user spelled it, nor where the values came from."""
        return {
            "name": plain_name(self.name),
            "version": self.version,
            "distribution": self.distribution,
            "options": dict(self.options),
        }


def configuration(reference: Mapping[str, Any]) -> str:
    """What a recorded plugin reference means in one line of text, however its user spelled it."""
    options = sorted(reference["options"].items())
    # A set from elsewhere has no options and is called as its user likes: a slash in its name is nothing but a slash.
    plain = plain_name(reference["name"]) if options else reference["name"].rpartition(":")[2]
    return f"{reference['distribution']}:{plain}/{reference['version']}/{options}"


@dataclass(frozen=True)
class Networks:
    """An architecture, fusion and protocol: how networks are built and trained."""

    protocol: PluginRef
    architecture: PluginRef
    fusion: PluginRef

    def identity(self) -> dict[str, Any]:
        return {
            "protocol": self.protocol.identity(),
            "architecture": self.architecture.identity(),
            "fusion": self.fusion.identity(),
        }


@dataclass(frozen=True)
class Cell:
    """A method on a dataset at an IPC, seed and modality: one distilled set.

    Attributes:
        training: how prerequisites train networks (the preset's defaults); its architecture is the one that distils.
        prerequisites: name → key.
        planned_seeds, planned_networks: what the run asked for, so that a board can tell an incomplete row.
        content: for a set that was brought from elsewhere, its content hash, which then tells it from others.
        dataset_plugin: which plugin prepared the store; a statement for reports, like the store's name no part of the
            key.
    """

    dataset: str
    fingerprint: str
    method: PluginRef
    role: str
    ipc: int
    seed: int
    modality: str
    preset: str
    precision: str
    training: Networks
    prerequisites: Mapping[str, str] = field(default_factory=dict)
    planned_seeds: int = 1
    planned_networks: int = 1
    content: str = ""
    dataset_plugin: str = ""

    @property
    def key(self) -> str:
        facts = {
            "fingerprint": self.fingerprint,
            "method": self.method.identity(),
            "ipc": self.ipc,
            "seed": self.seed,
            "modality": self.modality,
            "precision": self.precision,
            "architecture": self.training.architecture.identity(),
            "prerequisites": dict(self.prerequisites),
        }
        return content_key("distil", facts | ({"content": self.content} if self.content else {}))

    @property
    def name(self) -> str:
        """How the cell is called on the screen; the distilling network only where the user chose it."""
        ipc = f" ipc {self.ipc}" if self.ipc else ""
        modality = "" if self.modality == "av" else f" {self.modality}"
        network = self.training.architecture
        usual = plain_name(network.name) == PRESETS[self.preset].architecture
        chosen = not usual or "command line" in network.origins.values()
        by = f" distilled with {network.label}" if chosen else ""
        return f"{self.method.label} {self.dataset}{ipc}{modality} seed {self.seed}{by}"
