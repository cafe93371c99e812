"""From a dataset plugin to a store: on request, or by itself for an embedded dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from avbench import plugins
from avbench.data.description import check_name
from avbench.data.store import Store, StoreInfo, available, open_store, read_info
from avbench.dataset import Dataset, PrepareContext
from avbench.errors import RequestError, StoreError, nearest
from avbench.options import resolve

Progress = Callable[[int, int, str], None]


def prepare(
    dataset: str,
    options: Mapping[str, str],
    source: Path | None,
    name: str,
    data: Path,
    progress: Progress,
    *,
    workers: int = 1,
    strict: bool = False,
) -> Store:
    """Write the store ``name`` with the dataset plugin ``dataset``.

    Args:
        workers: processes that may decode at once.
        strict: whether anything that the source promises and lacks is an error.

    Raises:
        RequestError: wrong options, source or name.
        PluginError: the plugin can't be loaded, or fails.
    """
    check_name(name)
    loaded = plugins.load("datasets", dataset)
    if source is None and not loaded.target.embedded:
        raise RequestError(f"dataset {dataset!r} is made from your own copy: give it with --source.")
    if source is not None and not source.exists():
        raise RequestError(f"--source {source}: there is no such file or folder.")
    _check_free(name, dataset, loaded.target)
    with plugins.guard(loaded.info, "options"):
        config = resolve(loaded.target.Config, dataset, [(options, "command line")]).config
    with plugins.guard(loaded.info, "construction"):
        plugin: Dataset = loaded.target(config)
    with plugins.guard(loaded.info, "prepare"):
        try:
            data.mkdir(parents=True, exist_ok=True)
            return plugin.prepare(PrepareContext(data, name, source, progress, workers, strict))
        except OSError as error:
            raise RequestError(f"preparing {name!r} under {data}/ failed: {error}") from error


def _check_free(name: str, dataset: str, target: type[Dataset]) -> None:
    """Refuse the name of an embedded dataset for anything else: a run builds that dataset under its name."""
    embedded = _embedded(name)
    if embedded is not None and embedded is not target:
        raise RequestError(
            f"--name {name}: this is the name of an embedded dataset, not of {dataset!r}; give another --name."
        )


def current(name: str, data: Path) -> StoreInfo | None:
    """The info of a store that can be used as it is; ``None`` for an embedded dataset that is absent or outdated.

    Raises:
        StoreError: there is no such store and it can't be made without a source, or another dataset has the name.
    """
    embedded = _embedded(name)
    if name not in available(data):
        if embedded is None:
            raise StoreError(_advice(name, data))
        return None
    info = read_info(data, name)
    if embedded is not None and info.dataset != name.rpartition(":")[2]:
        raise StoreError(
            f"the store {name!r} under {data}/ was made by {info.dataset!r}, and {name!r} is an embedded dataset: "
            "rename the folder of the store (and the name in its store.json), or prepare it under another --name."
        )
    return info if embedded is None or info.dataset_version == embedded.version else None


def ensure(name: str, data: Path, progress: Progress) -> StoreInfo:
    """The info of a store; an embedded dataset that is absent or outdated is prepared first, nothing else replaced.

    Raises:
        StoreError: see :func:`current`; or one of its arrays is missing, truncated or misshapen.
    """
    if current(name, data) is None:
        return prepare(name, {}, None, name, data, progress).info
    return open_store(data, name).info  # maps the arrays, reads none of them


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
    if (data / name).is_dir():
        return f"{data / name}/ holds no store.json: prepare {name!r} again."
    return f"unknown dataset {name!r} (no store under {data}/, no plugin); {nearest(name, known + available(data))}"
