"""What the kit tells a hook under check: every event, with what the events' specification says of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from judged import failing, named

from avbench.hooks import Events, hookimpl

EVENTS = {name: spec for name, spec in vars(Events).items() if not name.startswith("_")}


def noting(seen: list[tuple[str, dict[str, Any]]]) -> type:
    """A hook that takes every event there is, with all its arguments."""

    def taking(name: str) -> Callable[..., None]:
        @functools.wraps(EVENTS[name])  # pluggy reads there which arguments it takes
        def take(self: object, **arguments: Any) -> None:
            seen.append((name, arguments))

        return hookimpl(take)

    return type("Noting", (), {"__doc__": "Takes all.", **{name: taking(name) for name in EVENTS}})


def test_every_event_there_is_is_fired_between_the_first_and_the_last() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    named(noting(seen), "events")()
    told = [name for name, _ in seen]
    assert set(told) == set(EVENTS) and len(EVENTS) >= 8
    assert told[0] == "process_started" and told[-1] == "process_finished"
    for name, arguments in seen:
        assert {"self", *arguments} == set(inspect.signature(EVENTS[name]).parameters)


def test_what_is_told_is_what_a_run_tells() -> None:
    seen: list[tuple[str, dict[str, Any]]] = []
    check = named(noting(seen), "events")  # its folder goes with it
    check()
    (run,) = [arguments["run"] for name, arguments in seen if name == "run_started"]
    assert set(run) == {"argv", "out", "jobs"}  # what the coordinator sends
    ended = [arguments for name, arguments in seen if name == "task_finished"]
    assert [each["status"] for each in ended] == ["done", "done", "stranded"]
    assert [each["kind"] for each in ended if each["folder"] is not None] == ["distil", "evaluate"]
    assert all((each["folder"] / "record.json").is_file() for each in ended if each["folder"] is not None)
    begun = [arguments for name, arguments in seen if name == "process_started"]
    assert [each["role"] for each in begun] == ["worker", "coordinator"]


@pytest.mark.parametrize("name", ["jsonl", "tensorboard"])
def test_first_party_hooks_pass(name: str) -> None:
    if name == "tensorboard":
        pytest.importorskip("tensorboard")
    assert failing(f"hook:{name}") == {}
