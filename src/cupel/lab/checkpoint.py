"""Checkpoints: saved whole or not at all, verified when read, the last two kept.

Knows folders, hashes and how far the run's streams were written. Refuses to know what a recipe
saves, and to hand out a checkpoint whose bytes are not those that were written.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cupel.config import canonical_json
from cupel.errors import ConfigError, DataError
from cupel.lab.files import file_sha256, read_json, sync_folder, write_json

_STATE = "state.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A verified checkpoint.

    Attributes:
        step: number of steps done when it was taken.
        folder: where the recipe's own files lie.
        state: the recipe's own counters, as given to `save`.
        offsets: bytes of every stream at that moment.
    """

    step: int
    folder: Path
    state: Mapping[str, Any]
    offsets: Mapping[str, int]


class Checkpoints:
    """The checkpoints of one run.

    Args:
        keep: how many of the newest stay on disk.
        fsync: survive a power cut (a kill is survived without it).

    Attributes:
        damaged: what `latest` found wrong, in words, with what it used instead.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int = 2,
        fsync: bool = True,
    ) -> None:
        self.folder = folder
        self.damaged: list[str] = []
        self._offsets: Callable[[], Mapping[str, int]] | None = None
        self._keep = keep
        self._fsync = fsync

    def follow(self, offsets: Callable[[], Mapping[str, int]]) -> None:
        """Store with every save how far the streams are written, as `offsets()` says."""
        self._offsets = offsets

    def save(self, step: int, write: Callable[[Path], None], state: Mapping[str, Any]) -> None:
        """Save atomically: a kill at any moment leaves the older checkpoints untouched.

        Args:
            write: writes the recipe's files into the empty folder it is given.
            state: counters and the like; plain, finite JSON.

        Raises:
            ConfigError: `state` is not JSON, or the recipe wrote a file named state.json.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".step_{step:06d}.{os.getpid()}.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        write(temporary)
        if (temporary / _STATE).exists():
            raise ConfigError(f"a checkpoint keeps its own '{_STATE}'; choose another file name")
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        content = {
            "step": step,
            "state": state,
            "offsets": dict(self._offsets()) if self._offsets is not None else {},
            "files": {path.relative_to(temporary).as_posix(): file_sha256(path) for path in files},
        }
        if self._fsync:
            for path in files:
                _sync_file(path)
        content = json.loads(canonical_json(content))  # what a reader will see, to the key
        sealed = {**content, "sha256": _seal(content)}
        write_json(temporary / _STATE, sealed, fsync=self._fsync)
        final = self.folder / f"step_{step:06d}"
        shutil.rmtree(final, ignore_errors=True)
        temporary.rename(final)
        if self._fsync:
            sync_folder(self.folder)
        self._prune()

    def latest(self, streams: Mapping[str, int] | None = None) -> Checkpoint | None:
        """Return the newest checkpoint that is whole, or None; note every damaged one.

        Args:
            streams: bytes each stream has now; a checkpoint taken further on is not usable.
        """
        self.damaged.clear()
        for folder in reversed(self.kept()):
            try:
                return read_checkpoint(folder, streams)
            except DataError as error:
                self.damaged.append(str(error))
        return None

    def clear(self) -> None:
        """Remove every checkpoint."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def kept(self) -> list[Path]:
        """Return the folders of the checkpoints on disk, oldest first; none is verified."""
        folders = [path for path in self.folder.glob("step_*") if path.is_dir()]
        return sorted(folders, key=lambda path: (len(path.name), path.name))

    def _prune(self) -> None:
        leftovers = [path for path in self.folder.glob(".step_*.tmp") if path.is_dir()]
        for path in [*leftovers, *self.kept()[: -self._keep]]:
            shutil.rmtree(path, ignore_errors=True)


def read_checkpoint(folder: Path, streams: Mapping[str, int] | None = None) -> Checkpoint:
    """Read one checkpoint and verify every byte of it.

    Args:
        streams: as `Checkpoints.latest`.

    Raises:
        DataError: it is damaged, or was taken further on than the streams reach.
    """
    content = read_json(folder / _STATE)
    seal = content.pop("sha256", None)
    if seal != _seal(content):
        raise DataError(f"checkpoint {folder.name}: {_STATE} was changed or damaged")
    for name, digest in content["files"].items():
        path = folder / name
        if not path.is_file():
            raise DataError(f"checkpoint {folder.name}: {name} is missing")
        if file_sha256(path) != digest:
            raise DataError(f"checkpoint {folder.name}: {name} was changed or damaged")
    for name, offset in content["offsets"].items():
        if streams is not None and streams.get(name, 0) < offset:
            raise DataError(
                f"checkpoint {folder.name}: {name} has lost rows "
                f"({streams.get(name, 0)} bytes, {offset} when the checkpoint was taken)"
            )
    return Checkpoint(
        step=content["step"], folder=folder, state=content["state"], offsets=content["offsets"]
    )


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
