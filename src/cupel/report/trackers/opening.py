"""Opening a run in the tracker that was asked for; no other tracker is imported."""

from __future__ import annotations

import os
from collections.abc import Callable

from cupel.report.trackers.protocol import TrackedRun, Tracker, TrackerName


def opener(tracker: TrackerName, *, offline: bool = False) -> Callable[[TrackedRun], Tracker]:
    """Return the function that opens a run in a tracker.

    Args:
        offline: write W&B's files without sending them; the other trackers never send anything.

    Raises:
        MissingExtraError: the tracker is not installed; says which extra brings it.
    """
    match tracker:
        case "wandb":
            # W&B's client reports its own errors to its makers, offline too, unless told otherwise.
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
            from cupel.report.trackers.wandb_run import WandbRun

            return lambda run: WandbRun(run, offline=offline)
        case "tensorboard":
            from cupel.report.trackers.tensorboard_run import TensorBoardRun

            return TensorBoardRun
        case "trackio":
            from cupel.report.trackers.trackio_run import TrackioRun

            return TrackioRun
