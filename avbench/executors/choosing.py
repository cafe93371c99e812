"""The executor that ``--executor`` names, with its options: ``local``, ``slurm[resources=slurm.toml]``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from avbench import plugins
from avbench.errors import RequestError
from avbench.executors.base import Executor, Resources
from avbench.grammar import parse_variants
from avbench.options import resolve


@dataclass(frozen=True)
class Chosen:
    """An executor plugin and its options."""

    loaded: plugins.Loaded
    config: Any

    @property
    def target(self) -> type[Executor]:
        found: type[Executor] = self.loaded.target
        return found

    def build(self, resources: Resources) -> Executor:
        """The executor itself; one without options is built from the resources alone.

        Raises:
            RequestError: it refuses them.
            PluginError: it fails.
        """
        with plugins.guard(self.loaded.info, "construction"):
            make: Any = self.target
            executor: Executor = make(resources, self.config) if self.config is not None else make(resources)
        return executor


def choose(text: str) -> Chosen:
    """What ``--executor`` says.

    Raises:
        RequestError: it is malformed, names several, or gives an option that the executor has not.
        PluginError: there is no such executor, or it can't be loaded.
    """
    variants = parse_variants(text, "--executor")
    if len(variants) > 1:
        raise RequestError(f"--executor {text!r}: a run has one executor.")
    (variant,) = variants
    loaded = plugins.load("executors", variant.name)
    with plugins.guard(loaded.info, "options"):
        config = resolve(loaded.target.Config, variant.name, [(variant.given, "--executor")]).config
    return Chosen(loaded, config if loaded.target.Config is not Executor.Config else None)
