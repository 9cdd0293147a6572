"""The run folder: its config, and run.json with the status of the run through every attempt.

Knows the life of a run: planned, running, done or failed. Refuses to know how a run is executed
or what it records.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cupel.errors import UsageError
from cupel.lab.files import read_json, write_json
from cupel.lab.metrics import FailureKind, RunStatus, Scalar

if TYPE_CHECKING:
    from cupel.lab.plan import RunSpec

SCHEMA = 1
MADE_WITH = "made_with.json"
"""What attempts found of the world outside their process; absent where they had none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a running run last said of itself: seconds since the epoch, step, and its doings."""

    time: float
    pid: int
    step: int | None
    doing: str


@dataclass(frozen=True, slots=True)
class RunFolder:
    """One run folder, by its path."""

    path: Path

    def create(self, spec: RunSpec) -> None:
        """Write config.json and a planned run.json; an existing equal run is left as it is.

        Raises:
            UsageError: the folder cannot be written, or holds another run.
        """
        config = {
            "schema": SCHEMA,
            "id": spec.id,
            "recipe": spec.recipe,
            "condition": spec.condition,
            "seed": spec.seed,
            "passed": spec.passed,
            "resolved": spec.resolved,
            "costs": spec.costs,
            "machine_keys": spec.machine_keys,
            "preload": spec.preload,
            "inputs": {},
        }
        state = {
            "schema": SCHEMA,
            "id": spec.id,
            "recipe": spec.recipe,
            "condition": spec.condition,
            "seed": spec.seed,
            "status": "planned",
            "attempts": 0,
            "planned_at": now(),
            "started_at": None,
            "ended_at": None,
            "failure": None,
            "events": [],
            "provenance": None,
        }
        if self.holds(spec):
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "config.json", config)
            write_json(self.path / "run.json", state)
        except OSError as error:
            raise UsageError(f"{self.path}: cannot be written ({error.strerror})") from None

    def holds(self, spec: RunSpec) -> bool:
        """Say whether the folder holds this very run already.

        Raises:
            UsageError: it holds the outcome of another run.
        """
        if not ((self.path / "config.json").is_file() and (self.path / "run.json").is_file()):
            return False
        there = self.config()["id"]
        if there != spec.id and self.has_outcome:
            raise UsageError(
                f"{self.path} holds another run ({there}, not {spec.id}); "
                "give another folder, or move this one away"
            )
        return bool(there == spec.id)

    def config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_json(self.path / "config.json")

    def state(self) -> dict[str, Any]:
        """Read run.json.

        Raises:
            DataError: it is missing or damaged.
        """
        return read_json(self.path / "run.json")

    def made_with(self) -> list[dict[str, Any]]:
        """Return what its attempts were made with outside their process, without repetition.

        Raises:
            DataError: made_with.json is damaged.
        """
        path = self.path / MADE_WITH
        return list(read_json(path)["attempts"]) if path.is_file() else []

    @property
    def is_complete(self) -> bool:
        """Whether result.json exists."""
        return (self.path / "result.json").is_file()

    @property
    def has_outcome(self) -> bool:
        """Whether anything has been measured here: a row, a result, or a failure."""
        if self.is_complete:
            return True
        for stream in ("metrics.jsonl", "evaluations.jsonl"):
            path = self.path / stream
            if path.is_file() and path.stat().st_size > 0:
                return True
        return (self.path / "run.json").is_file() and self.state().get("status") == "failed"

    def start(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        """Note that an attempt begins, and return the state."""
        state = self.state()
        state |= {
            "status": "running",
            "attempts": state["attempts"] + 1,
            "started_at": state["started_at"] or now(),
            "attempt_started_at": now(),
            "ended_at": None,
            "failure": None,
            "provenance": dict(provenance),
        }
        write_json(self.path / "run.json", state)
        return state

    def note(self, *messages: str) -> None:
        """Append events that belong to the run's execution, not to its record."""
        if messages:
            state = self.state()
            state["events"] += [{"at": now(), "message": message} for message in messages]
            write_json(self.path / "run.json", state)

    def finish(self, values: Mapping[str, Scalar], streams: Mapping[str, int], fsync: bool) -> None:
        """Write result.json, then the status `done`; the result's existence is what counts."""
        state = self.state()
        result = {
            "schema": SCHEMA,
            "id": state["id"],
            "condition": state["condition"],
            "seed": state["seed"],
            "values": dict(values),
            "streams": dict(streams),
        }
        write_json(self.path / "result.json", result, fsync=fsync)
        self._end(state, "done", None)

    def fail(
        self, kind: FailureKind, message: str, *, step: int | None = None, trace: str | None = None
    ) -> None:
        """Note how the run failed."""
        failure = {"kind": kind, "message": message, "step": step, "traceback": trace}
        self._end(self.state(), "failed", failure)

    def release(self, message: str) -> None:
        """Put an interrupted run back to `planned`, to be continued later."""
        state = self.state()
        state["events"].append({"at": now(), "message": message})
        self._end(state, "planned", None)

    def mark_done(self) -> None:
        """Set the status of a run that wrote its result but was killed before saying so."""
        state = self.state()
        if state["status"] != "done":
            self._end(state, "done", None)

    def beat(self, step: int | None, doing: str, pid: int) -> None:
        """Write the heartbeat."""
        beat = {"time": time.time(), "pid": pid, "step": step, "doing": doing}
        write_json(self.path / "heartbeat.json", beat)

    def heartbeat(self) -> Heartbeat | None:
        """Return the last heartbeat, or None before the first."""
        path = self.path / "heartbeat.json"
        return Heartbeat(**read_json(path)) if path.is_file() else None

    def _end(
        self, state: dict[str, Any], status: RunStatus, failure: Mapping[str, Any] | None
    ) -> None:
        state |= {"status": status, "ended_at": now(), "failure": failure}
        write_json(self.path / "run.json", state)


def now() -> str:
    """Return the time of day in UTC, ISO 8601 to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
