"""Reading and writing what phase 0 hands on: episodes, mined moments, and their exported JSON.

Knows files. Refuses to know how failures are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cupel.teach.records import Episode, Moment


def read_moments(path: Path) -> tuple[Moment, ...]:
    """Read mined moments: snapshots.jsonl, or failure_snapshots.json as exported by Cupel.

    Accepts JSON lines, a JSON list, and an object with the list under snapshots, items or data;
    a folder stands for the snapshots.jsonl inside.

    Raises:
        DataError: the file is missing, malformed, empty, or a snapshot cannot be restored from it.
    """
    raise NotImplementedError


def read_episodes(path: Path) -> tuple[Episode, ...]:
    """Read episodes: a rollouts run folder, its episodes.jsonl, or an exported rollouts.json.

    Raises:
        DataError: the file is missing, malformed or empty.
    """
    raise NotImplementedError


def write_moments(path: Path, moments: Sequence[Moment]) -> None:
    """Write failure_snapshots.json: a list with the fields of earlier systems, and ours beside."""
    raise NotImplementedError
