"""The points of a grid: which method variant, at which IPC and modality, on which dataset.

Besides what the user listed a fair board may hold the controls that its methods declare (``--controls``) and real
samples of as many bytes as a learned set takes (``--equal-storage``). Both go by what methods say of themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING

from avbench.cells import configuration
from avbench.configure import Configured, check_method, configure, set_for
from avbench.data.store import StoreInfo
from avbench.errors import AvbenchError, PluginError, RequestError
from avbench.grammar import Variant, canonical, parse_variants
from avbench.options import describe
from avbench.plugin import Setting
from avbench.plugins import guard
from avbench.presets import Preset, preset
from avbench.storage import ipc_of_equal_storage

if TYPE_CHECKING:
    from avbench.grid import Request


@dataclass(frozen=True)
class Tune:
    """An option of a method whose value is chosen on the validation split, of the values listed."""

    method: str
    option: str
    values: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"{self.method}.{self.option}"

    def applies(self, variant: Variant) -> bool:
        """Whether the variant leaves the option open; a value that its user wrote stands."""
        return self.method in (variant.name, variant.plain) and self.option not in variant.given


@dataclass(frozen=True)
class Point:
    """A method variant in a setting.

    Attributes:
        listed: the user wrote it, so that meeting it twice is a mistake; what was added for fairness gives way.
        tune: the option whose value is still to be chosen.
    """

    variant: Variant
    setting: Setting
    preset: Preset
    method: Configured
    listed: bool
    tune: Tune | None = None

    @property
    def place(self) -> tuple[str, int, str, str]:
        """What a choice of a value belongs to."""
        dataset = self.setting.dataset
        return (dataset.fingerprint, self.setting.ipc, self.setting.modality, self.variant.label)

    @property
    def learns(self) -> bool:
        """Whether it is a learned set of a size that the user chose."""
        target = self.method.target
        return target.role == "method" and target.uses_ipc and not target.selects


@dataclass(frozen=True)
class Points:
    """All points of a request, and what its user should know of those that were added."""

    all: tuple[Point, ...]
    notes: tuple[str, ...] = ()


def points_of(request: Request) -> Points:
    """The listed points first, then those that fairness adds.

    Raises:
        RequestError: a point that can't work, or an addition for which the request lacks something.
        PluginError: a plugin of this request can't be loaded, or fails.
    """
    listed = list(_listed(request))
    found = [*listed]
    if request.controls:
        found += _controls(request, listed)
    notes: list[str] = []
    if request.equal_storage:
        found += _equal_storage(request, found, notes)
    return Points(tuple(_without_repeats(found)), tuple(dict.fromkeys(notes)))


def _listed(request: Request) -> Iterator[Point]:
    for info, variant, modality in product(request.datasets, request.methods, request.modalities):
        chosen = preset(request.preset or info.preset)
        uses_ipc = configure("methods", variant, {}, Setting(info, 1, modality, chosen.name)).target.uses_ipc
        for ipc in request.ipcs if uses_ipc else (0,):
            yield _point(request, variant, Setting(info, ipc, modality, chosen.name), chosen, listed=True)


def _point(
    request: Request, variant: Variant, setting: Setting, chosen: Preset, *, listed: bool, tunable: bool = True
) -> Point:
    tune = next((each for each in request.tunes if tunable and each.applies(variant)), None)
    open_point = Point(variant, setting, chosen, configure("methods", variant, request.settings, setting), listed, tune)
    if tune is not None and open_point.place in request.choices:
        value = request.choices[open_point.place]
        variant = canonical(variant.name, {**variant.given, tune.option: value})
        method = configure("methods", variant, request.settings, setting)
        open_point = Point(variant, setting, chosen, method, listed=False)
    check_method(open_point.method, setting)
    return open_point


def point_with(request: Request, point: Point, value: str) -> Point:
    """An open point with a value tried for its option.

    Raises:
        RequestError: a value that the option can't have.
    """
    assert point.tune is not None
    variant = canonical(point.variant.name, {**point.variant.given, point.tune.option: value})
    return _point(request, variant, point.setting, point.preset, listed=False, tunable=False)


def _without_repeats(points: Iterable[Point]) -> Iterator[Point]:
    """What was added or chosen gives way to an equal point that is listed, and to an earlier one."""
    points = list(points)
    seen = {_same(point) for point in points if point.listed}
    for point in points:
        if point.listed:
            yield point
        elif _same(point) not in seen:
            seen.add(_same(point))
            yield point


def _same(point: Point) -> tuple[str, int, str, str]:
    # A point whose value is still open is not the configuration that it has so far.
    still = point.tune.text if point.tune else ""
    return (*point.place[:3], configuration(asdict(point.method.ref)) + still)


# --- controls -------------------------------------------------------------------------------------------------------


def _controls(request: Request, listed: Iterable[Point]) -> Iterator[Point]:
    """What each listed method declares as its controls, with the options that the user set of that method."""
    for point in listed:
        with guard(point.method.info, "controls"):
            declared = list(point.method.target.controls(point.method.config))
        for text in declared:
            try:
                yield _control(request, point, text)
            except AvbenchError as error:
                raise RequestError(f"--controls: {text}, a control of {point.variant.label}: {error}") from None


def _control(request: Request, point: Point, text: str) -> Point:
    (variant,) = parse_variants(text, "control")
    setting = point.setting
    own = configure("methods", variant, request.settings, setting)
    given = {**set_for(request.settings, point.variant, point.method.info), **point.variant.given}
    tuned = {tune.option for tune in request.tunes if tune.applies(variant)}
    known = {option.name for option in describe(type(own.config))}
    taken = {n: value for n, value in given.items() if n in known and n not in variant.given and n not in tuned}
    full = canonical(variant.name, {**variant.given, **taken})
    # A control that is another method by construction stays so: its options are not up for choice.
    free = equal_configuration(configure("methods", full, request.settings, setting), setting) == ""
    return _point(request, full, setting, point.preset, listed=False, tunable=free)


def equal_configuration(method: Configured, setting: Setting) -> str:
    """The configuration that a method declares to be the same computation as; "" where it is but itself.

    Raises:
        AvbenchError: the declaration can't be read.
    """
    with guard(method.info, "equals"):
        text = method.target.equals(method.config, setting)
        if text is None:
            return ""
        (variant,) = parse_variants(text, "equals")
        try:
            # Without --set: all that matters is written out.
            found = configuration(asdict(configure("methods", variant, {}, setting).ref))
        except PluginError as error:
            if error.phase == "find":
                return ""  # no row of a method that is not installed can stand beside this one
            raise
    return "" if found == configuration(asdict(method.ref)) else found


# --- real samples of equal storage ----------------------------------------------------------------------------------


def _equal_storage(request: Request, found: Iterable[Point], notes: list[str]) -> list[Point]:
    """Each baseline at the IPC that takes as many bytes as each learned set, or the next fewer."""
    found = list(found)
    learned = [point for point in found if point.learns]
    if not learned:
        raise RequestError("--equal-storage: no method of --method learns its items; there is nothing to compare with.")
    baselines = [p for p in found if p.listed and p.method.target.role == "baseline" and p.method.target.selects]
    if not baselines:
        raise RequestError("--equal-storage: add a method to --method whose role is that of a baseline.")
    added = []
    for point, variant in product(learned, dict.fromkeys(p.variant for p in baselines)):
        setting = point.setting
        wanted = ipc_of_equal_storage(setting.dataset, setting.modality, setting.ipc)
        ipc = min(wanted, *setting.dataset.counts["train"])
        if ipc < wanted:
            notes.append(_capped(setting.dataset, setting.ipc, wanted, ipc))
        where = Setting(setting.dataset, ipc, setting.modality, setting.preset)
        added.append(_point(request, variant, where, point.preset, listed=False))
    return added


def _capped(info: StoreInfo, learned: int, wanted: int, ipc: int) -> str:
    return (
        f"{info.name}: {learned} learned items a class take as many bytes as {wanted} real ones, but the smallest "
        f"class has {ipc}: the baseline is shown at ipc {ipc}, with less storage."
    )
