"""From a dataset plugin to a store: on request, or by itself for an embedded dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from avbench import plugins
from avbench.data.store import Store, StoreInfo, available, read_info
from avbench.dataset import Dataset, PrepareContext
from avbench.errors import AvbenchError, PluginError, RequestError, StoreError, nearest
from avbench.options import resolve

Progress = Callable[[int, int, str], None]


def prepare(
    dataset: str, options: Mapping[str, str], source: Path | None, name: str, data: Path, progress: Progress
) -> Store:
    """Write the store ``name`` with the dataset plugin ``dataset``.

    Raises:
        RequestError: wrong options or source.
        PluginError: the plugin can't be loaded, or fails.
    """
    loaded = plugins.load("datasets", dataset)
    if source is None and not loaded.target.embedded:
        raise RequestError(f"dataset {dataset!r} is made from your own copy: give it with --source.")
    if source is not None and not source.exists():
        raise RequestError(f"--source {source}: there is no such file or folder.")
    config = resolve(loaded.target.Config, dataset, [(options, "command line")]).config
    plugin: Dataset = loaded.target(config)
    try:
        data.mkdir(parents=True, exist_ok=True)
        return plugin.prepare(PrepareContext(data, name, source, progress))
    except AvbenchError:
        raise
    except OSError as error:
        raise RequestError(f"preparing {name!r} under {data}/ failed: {error}") from error
    except Exception as error:
        raise PluginError(
            f"dataset {dataset!r} ({loaded.info.distribution} {loaded.info.version}) failed in prepare: "
            f"{type(error).__name__}: {error}",
            plugin=dataset,
            phase="prepare",
        ) from error


def ensure(name: str, data: Path, progress: Progress) -> StoreInfo:
    """The info of a store; an embedded dataset that is absent or outdated is prepared first.

    Raises:
        StoreError: there is no such store, and it can't be made without a source.
    """
    embedded = _embedded(name)
    if name in available(data):
        info = read_info(data, name)
        current = embedded is None or (info.dataset == name and info.dataset_version == embedded.version)
        if current:
            return info
    elif embedded is None:
        raise StoreError(_advice(name, data))
    return prepare(name, {}, None, name, data, progress).info


def _embedded(name: str) -> type[Dataset] | None:
    """The embedded dataset of that name, if there is one."""
    if name not in [info.qualified for info in plugins.listing("datasets")]:
        return None
    target: type[Dataset] = plugins.load("datasets", name).target
    return target if target.embedded else None


def _advice(name: str, data: Path) -> str:
    known = [info.qualified for info in plugins.listing("datasets")]
    if name in known:
        return f"dataset {name!r} is not prepared under {data}/: run avbench prepare {name} --source DIR first."
    return f"unknown dataset {name!r} (no store under {data}/, no plugin); {nearest(name, known + available(data))}"
