"""From a variant on the command line to a plugin with resolved options, and back from a recorded reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from avbench import plugins
from avbench.errors import PluginError, RequestError
from avbench.grammar import Variant, canonical
from avbench.jobs import Networks, PluginRef
from avbench.options import from_json, resolve, to_json
from avbench.plugin import Setting

Settings = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Configured:
    """A plugin class, its configuration, and how both are recorded."""

    target: Any
    config: Any
    ref: PluginRef

    def build(self) -> Any:
        """The plugin itself; for kinds whose constructor takes the configuration alone."""
        return self.target(self.config)


def configure(kind: str, variant: Variant, settings: Settings, setting: Setting) -> Configured:
    """Load a plugin and merge its options by precedence.

    Raises:
        PluginError: it can't be loaded, or it fails while giving its defaults.
        RequestError: an option is unknown or ill-typed.
    """
    loaded = plugins.load(kind, variant.name)
    try:
        published = loaded.target.defaults(setting)
    except Exception as error:  # a plugin's code: any exception is its own
        raise _at_fault(loaded.info, "defaults", error) from error
    plain = variant.name.rpartition(":")[2]
    by_set = {**settings.get(plain, {}), **settings.get(variant.name, {})}
    layers = [(published, "plugin default"), (by_set, "--set"), (variant.given, "command line")]
    resolved = resolve(loaded.target.Config, variant.name, layers)
    ref = PluginRef(
        name=variant.name,
        label=canonical(variant.name, {**by_set, **variant.given}).label,
        version=loaded.target.version,
        distribution=loaded.info.distribution,
        distribution_version=loaded.info.version,
        options=to_json(resolved.config),
        origins=resolved.origins,
    )
    return Configured(loaded.target, resolved.config, ref)


def reconstruct(kind: str, ref: PluginRef) -> Configured:
    """The plugin that a recorded reference names, with exactly its options."""
    loaded = plugins.load(kind, ref.name)
    if loaded.target.version != ref.version:
        raise PluginError(
            f"{kind[:-1]} {ref.name!r} is at version {loaded.target.version}, the plan was made with {ref.version}.",
            plugin=ref.name,
            phase="load",
        )
    return Configured(loaded.target, from_json(loaded.target.Config, ref.options, ref.name), ref)


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
    try:
        target.check(configured.config, setting)
    except RequestError:
        raise
    except Exception as error:
        raise PluginError(
            f"method {label} ({configured.ref.distribution} {configured.ref.distribution_version}) failed in "
            f"check: {type(error).__name__}: {error}",
            plugin=label,
            phase="check",
        ) from error


def check_architecture(ref: PluginRef, setting: Setting) -> None:
    """Build the networks without memory for weights, so that a size that does not fit is told before training.

    Raises:
        RequestError: the architecture does not accept the input size.
    """
    architecture = reconstruct("architectures", ref).build()
    try:
        with torch.device("meta"):
            for modality in setting.modality:
                architecture.build(setting.dataset, modality)
    except RequestError:
        raise
    except Exception as error:
        raise PluginError(
            f"architecture {ref.label} ({ref.distribution} {ref.distribution_version}) failed to build: "
            f"{type(error).__name__}: {error}",
            plugin=ref.label,
            phase="build",
        ) from error


def _at_fault(info: plugins.PluginInfo, phase: str, error: Exception) -> PluginError:
    return PluginError(
        f"{info.kind[:-1]} {info.name!r} ({info.distribution} {info.version}) failed in {phase}: "
        f"{type(error).__name__}: {error}",
        plugin=info.name,
        phase=phase,
    )
