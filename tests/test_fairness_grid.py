"""What fairness adds to a grid: controls, real samples of equal storage, and one computation under two names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from conftest import Small

from avbench.api import LearnedSet, Method, SelectedSet, Setting
from avbench.cells import configuration
from avbench.configure import configure
from avbench.errors import RequestError
from avbench.grammar import parse_settings, parse_variants
from avbench.grid import Request, expand
from avbench.plan import make_plan
from avbench.points import equal_configuration
from avbench.results import RunDirectory
from avbench.storage import ipc_of_equal_storage, learned_bytes, selected_bytes

AUDIO, FRAME = 16 * 24, 3 * 16 * 16  # numbers a sample of the store


def request_for(small: Small, methods: str, ipcs: Sequence[int] = (1,), **more: Any) -> Request:
    given = {"seeds": 1, "protocols": parse_variants("recognition-quick", "--protocol"), **more}
    return Request(parse_variants(methods, "--method"), (small.stores[3].info,), tuple(ipcs), **given)


def labels(small: Small, *arguments: Any, **more: Any) -> list[tuple[str, int]]:
    planned = expand(request_for(small, *arguments, **more)).planned
    return [(p.cell.method.label, p.cell.ipc) for p in planned]


# --- bytes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_bytes_by_hand_of_a_learned_set_with_and_without_a_step_size(small: Small, factor: int) -> None:
    """8 items: 4 bytes a number, a byte a label, 4 bytes a step size; a factor packs more into the same bytes."""
    info, count = small.stores[3].info, 8
    items = {"a": torch.zeros(count, 1, 16, 24), "v": torch.zeros(count, 3, 16, 16)}
    where = torch.arange(4).repeat_interleave(2)
    plain = LearnedSet(info, "av", where, items, factor)
    assert plain.storage_bytes() == count * (4 * 384 + 4 * 768 + 1) == 36_872
    with_step = LearnedSet(info, "av", where, items, factor, {"a": 0.01, "v": 0.1})
    assert with_step.storage_bytes() == 36_880
    assert learned_bytes(info, "av", 2) == 36_872


def test_bytes_by_hand_of_a_selection(small: Small) -> None:
    """uint8 frames, float32 log-mel and a byte a label: 4 × (1536 + 768 + 1)."""
    info = small.stores[3].info
    chosen = SelectedSet(info, "av", torch.arange(4), torch.tensor([0, 9, 21, 26]))
    assert chosen.storage_bytes() == selected_bytes(info, "av", 1) == 9220


@pytest.mark.parametrize("modality", ["a", "v", "av"])
def test_equal_storage_is_the_most_that_takes_no_more(small: Small, modality: str) -> None:
    info = small.stores[3].info
    for ipc in (1, 2, 7, 50):
        found = ipc_of_equal_storage(info, modality, ipc)
        assert selected_bytes(info, modality, found) <= learned_bytes(info, modality, ipc)
        assert selected_bytes(info, modality, found + 1) > learned_bytes(info, modality, ipc)
    # A sound is float32 either way; a frame is a quarter, but for the labels: 3073 // 769.
    assert ipc_of_equal_storage(info, "a", 5) == 5
    assert ipc_of_equal_storage(info, "v", 1) == 3


def test_the_baseline_stands_at_the_ipc_of_equal_storage_too(small: Small) -> None:
    assert ipc_of_equal_storage(small.stores[3].info, "av", 2) == 3  # 9218 // 2305 a class: 3.999
    plain = labels(small, "random,herding,dm", (1, 2))
    more = labels(small, "random,herding,dm", (1, 2), equal_storage=True)
    assert more == [*plain, ("random", 3)]  # one learned item takes as much as one real one, and that is there


def test_equal_storage_ends_at_the_smallest_class_and_says_so(small: Small, tmp_path: Path) -> None:
    plan = make_plan(request_for(small, "random,dm", (5,), equal_storage=True), RunDirectory(tmp_path))
    assert {cell.ipc for cell in plan.cells} == {5}  # the smallest class has 5
    (note,) = plan.notes
    assert "5 learned items a class take as many bytes as 9 real ones, but the smallest class has 5" in note


@pytest.mark.parametrize(("methods", "words"), [("dm,herding", "baseline"), ("random,herding", "learns its items")])
def test_equal_storage_without_anything_to_compare_is_refused(small: Small, methods: str, words: str) -> None:
    with pytest.raises(RequestError, match=words):
        expand(request_for(small, methods, equal_storage=True))


# --- controls -------------------------------------------------------------------------------------------------------


def test_controls_are_added_once(small: Small) -> None:
    own, matched = "dm[factor=2,init=herding]", "dm[factor=2,init=herding,lr_audio=4.2,lr_visual=4.2]"
    assert labels(small, "avdd", controls=True) == [("avdd", 1), (own, 1), (matched, 1)]
    listed = f"avdd,{own},avdd[omega_per_class=true]"
    found = [label for label, _ in labels(small, listed, controls=True)]
    assert found.count(own) == 1 and len(set(found)) == len(found) == 6


def test_a_control_takes_over_what_the_user_set_of_its_method(small: Small) -> None:
    """A control with other steps, batch or augmentation would be none."""
    settings = parse_settings(["avdd.batch_real=6", "avdd.icm=10"])
    found = labels(small, "avdd[steps=7]", controls=True, settings=settings)
    options, step = "batch_real=6,factor=2,init=herding", "lr_audio=4.2,lr_visual=4.2"
    assert [label for label, _ in found[1:]] == [f"dm[{options},steps=7]", f"dm[{options},{step},steps=7]"]


def test_a_control_that_can_t_work_is_named(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    class Careless(Method):
        controls = classmethod(lambda cls, config: ("nothing[x=1]",))  # type: ignore[assignment]
        role: ClassVar = "method"

    target = configure("methods", *parse_variants("avdd", "x"), {}, setting(small)).target
    monkeypatch.setattr(target, "controls", Careless.controls)
    with pytest.raises(RequestError, match=r"--controls: nothing\[x=1\], a control of avdd: unknown method"):
        expand(request_for(small, "avdd", controls=True))


# --- one computation ------------------------------------------------------------------------------------------------


def setting(small: Small, ipc: int = 1, preset: str = "quick") -> Setting:
    return Setting(small.stores[3].info, ipc, "av", preset)


def computes(small: Small, text: str, ipc: int = 1, preset: str = "quick") -> str:
    where = setting(small, ipc, preset)
    (variant,) = parse_variants(text, "--method")
    method = configure("methods", variant, {}, where)
    return equal_configuration(method, where) or configuration(asdict(method.ref))


@pytest.mark.parametrize("preset", ["quick", "paper"])
@pytest.mark.parametrize(
    ("first", "second", "ipc"),
    [
        ("avdd", "dm[init=herding,factor=2,match=avdd]", 1),
        ("avdd", "dm[init=herding,factor=2,match=avdd]", 20),
        ("avdd", "dm[init=herding,factor=2,lr=4.2]", 10),
        ("avdd", "dm[init=herding,factor=2,lr=8.2]", 20),
        ("avdd[icm=5,cgm=5]", "dm[init=herding,factor=2,lr_audio=2.2,lr_visual=2.2]", 1),
        ("avdd[lr_audio=0.1]", "dm[init=herding,factor=2,match=avdd,lr_audio=0.1]", 1),
        ("avdd[icm=0,cgm=0,init=random,factor=1]", "dm", 1),
        ("avdd[base=2]", "avdd[base=20,icm=1,cgm=1]", 1),
        ("dm[lr=0.2]", "dm[lr_audio=0.2,lr_visual=0.2]", 1),
    ],
)
def test_methods_say_when_they_are_one_computation(
    small: Small, preset: str, first: str, second: str, ipc: int
) -> None:
    assert computes(small, first, ipc, preset) == computes(small, second, ipc, preset)


@pytest.mark.parametrize(
    ("first", "second", "ipc"),
    [
        ("avdd", "dm[init=herding,factor=2]", 1),
        ("avdd", "dm[factor=2,match=avdd]", 1),
        ("avdd", "dm[init=herding,factor=2,lr=4.2]", 20),
        ("avdd[icm=9]", "dm[init=herding,factor=2,match=avdd]", 1),
        ("avdd[scmm=1]", "dm[init=herding,factor=2,match=avdd]", 1),
        ("avdd[momentum=0.9]", "dm[init=herding,factor=2,match=avdd]", 1),
        ("avdd[steps=7]", "dm[init=herding,factor=2,match=avdd]", 1),
    ],
)
def test_what_differs_is_not_declared_equal(small: Small, first: str, second: str, ipc: int) -> None:
    assert computes(small, first, ipc) != computes(small, second, ipc)


@pytest.mark.parametrize("ipc", [1, 10, 20])
@pytest.mark.parametrize(
    "options",
    [
        *(f"icm={lam},cgm={lam}" for lam in (1.0, 5.0, 10.0, 20.0)),
        "icm=5,cgm=5,lr_audio=0.1,lr_visual=0.1",
        "icm=5,cgm=5,lr_audio=0.1",
        "icm=10,cgm=10,lr=0.1",
    ],
)
def test_the_matched_control_of_any_equal_weights_is_declared_equal(small: Small, options: str, ipc: int) -> None:
    planned = expand(request_for(small, f"avdd[{options}]", (ipc,), controls=True)).planned
    joint, own, matched = (p.cell.method for p in planned)
    assert joint.equals and joint.equals in (matched.equals, configuration(asdict(matched)))
    assert joint.equals not in (own.equals, configuration(asdict(own)))


def test_an_equal_that_is_not_installed_hurts_nobody(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    (variant,) = parse_variants("dm", "--method")
    method = configure("methods", variant, {}, setting(small))
    for declared, found in (("absent[x=1]", ""), (None, "")):
        monkeypatch.setattr(method.target, "equals", lambda config, setting, declared=declared: declared)
        assert equal_configuration(method, setting(small)) == found
    monkeypatch.setattr(method.target, "equals", lambda config, setting: "dm[speed=1]")
    with pytest.raises(RequestError, match="no option 'speed'"):
        equal_configuration(method, setting(small))


def test_what_a_cell_equals_is_recorded_and_no_part_of_its_key(small: Small) -> None:
    (planned,) = expand(request_for(small, "avdd")).planned
    cell = planned.cell
    assert cell.method.equals
    assert replace(cell, method=replace(cell.method, equals="")).key == cell.key
