"""A lease: a small file that names the owner of a folder and changes every second he lives.

Knows who holds it and for how long it has stood still, by the observer's own clock. Refuses to
compare clocks of two machines, and to let an owner go on who has lost his lease to another one.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

BEAT_S = 1.0
LEASE_S = 60.0
EXIT_LOST = 75
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NO_NAMES = ("", "localhost", "localhost.localdomain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Whom a lease names: `beat` counts the seconds he has held it."""

    owner: str
    pid: int
    host: str
    boot: str
    beat: int

    @property
    def is_here(self) -> bool:
        """Whether he lives, or lived, on this machine, where a lock alone tells the truth."""
        same_name = self.host == socket.gethostname() and self.host not in _NO_NAMES
        return self.boot == _boot() or same_name  # the same name: it was started anew since


class Lease:
    """One lease file, and this process as one that may hold it.

    While held, a thread writes the file anew every second. When it finds another owner there,
    which happens only after this process stood still for a minute, it ends this process at once.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path = path
        self._what = what
        self._owner = uuid.uuid4().hex
        self._beat = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def holder(self) -> Holder | None:
        """Return whom the lease names; None without one, or when it cannot be read."""
        try:
            return Holder(**json.loads(self.path.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def __enter__(self) -> None:
        self._write()
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._is_mine(self.holder()):
            self.path.unlink(missing_ok=True)

    def _keep(self) -> None:
        while not self._stop.wait(BEAT_S):
            if not self._is_mine(self.holder() or self._as_holder()):
                os.write(2, f"{self._what} was taken over by another process; ending\n".encode())
                os._exit(EXIT_LOST)
            with suppress(OSError):  # a full disk, or a folder that was removed
                self._write()

    def _write(self) -> None:
        self._beat += 1
        temporary = self.path.with_name(f".{self._owner}.tmp")
        temporary.write_text(json.dumps(self._facts()))
        os.replace(temporary, self.path)

    def _facts(self) -> dict[str, Any]:
        return {
            "owner": self._owner,
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "boot": _boot(),
            "beat": self._beat,
        }

    def _as_holder(self) -> Holder:
        return Holder(**self._facts())

    def _is_mine(self, holder: Holder | None) -> bool:
        return holder is not None and holder.owner == self._owner


class Watch:
    """Looks at a lease again and again, and knows whether it moves.

    Attributes:
        has_moved: whether it was seen to change: its holder is alive.
        silent_s: for how long it has not changed, by this machine's clock.
    """

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._last: Holder | None = lease.holder()
        self._since = time.monotonic()
        self.has_moved = False

    def look(self) -> Holder | None:
        """Look once more, and return the holder."""
        holder = self._lease.holder()
        if holder != self._last:
            self._last, self._since = holder, time.monotonic()
            self.has_moved = holder is not None
        return holder

    @property
    def silent_s(self) -> float:
        """Seconds since the lease last changed."""
        return time.monotonic() - self._since


def _boot() -> str:
    """Return what tells this start of this machine from every other; its name where none does."""
    with suppress(OSError):
        return _BOOT.read_text().strip()
    return socket.gethostname()
