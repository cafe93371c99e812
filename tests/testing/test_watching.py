"""What the kit sees a plugin touch, and what it puts back."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

import pytest
import torch

from avbench.testing import bench
from avbench.testing.watching import restored, settings, watched
from avbench.worker import settle_torch

MEDDLING: dict[str, Callable[[], None]] = {
    "cudnn.allow_tf32": lambda: setattr(torch.backends.cudnn, "allow_tf32", not torch.backends.cudnn.allow_tf32),
    "float32 matmul precision": lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
    "torch's deterministic algorithms": lambda: torch.use_deterministic_algorithms(False, warn_only=True),
    "torch's warning instead of them": lambda: torch.use_deterministic_algorithms(True),
}


@pytest.fixture(autouse=True)
def as_in_a_worker() -> Iterator[None]:
    with bench.worker_settings():
        yield


def test_a_name_that_is_looked_up_is_told() -> None:
    with watched() as seen:
        socket.getaddrinfo("localhost", 80)
    assert seen.network == ["getaddrinfo 'localhost'"]


def test_the_kit_works_under_the_settings_of_a_worker() -> None:
    under = settings()
    settle_torch(1)
    assert settings() == under
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("what", MEDDLING)
def test_a_setting_that_is_changed_is_seen_and_put_back(what: str) -> None:
    before = settings()
    with restored(before):
        MEDDLING[what]()
        changed = [name for name, value in settings().items() if before[name] != value]
    assert changed == [what]
    assert settings() == before
