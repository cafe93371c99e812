"""Connecting to a Ray cluster: the one at RAY_ADDRESS, one on this machine, or one started for the run."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from avbench.errors import RequestError

_REACH_S = 5.0
_LEAST_OBJECT_STORE_BYTES = 100 << 20


def import_ray() -> Any:
    """Ray itself, which is an extra.

    Raises:
        RequestError: it is not installed.
    """
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError as error:
        raise RequestError(
            f"--executor ray: Ray can't be imported ({error}); pip install 'avbench[ray]', or use --executor local."
        ) from None
    return ray


def connect(ray: Any, local_cpus: int) -> bool:
    """Connect this process, unless it is connected.

    Args:
        local_cpus: how many CPUs a Ray that has to be started here is to have.

    Returns:
        Whether it was done here, so that whoever asked has to call :func:`disconnect`.

    Raises:
        RequestError: RAY_ADDRESS is malformed, or nothing answers there.
    """
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS", "")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    with _own_signals():
        if address and address != "local":
            _check_reachable(address)
        try:
            if address != "local":
                ray.init(address=address or "auto", **quiet)
                return True
        except (ConnectionError, ValueError) as error:
            if address:
                raise RequestError(f"RAY_ADDRESS {address!r}: {one_line(error)}; expected HOST:PORT.") from None
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=local_cpus,
            object_store_memory=_LEAST_OBJECT_STORE_BYTES,
            include_dashboard=False,
            **quiet,
        )
    return True


def _check_reachable(address: str) -> None:
    """Refuse at once what Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if address == "auto" or "://" in address:
        return
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_S).close()
    except (OSError, ValueError) as error:
        raise RequestError(
            f"RAY_ADDRESS {address!r}: no Ray cluster answers there ({error}); give HOST:PORT of its head node, or "
            "unset RAY_ADDRESS to have one started on this machine."
        ) from None


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep our handler of SIGTERM, which stops a run in order: Ray puts its own in its place."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def disconnect(ray: Any) -> None:
    """Undo :func:`connect`; a Ray that it started ends."""
    with _own_signals():
        ray.shutdown()


def one_line(error: BaseException) -> str:
    """What an error says, without Ray's account of the stack."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
