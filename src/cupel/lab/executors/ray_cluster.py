"""Reaching a Ray cluster: one that runs, one at an address, or a fresh one on this machine.

Knows addresses and what goes wrong with them. Refuses to start a cluster nobody asked for, and to
wait long for one that does not answer.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from cupel.errors import MissingExtraError, UsageError

CONNECT_S = 5.0


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Give Ray, connected to a cluster; a connection that was there is used and kept.

    Raises:
        MissingExtraError, UsageError: Ray is not installed, or no cluster is there.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent home
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # quiet about a coming change
    try:
        ray: Any = importlib.import_module("ray")
    except ModuleNotFoundError:
        raise MissingExtraError("executor ray", "ray") from None
    if ray.is_initialized():
        yield ray
        return
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
    _check_reachable(address)
    own = {"include_dashboard": False} if address == "local" else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they say of the address, the error says too
            ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **own)
    except (ConnectionError, RuntimeError, ValueError, ImportError, TimeoutError) as error:
        raise UsageError(f"--address {address}: {_why(error, address)}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    if address in ("local", "auto"):
        return
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not (colon and host and port.isdigit()):
        raise UsageError(f"--address {address}: write auto, local, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), CONNECT_S).close()
    except OSError as error:
        why = error.strerror or str(error)
        raise UsageError(f"--address {address}: nothing answers there ({why})") from None


def _why(error: Exception, address: str) -> str:
    if address == "auto":
        return (
            "no Ray cluster runs on this machine; start one with `ray start --head`, or give "
            "--address HOST:PORT, ray://HOST:PORT, or local for one that lives as long as this"
        )
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = (lines[0] if lines else type(error).__name__).rstrip(".")
    if address.startswith("ray://"):
        return (
            f"{first}; ray:// needs 'ray[client]' on both sides, and the cluster's token where "
            "it asks for one (RAY_AUTH_MODE, RAY_AUTH_TOKEN)"
        )
    return first
