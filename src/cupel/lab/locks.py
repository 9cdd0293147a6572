"""One writer at a time: a folder is claimed with a file lock that dies with its process.

Knows the operating system's advisory locks. A claim needs no clean-up: a killed process leaves a
lock file behind but no lock, and the next one takes it over.
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

_POLL_S = 0.05


@contextmanager
def claim(path: Path, *, what: str, wait_s: float = 0.0) -> Iterator[None]:
    """Hold the lock file `path` while the block runs.

    Args:
        what: names the claimed thing in the message, e.g. `study results/first`.
        wait_s: how long to wait for another holder to end.

    Raises:
        UsageError: another process holds it (says which), or the folder cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{path.parent}: cannot be written ({error.strerror})") from None
    try:
        _acquire(descriptor, path, what, time.monotonic() + wait_s)
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname()})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _acquire(descriptor: int, path: Path, what: str, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise UsageError(
                    f"{what} is already being run by {_holder(path)}; wait for it, or stop it"
                ) from None
            time.sleep(_POLL_S)
        except OSError as error:
            raise UsageError(
                f"{path}: this file system has no locks ({error.strerror}); "
                "use a folder on a local disk"
            ) from None
        else:
            return


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
