"""One writer at a time, on one machine or on many: a folder is claimed, and a dead claim is seen.

A claim is two things. An advisory lock of the operating system, which dies with its process and is
exact among the processes of one machine. And a lease beside it, because a file system that several
machines share may keep locks to each machine, or keep the lock of a machine that is gone. A
holder on another machine counts as dead when its lease has not moved for a minute.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cupel.errors import UsageError
from cupel.lab import leases
from cupel.lab.leases import Lease, Watch

_POLL_S = 0.05


@contextmanager
def claim(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path`, and the lease beside it, while the block runs.

    Args:
        what: names the claimed thing in the message, e.g. `study results/first`.
        wait_s: how long to wait for another holder to end. A holder on another machine is
            watched until it moves, or until it has been silent for a minute and is taken over.

    Raises:
        UsageError: another process holds it (says which), or the folder cannot be written.
    """
    lease = Lease(path.with_name(f"{path.name}.lease"), what=what)
    descriptor = _acquire(path, lease, what, time.monotonic() + wait_s)
    try:
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        with lease:
            yield
    finally:
        os.close(descriptor)


def _acquire(path: Path, lease: Lease, what: str, deadline: float) -> int:
    """Return the descriptor of the locked file once nobody else alive holds it."""
    watch = Watch(lease)
    while True:
        descriptor = _open(path)
        free = _try_lock(descriptor, path)
        holder = watch.look()
        elsewhere = holder is not None and not holder.is_here
        gone = elsewhere and watch.silent_s > leases.LEASE_S
        if free and (not elsewhere or gone) and _is_still(descriptor, path):
            return descriptor
        os.close(descriptor)
        if gone and not free:
            path.unlink(missing_ok=True)  # with it goes the lock of a machine that is gone
        held = watch.has_moved if elsewhere else not free
        if held and time.monotonic() >= deadline:
            raise UsageError(
                f"{what} is already being run by {_name(path)}; wait for it, or stop it"
            )
        time.sleep(_POLL_S)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be written ({error.strerror})") from None


def _try_lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        os.close(descriptor)
        raise UsageError(
            f"{path}: this file system has no locks ({error.strerror}); "
            "use a folder on a file system that has them"
        ) from None
    return True


def _is_still(descriptor: int, path: Path) -> bool:
    """Say whether the locked file is the one that the path names, and not a removed one."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _name(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
