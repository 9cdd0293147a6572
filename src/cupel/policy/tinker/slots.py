"""A bound on requests in flight that all runs of a machine share.

Knows one lock file a slot, in a folder of the server's own; the system frees a slot with the
process that held it. Refuses to know what is requested. Processes on other machines have slots of
their own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cupel.errors import InfrastructureFailure

_LOOK_S = 0.05


def slots_folder(server: str) -> Path:
    """Return the folder of a server's slots: one for each user and address."""
    name = hashlib.sha256(server.encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"cupel-slots-{os.getuid()}" / name


class Slots:
    """At most `count` holders at a time, over all processes that use the same folder."""

    def __init__(self, folder: Path, count: int) -> None:
        """Make the folder.

        Raises:
            InfrastructureFailure: it cannot be written.
        """
        self._folder, self.count = folder, count
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise InfrastructureFailure(
                f"{folder}: the slots of requests cannot be kept there ({error.strerror})"
            ) from None

    @contextmanager
    def held(self, stop: threading.Event) -> Iterator[bool]:
        """Hold a slot inside the block, after waiting for one; False where `stop` came first."""
        handle = self._free()
        while handle is None:
            if stop.wait(_LOOK_S):
                yield False
                return
            handle = self._free()
        try:
            yield True
        finally:
            os.close(handle)  # the lock goes with the file's description

    def _free(self) -> int | None:
        """Lock the first free slot; two threads of one process exclude each other, too."""
        for number in range(self.count):
            handle = os.open(self._folder / f"slot-{number:04d}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
            else:
                return handle
        return None
