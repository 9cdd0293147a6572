"""Executing one run folder: config in, rows and result out, every way of failing written down.

Knows how to continue from a checkpoint and which exception is whose fault. Refuses to know which
recipe it runs, and to let an exception vanish: this is the boundary where a run's errors become
data.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from cupel.config import validate
from cupel.errors import (
    AlgorithmicFailure,
    DataError,
    GateFailure,
    InfrastructureFailure,
    UsageError,
)
from cupel.lab.checkpoint import Checkpoint, Checkpoints
from cupel.lab.locks import claim
from cupel.lab.metrics import FailureKind, RunStatus
from cupel.lab.provenance import capture
from cupel.lab.randomness import Randomness
from cupel.lab.ranks import ALONE, Ranks
from cupel.lab.recipe import Recipe, Result, RunContext, Slot
from cupel.lab.recorder import Recorder
from cupel.lab.registry import load_recipe
from cupel.lab.run_dir import RunFolder
from cupel.lab.store import EVENTS

HEARTBEAT_S = 1.0
GUARD_S = 0.2
CLAIM_WAIT_S = 10.0
_OUT_OF_MEMORY = "OutOfMemoryError"


def execute_run(
    folder: Path | str,
    slot: Slot | None = None,
    *,
    provenance: Mapping[str, Any] | None = None,
    fresh: bool = False,
    fsync: bool = True,
    guardian: int | None = None,
    wait_s: float = CLAIM_WAIT_S,
    notes: Sequence[str] = (),
    ranks: Ranks = ALONE,
) -> RunStatus:
    """Run, or continue, the run in a folder; a complete one is left alone.

    Whatever the recipe raises is recorded in run.json; only an interrupt goes up.

    Args:
        slot: share of the machine; default one CPU thread.
        provenance: of the caller; default: captured here.
        fresh: forget rows and checkpoints and begin again.
        fsync: survive a power cut, not only a kill.
        guardian: pid of the parent; when it is gone this process kills itself, so that an
            orphan never writes beside its successor.
        wait_s: how long to wait for another process that is running it.
        notes: what run.json shall say of where it runs.
        ranks: the processes that run it together, of which this is the first.

    Returns:
        `done` or `failed`.

    Raises:
        DataError: the folder holds no run.
        UsageError: another process is running it.
    """
    run = RunFolder(Path(folder))
    run.config()
    with claim(run.path / ".lock", what=f"run {run.path}", wait_s=wait_s):
        if run.is_complete:
            run.mark_done()
            return "done"
        run.start(capture() if provenance is None else provenance)
        run.note(*notes)
        try:
            place = slot or Slot()
            _attempt(run, place, ranks, fresh=fresh, fsync=fsync, guardian=guardian)
        except (KeyboardInterrupt, SystemExit):
            run.release("interrupted; continue with: cupel resume")
            raise
        except Exception as error:  # noqa: BLE001 - the boundary where errors become data
            kind = kind_of(error)
            quiet = kind in ("usage", "gate", "algorithmic")
            beat = run.heartbeat()
            run.fail(
                kind,
                str(error) or type(error).__name__,
                step=beat.step if beat is not None else None,
                trace=None if quiet else "".join(traceback.format_exception(error)),
            )
            return "failed"
        return "done"


def kind_of(error: BaseException) -> FailureKind:
    """Say whose fault an exception is: the method's, the machine's, the user's, or a bug's."""
    if isinstance(error, GateFailure):
        return "gate"
    if isinstance(error, AlgorithmicFailure):
        return "algorithmic"
    if isinstance(error, OSError | MemoryError | InfrastructureFailure):
        return "infrastructure"
    if type(error).__name__ == _OUT_OF_MEMORY:  # of an accelerator, whose library is not known here
        return "infrastructure"
    return "usage" if isinstance(error, UsageError) else "error"


def _attempt(
    run: RunFolder, slot: Slot, ranks: Ranks, *, fresh: bool, fsync: bool, guardian: int | None
) -> None:
    config = run.config()
    recipe = load_recipe(config["recipe"])
    resolved = validate(
        recipe.config_type, config["resolved"], where=f"{run.path / 'config.json'}: resolved"
    )
    checkpoints, resume = _find_resume(run, recipe, fresh=fresh, fsync=fsync)
    offsets = resume.offsets if resume is not None else None
    with (
        Recorder(run.path, recipe.streams, offsets=offsets) as recorder,
        _Pulse(run, recorder, guardian),
    ):
        checkpoints.follow(recorder.sync if fsync else recorder.offsets)
        context = RunContext(
            folder=run.path,
            condition=config["condition"],
            seed=config["seed"],
            randomness=Randomness(config["seed"]),
            recorder=recorder,
            checkpoints=checkpoints,
            resume=resume,
            slot=slot,
            inputs={role: Path(path) for role, path in config["inputs"].items()},
            ranks=ranks,
        )
        result: Result = recipe.run(resolved, context)
        streams = recorder.sync() if fsync else recorder.offsets()
    run.finish(result.values, streams, fsync)


def _find_resume(
    run: RunFolder, recipe: Recipe[Any], *, fresh: bool, fsync: bool
) -> tuple[Checkpoints, Checkpoint | None]:
    checkpoints = Checkpoints(run.path / "checkpoints", fsync=fsync)
    if fresh:
        checkpoints.clear()
        return checkpoints, None
    names = [*recipe.streams, EVENTS]
    sizes = {name: _size(run.path / name) for name in names}
    resume = checkpoints.latest(sizes)
    notes = [f"damaged checkpoint skipped: {message}" for message in checkpoints.damaged]
    if resume is not None:
        notes.append(f"continued from the checkpoint of step {resume.step}")
    elif any(sizes.values()):
        notes.append("no usable checkpoint: begun again, earlier rows cut")
    for message in notes:
        print(f"{run.path.name}: {message}", file=sys.stderr)  # noqa: T201 - goes to the run's log
    run.note(*notes)
    return checkpoints, resume


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Pulse:
    """A thread that writes the heartbeat and watches over an orphaned process."""

    def __init__(self, run: RunFolder, recorder: Recorder, guardian: int | None) -> None:
        self._run = run
        self._recorder = recorder
        self._guardian = guardian
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if error is not None:
            with suppress(OSError):  # says at which step the run failed
                self._run.beat(self._recorder.last_step, self._recorder.doing, os.getpid())

    def _beat(self) -> None:
        waits = 0
        interval = HEARTBEAT_S if self._guardian is None else GUARD_S
        while not self._stop.wait(interval):
            if self._guardian is not None and os.getppid() != self._guardian:
                os.kill(os.getpid(), signal.SIGKILL)
            waits += 1
            if waits * interval >= HEARTBEAT_S:
                waits = 0
                with suppress(OSError):  # a full disk must not silence the guard
                    self._run.beat(self._recorder.last_step, self._recorder.doing, os.getpid())


def main(argv: list[str]) -> int:
    """Run or continue one run folder; the exit code says how it ended (0, 2 or 3)."""
    if len(argv) != 1:
        print("usage: python -m cupel.lab.worker RUN_FOLDER", file=sys.stderr)  # noqa: T201
        return 2
    try:
        status = execute_run(argv[0])
    except (DataError, UsageError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0 if status == "done" else 3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
