"""Typed options: precedence, origins, and what each type accepts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from avbench.api import Augmentation
from avbench.errors import RequestError
from avbench.options import Sourced, coerce, describe, from_json, option, resolve, sourced, to_json


@dataclass(frozen=True)
class Config:
    steps: int = option(5000, "iterations")
    lr: float = option(0.2, "learning rate")
    lr_audio: float | None = option(None, "audio's own")
    init: Literal["random", "herding", "noise"] = option("random", "start")
    shared: bool = option(False, "share")
    name: str = option("x", "a name")
    milestones: tuple[float, ...] = option((0.3, 0.6), "when")
    augment: str = option("none", "ops")

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError("steps must not be negative")
        Augmentation(self.augment)


def value(name: str, raw: Any) -> Any:
    return getattr(resolve(Config, "dm", [({name: raw}, "test")]).config, name)


def test_stronger_layers_win_and_each_value_says_where_it_came_from() -> None:
    published = {**sourced("AVDD, appendix C", lr=0.3, steps=10), "lr_audio": 0.4}
    layers = [(published, "published"), ({"lr": "1.0", "init": "noise"}, "--set"), ({"lr": "4.2"}, "dm[…]")]
    found = resolve(Config, "dm", layers)
    assert (found.config.lr, found.config.steps, found.config.lr_audio, found.config.init) == (4.2, 10, 0.4, "noise")
    assert found.origins == {
        "steps": "AVDD, appendix C",
        "lr": "dm[…]",
        "lr_audio": "published",
        "init": "--set",
        "shared": "class default",
        "name": "class default",
        "milestones": "class default",
        "augment": "class default",
    }


def test_no_layers_give_the_class_defaults() -> None:
    found = resolve(Config, "dm", [])
    assert found.config == Config() and set(found.origins.values()) == {"class default"}


def test_a_source_replaces_the_layer_s_origin() -> None:
    found = resolve(Config, "dm", [({"lr": Sourced("0.5", "a paper")}, "layer")])
    assert found.config.lr == 0.5 and found.origins["lr"] == "a paper"


@pytest.mark.parametrize(
    ("name", "raw", "expected"),
    [
        ("steps", "12", 12), ("steps", 12, 12), ("steps", 12.0, 12), ("steps", " 12 ", 12),
        ("lr", "4.2", 4.2), ("lr", 4, 4.0), ("lr", "1e-3", 1e-3),
        ("lr_audio", "none", None), ("lr_audio", "None", None), ("lr_audio", None, None), ("lr_audio", "0.1", 0.1),
        ("init", "herding", "herding"),
        ("shared", "true", True), ("shared", "No", False), ("shared", True, True),
        ("shared", "1", True), ("shared", 0, False),
        ("name", "12", "12"), ("name", 12, "12"),
        ("milestones", "0.1 0.2 0.9", (0.1, 0.2, 0.9)), ("milestones", [0.5], (0.5,)), ("milestones", "", ()),
    ],
)  # fmt: skip
def test_accepted(name: str, raw: Any, expected: Any) -> None:
    found = value(name, raw)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("steps", "12.5"), ("steps", 12.5), ("steps", "many"), ("steps", True), ("steps", None), ("steps", [1]),
        ("steps", float("inf")), ("steps", float("nan")), ("steps", ""),
        ("lr", "nan"), ("lr", "inf"), ("lr", "-inf"), ("lr", float("nan")), ("lr", "1e999"), ("lr", 10**400),
        ("lr", True), ("lr", "fast"), ("lr", None), ("lr", {}),
        ("lr_audio", "nan"), ("lr_audio", "nothing"),
        ("shared", "maybe"), ("shared", 2), ("shared", None), ("shared", 0.5),
        ("name", None), ("name", True),
        ("milestones", "0.1 x"), ("milestones", [float("nan")]), ("milestones", 0.5), ("milestones", None),
        ("milestones", True), ("milestones", [[0.1]]), ("milestones", {"a": 1}),
    ],
)  # fmt: skip
def test_refused_with_owner_option_value_and_what_is_expected(name: str, raw: Any) -> None:
    with pytest.raises(RequestError) as error:
        value(name, raw)
    assert f"dm.{name} = " in str(error.value) and "expected" in str(error.value)


def test_a_choice_that_does_not_exist_suggests_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"dm.init = 'herdin': did you mean 'herding'\?"):
        value("init", "herdin")
    with pytest.raises(RequestError, match="known: herding, noise, random"):
        value("init", "zzz")


def test_an_unknown_option_suggests_the_nearest() -> None:
    with pytest.raises(RequestError, match=r"dm has no option 'lr_audi'; did you mean 'lr_audio'"):
        value("lr_audi", 1)


def test_a_plugin_s_own_validation_is_a_request_error() -> None:
    with pytest.raises(RequestError, match="dm: steps must not be negative"):
        value("steps", -1)
    with pytest.raises(RequestError, match="unknown op 'flap'; did you mean 'flip'"):
        value("augment", "flap")


def test_a_weaker_layer_is_checked_too() -> None:
    with pytest.raises(RequestError):
        resolve(Config, "dm", [({"lr": "x"}, "published"), ({"lr": 1}, "test")])


def test_literals_of_other_types() -> None:
    assert coerce("2", Literal[1, 2], "x") == 2
    assert coerce(1, Literal[1, 2], "x") == 1


def test_json_round_trip() -> None:
    config = Config(lr=0.1 + 0.2, lr_audio=None, milestones=(1 / 3,), init="noise", shared=True)
    text = json.dumps(to_json(config), allow_nan=False)
    assert from_json(Config, json.loads(text), "dm") == config
    assert to_json(resolve(Config, "dm", [({"lr": 1}, "x")]).config)["milestones"] == [0.3, 0.6]


def test_an_option_that_was_added_later_is_left_out_of_records_at_its_default() -> None:
    """So that what was done before it came keeps its key."""

    @dataclass(frozen=True)
    class Grown:
        lr: float = option(0.2, "rate")
        way: Literal["old", "new"] = option("old", "how", added=True)

    globals()["Grown"], globals()["Literal"] = Grown, Literal
    assert to_json(Grown()) == {"lr": 0.2}
    assert to_json(Grown(way="new")) == {"lr": 0.2, "way": "new"}
    for config in (Grown(), Grown(way="new")):
        assert from_json(Grown, to_json(config), "grown") == config


def test_options_are_described_for_users() -> None:
    found = {info.name: info for info in describe(Config)}
    assert list(found) == ["steps", "lr", "lr_audio", "init", "shared", "name", "milestones", "augment"]
    assert found["steps"].type == "a whole number" and found["steps"].help == "iterations"
    assert found["lr_audio"].type == "a finite number or none" and found["lr_audio"].default is None
    assert found["init"].type == "one of random, herding, noise"
    assert found["milestones"].type == "finite numbers separated by spaces"
