"""What was counted in a run's completions, kept beside the study so that it is counted once.

Knows a file in <study>/.cache per run: a line of JSON, then arrays. An entry holds for one state
of the file counted (size, times, identity, the bytes at its end). Refuses to serve another state,
to write outside a study of Cupel, and to fail where nothing can be written.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from cupel import __version__
from cupel.lab.files import write_atomically
from cupel.lab.store import RunRecord, is_study_folder

FORMAT = "cupel.counts/1"
FOLDER = ".cache"
SETTLED_S = 1.0
"""Age from which a file is taken for settled: a younger one could still change unnoticed within
one tick of the file system's clock, so it is counted and not kept."""
_TAIL = 4096


def place_of(run: RunRecord, stream: str) -> Path | None:
    """Return where counts of a run's stream are kept; None for a run of no study of Cupel."""
    study = run.folder.parent.parent
    if run.folder.parent.name != "runs" or not is_study_folder(study):
        return None
    return study / FOLDER / f"{run.folder.name}.{Path(stream).stem}"


def signature(path: Path) -> dict[str, Any]:
    """Return the state of a file: it differs whenever the file was written again."""
    state = path.stat()
    with path.open("rb") as handle:
        handle.seek(max(0, state.st_size - _TAIL))
        tail = hashlib.sha256(handle.read()).hexdigest()
    return {
        "size": state.st_size,
        "mtime_ns": state.st_mtime_ns,
        "ctime_ns": state.st_ctime_ns,
        "inode": state.st_ino,
        "tail": tail,
    }


def load(place: Path, path: Path) -> tuple[str, dict[str, Any]] | None:
    """Return a file's SHA-256 and what was kept for its present state; None when nothing was."""
    try:
        with place.open("rb") as handle:
            head = orjson.loads(handle.readline())
            if head["key"] != _key(signature(path)):
                return None
            body = handle.read()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if len(body) != head["bytes"]:
        return None
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, kind, length in head["arrays"]:
        dtype = np.dtype(kind)
        arrays[name] = np.frombuffer(body, dtype, length, start)
        start += length * dtype.itemsize
    return head["sha256"], {**arrays, **orjson.loads(body[start:])}


def store(
    place: Path,
    path: Path,
    state: Mapping[str, Any],
    sha256: str,
    values: Mapping[str, Any],
) -> None:
    """Keep what was counted in a file whose state was taken before it was read.

    Does nothing where the file is still changing or nothing can be written.
    """
    youngest = max(state["mtime_ns"], state["ctime_ns"]) / 1e9
    if time.time() - youngest < SETTLED_S or signature(path) != state:
        return
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    facts = {name: value for name, value in values.items() if name not in arrays}
    body = b"".join([*(array.tobytes() for array in arrays.values()), orjson.dumps(facts)])
    head = {
        "key": _key(state),
        "sha256": sha256,
        "arrays": [[name, array.dtype.str, len(array)] for name, array in arrays.items()],
        "bytes": len(body),
    }
    with suppress(OSError):
        place.parent.mkdir(exist_ok=True)
        write_atomically(place, orjson.dumps(head) + b"\n" + body)


def _key(state: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "cupel": __version__, **state}
