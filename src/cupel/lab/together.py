"""One run folder, executed by several processes that were started together.

Knows that only the first of them owns the folder, and that the others run the same recipe beside
it and throw away what they write. Refuses to know how processes find each other.
"""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cupel.config import validate
from cupel.lab.checkpoint import Checkpoints
from cupel.lab.metrics import RunStatus
from cupel.lab.randomness import Randomness
from cupel.lab.ranks import Ranks
from cupel.lab.recipe import RunContext, Slot
from cupel.lab.recorder import Recorder
from cupel.lab.registry import check_shared, load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.worker import execute_run

GRACE_S = 20.0
"""A follower that failed waits so long to be ended: the first process then writes the reason."""


def run_together(
    folder: Path, slot: Slot, ranks: Ranks, *, fresh: bool = False, fsync: bool = True
) -> RunStatus:
    """Run or continue the run in `folder` as one of `ranks.count` processes.

    Args:
        fresh: forget rows and checkpoints and begin again.
        fsync: survive a power cut, not only a kill.

    Returns:
        `done` or `failed`; the first process's word counts.

    Raises:
        DataError: the folder holds no run.
        UsageError: another process is running it, or its recipe wants one process.
    """
    if not ranks.is_first:
        work = ranks.share(None)
        return "done" if work is None else _follow(work, slot, ranks)
    run = RunFolder(folder)
    config = run.config()
    check_shared(config["recipe"], ranks.count)
    ranks.share(None if run.is_complete else config)
    notes = [f"{ranks.count} processes run this together"] if ranks.count > 1 else []
    return execute_run(folder, slot, fresh=fresh, fsync=fsync, notes=notes, ranks=ranks)


def _follow(work: Mapping[str, Any], slot: Slot, ranks: Ranks) -> RunStatus:
    """Run the recipe beside the first process, in a folder of its own that is thrown away."""
    recipe = load_recipe(work["recipe"])
    config = validate(recipe.config_type, work["resolved"], where="the first process's settings")
    with (
        tempfile.TemporaryDirectory() as scratch,
        Recorder(Path(scratch), recipe.streams) as recorder,
    ):
        context = RunContext(
            folder=Path(scratch),
            condition=work["condition"],
            seed=work["seed"],
            randomness=Randomness(work["seed"]),
            recorder=recorder,
            checkpoints=Checkpoints(Path(scratch) / "checkpoints"),
            resume=None,
            slot=slot,
            inputs={role: Path(path) for role, path in work["inputs"].items()},
            ranks=ranks,
        )
        try:
            recipe.run(config, context)
        except Exception:
            print(f"process {ranks.index} of {ranks.count}:", file=sys.stderr)  # noqa: T201
            traceback.print_exc()
            time.sleep(GRACE_S)
            raise
    return "done"
