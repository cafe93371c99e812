"""What is checked: a plugin with its options, lent to discovery while a check is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from avbench import plugins
from avbench.errors import RequestError, nearest
from avbench.grammar import Variant, canonical
from avbench.options import describe, resolve
from avbench.plugins import KINDS, Loaded
from avbench.testing.bench import Bench, store_root, worker_settings
from avbench.testing.given import LEARNS, SELECTS, ClassMeans, FirstRows
from avbench.testing.lending import lent
from avbench.testing.observing import Observed, Outcome, observe
from avbench.testing.registry import NotChecked
from avbench.testing.watching import GlobalRandomness, restored, settings

#: The kinds in the singular, with the groups' names.
SINGULAR = {kind.removesuffix("s"): kind for kind in KINDS}
#: Under this name a checked plugin is found while its checks are made.
NAME = "under-test"


class Subject:
    """A plugin under check.

    Attributes:
        kind: in the singular.
        name: what it is called in messages.
        target: the plugin's class; of a hook the object.
        options: text for each option that is set.
        source: a dataset's raw copy.
    """

    def __init__(self, kind: str, name: str, target: Any, options: Mapping[str, str], source: Path | None) -> None:
        self.kind, self.name, self.target = kind, name, target
        self.options, self.source = dict(options), source
        self.memo: dict[Any, Any] = {}

    @property
    def installed(self) -> bool:
        """Whether it is known by a name, so that what it says of itself can be looked up."""
        found = plugins.listing(SINGULAR[self.kind])
        place = f"{self.target.__module__}:{getattr(self.target, '__qualname__', '')}"
        return any(info.target == place for info in found)

    @cached_property
    def bench(self) -> Bench:
        """Its temporary folder; removed with the subject."""
        return Bench()

    @property
    def variant(self) -> Variant:
        """The plugin as the runner is to find it."""
        return canonical(NAME, self.options)

    @property
    def lends(self) -> Any:
        """What stands for the plugin while it is checked."""
        return self.target

    @property
    def config(self) -> Any:
        """Its configuration: the class defaults under what is set."""
        return resolve(self.target.Config, self.name, [(self.options, "check")]).config

    def exercise(self, data: str = "data") -> Outcome:
        """Use the plugin as the runner does, everything anew, and return what came out.

        Args:
            data: the folder of stores, see :class:`avbench.testing.bench.Scene`.
        """
        raise NotChecked("this kind of plugin is not exercised")

    def observed(self, seed: int = 1, data: str = "data") -> Observed:
        """One :meth:`exercise` under observation, remembered.

        Args:
            seed: seeds the generators that the whole process shares.

        Raises:
            NotChecked: the exercise raises; another check tells why.
        """
        key = ("observed", seed, data)
        if key not in self.memo:
            try:
                with GlobalRandomness(seed) as shared:
                    self.memo[key] = observe(partial(self.exercise, data), shared, self.bench.new_folder("observed"))
            except (Exception, SystemExit) as error:
                self.memo[key] = error
        found = self.memo[key]
        if isinstance(found, NotChecked):
            raise found
        if isinstance(found, BaseException):
            raise NotChecked("its exercise raises: see the other checks")
        assert isinstance(found, Observed)
        return found

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """While it lasts the plugin can be found by name; what the process shares is put back afterwards."""
        store_root()  # written before anything is watched
        with ExitStack() as stack:
            stack.enter_context(worker_settings())
            stack.enter_context(restored(settings()))
            stack.enter_context(GlobalRandomness(0))
            targets = {SELECTS: ("methods", FirstRows), LEARNS: ("methods", ClassMeans)}
            stack.enter_context(lent({**targets, NAME: (SINGULAR[self.kind], self.lends)}))
            yield


def subject_of(plugin: object, options: Mapping[str, object], source: Path | None = None) -> Subject:
    """The subject for a class, a loaded plugin or ``"kind:name"``.

    Raises:
        RequestError: it is none of these, or an option is wrong.
        PluginError: no plugin has that name, or it can't be imported.
    """
    given = {name: spell(value) for name, value in options.items()}
    if isinstance(plugin, str):
        kind, _, name = plugin.partition(":")
        loaded = plugins.load(group_of(kind), name)
    elif isinstance(plugin, Loaded):
        loaded, name = plugin, plugin.info.name
    else:
        return _made(_kind_of(plugin), getattr(plugin, "__name__", type(plugin).__name__), plugin, given, source)
    member = plugins.family_member(loaded.info, name)
    named = {loaded.target.family: member} if member else {}
    return _made(loaded.info.kind.removesuffix("s"), name, loaded.target, {**given, **named}, source)


def group_of(kind: str) -> str:
    """The entry points' kind, "methods", of what the user calls a method or methods.

    Raises:
        RequestError: there is no such kind.
    """
    if kind in KINDS or kind in SINGULAR:
        return SINGULAR.get(kind, kind)
    raise RequestError(f"unknown kind of plugin {kind!r}; {nearest(kind, SINGULAR)}")


def spell(value: object) -> str:
    """An option's value as it is typed on the command line."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)


def _kind_of(plugin: object) -> str:
    for kind, base in KINDS.items():
        if base is not None:
            module, _, attribute = base.partition(":")
            if isinstance(plugin, type) and issubclass(plugin, getattr(import_module(module), attribute)):
                return kind.removesuffix("s")
    if not isinstance(plugin, type) or any(hasattr(part, "avbench_impl") for part in vars(plugin).values()):
        return "hook"
    bases = ", ".join(base.partition(":")[2] for base in KINDS.values() if base)
    raise RequestError(f"{plugin.__name__} is no plugin: expected a subclass of one of {bases}, or a hook.")


def _made(kind: str, name: str, target: Any, options: Mapping[str, str], source: Path | None) -> Subject:
    from avbench.testing.kinds import subject_class

    if kind != "hook":
        known = {option.name for option in describe(target.Config)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise RequestError(f"{name} has no option {unknown[0]!r}; {nearest(unknown[0], known)}")
        if getattr(target, "family", "") and target.family not in options:
            raise RequestError(f"{name} stands for many: name the one to check, as {name}/NAME.")
    if source is not None and not source.exists():
        raise RequestError(f"source {source}: there is no such file or folder.")
    return subject_class(kind)(kind, name, target, options, source)
