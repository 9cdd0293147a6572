"""A run in Trackio's local store: a database on this machine, no account and no network.

Knows Trackio's client and its store. Refuses to send anything elsewhere: a Space or a server is
Trackio's own affair (`trackio sync`).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO

from cupel.errors import MissingExtraError
from cupel.report.trackers.protocol import TrackedRun, Value

try:
    from trackio.run import Run
    from trackio.sqlite_storage import SQLiteStorage
except ImportError:
    raise MissingExtraError("following with Trackio", "trackio") from None


class TrackioRun:
    """One run, open in Trackio."""

    def __init__(self, run: TrackedRun) -> None:
        SQLiteStorage.init_db(run.project)
        self._last_step: int | None = SQLiteStorage.get_max_step_for_run(
            run.project, run.name, run_id=run.run_id
        )
        self._run = Run(
            url=None,
            project=run.project,
            client=None,
            name=run.name,
            run_id=run.run_id,
            group=run.group,
            config={**run.config, "tags": list(run.tags)},
        )

    @property
    def last_step(self) -> int | None:
        """Step of the last row in the store."""
        return self._last_step

    def log(self, step: int, values: Mapping[str, Value]) -> None:
        """Take one row; Trackio keeps the step beside the values, not among them."""
        self._run.log({key: value for key, value in values.items() if key != "step"}, step=step)

    def commit(self) -> None:
        """Leave it to Trackio, which writes what it has in one transaction, twice a second."""

    def close(self, *, failed: bool) -> None:
        """Write the rest; Trackio does not know how a run ended."""
        with redirect_stdout(StringIO()):
            self._run.finish()
