"""What a follower remembers of one run and one tracker, written atomically beside the rows.

Knows the tracker's run id, the byte offset, the last step, and who is following. Refuses to let
two followers of the same run and tracker work at once.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cupel.errors import UsageError
from cupel.lab.files import read_json, write_json
from cupel.lab.run_dir import now

SCHEMA = 1
FOLDER = "follow"
_IDENTITY = ("project", "entity", "mode")


class AlreadyFollowed(UsageError):
    """Another process is following this run into this tracker."""


@dataclass(slots=True)
class FollowerState:
    """The state file `follow/<tracker>.json` of a run folder, and its lock.

    Attributes:
        run_id: the tracker's identity of the run, made once.
        predecessor: the process that followed the run before, if another one of this machine did.
        found: what an earlier follower wrote; empty at the first start.
    """

    path: Path
    tracker: str
    run_id: str
    predecessor: int | None
    found: Mapping[str, Any]
    _lock: int
    _facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ledger_path(self) -> Path:
        """The ledger beside the state file; a restart begins another."""
        return self.path.with_name(f"{self.tracker}.{self.run_id}.rows")

    def save(self, *, offset: int, last_step: int | None, rows: int, **more: Any) -> None:
        """Replace the state file."""
        self._facts |= {"offset": offset, "last_step": last_step, "rows": rows, **more}
        self._facts |= {"updated_at": now()}
        write_json(self.path, self._facts)

    @property
    def is_complete(self) -> bool:
        """Whether an earlier follower sent the whole run and saw its end."""
        return self.found.get("ended") == "done"

    def sign(self) -> None:
        """Put this process down as the follower, once the tracker is open and before any row.

        Until then the predecessor stands here: the process that serves it may still be writing,
        and whoever comes after a kill has to wait for that one.
        """
        self._facts |= {"pid": os.getpid(), "host": socket.gethostname(), "ended": None}

    def close(self) -> None:
        """Let another follower have the run."""
        os.close(self._lock)


def take_over(
    run_folder: Path, tracker: str, about: Mapping[str, Any], *, restart: bool = False
) -> FollowerState:
    """Lock and read the state of a run and tracker, or begin it.

    Args:
        about: project, entity and name, kept in the state file; a run that is being followed
            into one project stays there.
        restart: begin another run in the tracker.

    Raises:
        AlreadyFollowed: another process holds it.
        UsageError: it was followed into another project, or the folder cannot be written.
    """
    folder = run_folder / FOLDER
    try:
        folder.mkdir(exist_ok=True)
        lock = os.open(folder / f".{tracker}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror})") from None
    try:
        _lock(lock, f"{run_folder}: is being followed into {tracker}")
        path = folder / f"{tracker}.json"
        found = read_json(path) if path.is_file() and not restart else {}
        _refuse_other_project(run_folder, tracker, found, about)
        run_id = str(found.get("run_id") or secrets.token_hex(6))
        elsewhere = found.get("host") != socket.gethostname() or found.get("pid") == os.getpid()
        predecessor = None if elsewhere else found.get("pid")
        state = FollowerState(path, tracker, run_id, predecessor, found, lock)
        begun = {"offset": 0, "last_step": None, "rows": 0, "ended": None, **found}
        state._facts = {**begun, "schema": SCHEMA, "tracker": tracker, "run_id": run_id, **about}
        if not found:
            write_json(path, state._facts)  # the id is on disk before the tracker hears of it
    except BaseException:
        os.close(lock)
        raise
    return state


def _lock(descriptor: int, what: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        raise AlreadyFollowed(f"{what} by process {holder or 'unknown'} already") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _refuse_other_project(
    run_folder: Path, tracker: str, found: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    for key in _IDENTITY:
        if found and tracker != "tensorboard" and found.get(key) != about.get(key):
            raise UsageError(
                f"{run_folder}: was followed into {tracker} {key} '{found.get(key)}', not "
                f"'{about.get(key)}'; give that one, or --restart to begin another run there"
            )
