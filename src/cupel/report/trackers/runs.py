"""Which runs are followed, what a tracker is told of them, and whether one has ended.

Knows run folders, of Cupel and of earlier systems. Refuses to read their rows.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import orjson

from cupel.errors import DataError
from cupel.lab.files import read_json
from cupel.lab.store import METRICS, is_run_folder

RETRY_S = 60.0
"""A run that failed longer ago than this is not being tried again."""
HEARTBEAT_S = 60.0
"""A run is at work while its heartbeat is younger than this."""

Ending = Literal["done", "failed"]


@dataclass(frozen=True, slots=True)
class Followed:
    """One run to follow: its folder, and the file with its rows."""

    folder: Path
    metrics: Path

    @property
    def has_rows(self) -> bool:
        """Whether the run has written anything."""
        return self.metrics.is_file() and self.metrics.stat().st_size > 0

    @property
    def is_at_work(self) -> bool:
        """Whether the run gave a sign of life within the last minute."""
        try:
            beat = (self.folder / "heartbeat.json").stat().st_mtime
        except OSError:
            return False
        return time.time() - beat < HEARTBEAT_S

    @property
    def mark(self) -> int:
        """A number that changes when the run begins another attempt."""
        try:
            return (self.folder / "run.json").stat().st_mtime_ns
        except OSError:
            return 0

    def ending(self) -> Ending | None:
        """Say how the run ended; None while it may go on, or where nothing tells."""
        if (self.folder / "result.json").is_file():
            return "done"
        if not (self.folder / "run.json").is_file():
            return None
        state = read_json(self.folder / "run.json")
        ended_at = state.get("ended_at")
        if state.get("status") != "failed" or ended_at is None:
            return None
        age_s = time.time() - datetime.fromisoformat(ended_at).timestamp()
        return "failed" if age_s > RETRY_S else None

    @property
    def is_failed(self) -> bool:
        """Whether the run has failed, however long ago."""
        path = self.folder / "run.json"
        return path.is_file() and read_json(path).get("status") == "failed"

    def facts(self) -> Mapping[str, Any]:
        """Return recipe, condition, seed and settings; what nothing tells is missing."""
        path = self.folder / "config.json"
        if path.is_file():
            config = read_json(path)
            resolved = config.get("resolved")
            return {
                "recipe": config.get("recipe"),
                **(resolved if isinstance(resolved, dict) else {}),
                "condition": config.get("condition"),
                "seed": config.get("seed"),
            }
        with self.metrics.open("rb") as handle:
            try:
                first = orjson.loads(handle.readline())
            except orjson.JSONDecodeError:
                return {}
        keys = ("condition", "algorithm", "seed") if isinstance(first, dict) else ()
        return {key: first[key] for key in keys if key in first}


def followed_file(metrics: Path) -> Followed:
    """Return the run of one metrics file.

    Raises:
        DataError: its folder is not there, or it is a folder itself.
    """
    if metrics.is_dir():
        raise DataError(f"{metrics}: a folder; --metrics-path wants the file {metrics / METRICS}")
    if not metrics.parent.is_dir():
        raise DataError(f"{metrics}: no such file, and no folder {metrics.parent} to wait in")
    return Followed(metrics.parent, metrics)


def find_followed(root: Path) -> list[Followed]:
    """Return the run in a folder, or every run up to two levels below it, in order of name.

    Raises:
        DataError: there is no such folder.
    """
    if not root.is_dir():
        what = "not a folder" if root.exists() else "no such folder"
        raise DataError(f"{root}: {what}; give a run folder, a study folder, or --metrics-path")
    if is_run_folder(root):
        return [Followed(root, root / METRICS)]
    below = sorted([*root.glob("*/"), *root.glob("*/*/")])
    return [Followed(folder, folder / METRICS) for folder in below if is_run_folder(folder)]
