"""From a variant on the command line to a plugin with resolved options, and back from a recorded reference."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from avbench import plugins
from avbench.cells import Networks, PluginRef
from avbench.errors import PluginError, RequestError
from avbench.grammar import Variant, canonical
from avbench.options import from_json, resolve, to_json
from avbench.plugin import Setting

Settings = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Configured:
    """A plugin class, its configuration, and how both are recorded."""

    target: Any
    config: Any
    ref: PluginRef
    info: plugins.PluginInfo

    def build(self) -> Any:
        """The plugin itself; for kinds whose constructor takes the configuration alone."""
        return self.target(self.config)


def configure(kind: str, variant: Variant, settings: Settings, setting: Setting) -> Configured:
    """Load a plugin and merge its options by precedence.

    Raises:
        PluginError: it can't be loaded, or it fails while giving its defaults or making its configuration.
        RequestError: an option is unknown or ill-typed.
    """
    loaded = plugins.load(kind, variant.name)
    with plugins.guard(loaded.info, "defaults"):
        published = dict(loaded.target.defaults(setting))
    by_set = set_for(settings, variant, loaded.info)
    member = plugins.family_member(loaded.info, variant.name)
    named = {loaded.target.family: member} if member else {}
    layers = [(published, "plugin default"), (by_set, "--set"), (variant.given, "command line"), (named, "its name")]
    with plugins.guard(loaded.info, "options"):
        resolved = resolve(loaded.target.Config, variant.name, layers)
        options = to_json(resolved.config)
        json.dumps(options)  # recorded and keyed: an option must be a scalar or a tuple of them
    ref = PluginRef(
        name=variant.name,
        label=canonical(variant.name, {**by_set, **variant.given}).label,
        version=loaded.target.version,
        distribution=loaded.info.distribution,
        distribution_version=loaded.info.version,
        options=options,
        origins=resolved.origins,
    )
    return Configured(loaded.target, resolved.config, ref, loaded.info)


def set_for(settings: Settings, variant: Variant, info: plugins.PluginInfo) -> dict[str, str]:
    """What ``--set`` says of a variant: the more exactly it names the plugin, the more it counts."""
    return {
        name: value
        for owner in (info.name, variant.plain, variant.name)
        for name, value in settings.get(owner, {}).items()
    }


def reconstruct(kind: str, ref: PluginRef) -> Configured:
    """The plugin that a recorded reference names, with exactly its options."""
    loaded = plugins.load(kind, ref.name)
    if loaded.target.version != ref.version:
        raise PluginError(
            f"{kind[:-1]} {ref.name!r} is at version {loaded.target.version}, the plan was made with {ref.version}.",
            plugin=ref.name,
            phase="load",
        )
    with plugins.guard(loaded.info, "options"):
        config = from_json(loaded.target.Config, ref.options, ref.name)
    return Configured(loaded.target, config, ref, loaded.info)


def configure_networks(
    protocol: Variant, architecture: Variant, fusion: Variant, settings: Settings, setting: Setting
) -> Networks:
    """References to a protocol, architecture and fusion with resolved options."""
    return Networks(
        configure("protocols", protocol, settings, setting).ref,
        configure("architectures", architecture, settings, setting).ref,
        configure("fusions", fusion, settings, setting).ref,
    )


def check_method(configured: Configured, setting: Setting) -> None:
    """Ask the method whether it can work in this setting, and hold it to the class sizes."""
    target, label = configured.target, configured.ref.label
    counts = setting.dataset.counts["train"]
    if target.selects and setting.ipc > min(counts):
        smallest = setting.dataset.classes[counts.index(min(counts))]
        raise RequestError(
            f"--ipc {setting.ipc}: {label} selects real samples, but class {smallest!r} of "
            f"{setting.dataset.name} has only {min(counts)}."
        )
    with plugins.guard(configured.info, "check"):
        target.check(configured.config, setting)


def check_protocol(ref: PluginRef, setting: Setting) -> None:
    """Ask the protocol whether it can judge in this setting.

    Raises:
        RequestError: it can't.
    """
    configured = reconstruct("protocols", ref)
    with plugins.guard(configured.info, "check"):
        configured.target.check(configured.config, setting)


def check_architecture(ref: PluginRef, setting: Setting) -> None:
    """Build the networks without memory for weights, so that a size that does not fit is told before training.

    Raises:
        RequestError: the architecture does not accept the input size.
    """
    configured = reconstruct("architectures", ref)
    with plugins.guard(configured.info, "construction"):
        architecture = configured.build()
    with plugins.guard(configured.info, "build"), torch.device("meta"):
        for modality in setting.modality:
            architecture.build(setting.dataset, modality)
