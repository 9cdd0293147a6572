"""Following one run or all runs of a study: look, send, wait, and stop when there is no more.

Knows when a follower stops: its runs have ended, nothing moved for the idle timeout, or whoever
started it is gone and everything is sent. Refuses to let one damaged run keep the others back.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cupel.errors import DataError, UsageError
from cupel.report.trackers.names import evaluation_names, names_of
from cupel.report.trackers.opening import opener
from cupel.report.trackers.protocol import TrackedRun, TrackerName
from cupel.report.trackers.run_follower import Rewritten, RunFollower
from cupel.report.trackers.runs import Followed, find_followed, followed_file
from cupel.report.trackers.state import AlreadyFollowed, FollowerState, take_over

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How to follow.

    Attributes:
        project: project in the tracker; TensorBoard has none.
        run_name, group: default the run folder's name and its condition.
        follow: False sends what is there and stops.
        offline: write W&B's files without sending them.
        restart: begin another run in the tracker instead of continuing.
        until_exit_of: process id of whoever started this; when it is gone, the rest is sent and
            the follower stops.
    """

    tracker: TrackerName = "wandb"
    project: str = "textpolicy-tinker"
    entity: str | None = None
    run_name: str | None = None
    group: str | None = None
    poll_seconds: float = 5.0
    idle_timeout_seconds: float = 600.0
    follow: bool = True
    offline: bool = False
    restart: bool = False
    until_exit_of: int | None = None

    @property
    def mode(self) -> str:
        """Where rows go: `online`, `offline`, or `local` for trackers that never send."""
        if self.tracker != "wandb":
            return "local"
        return "offline" if self.offline else "online"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFollowed:
    """What became of one run: its id in the tracker, rows sent now, and how it ended if it did."""

    folder: Path
    run_id: str
    sent: int
    last_step: int | None
    ended: str | None


def follow(
    target: Path, options: FollowOptions, *, metrics: bool = False, say: Say
) -> list[RunFollowed]:
    """Send what is there of one run or many, then what comes, until there is no more.

    Args:
        target: a run folder, a study folder, or with `metrics` one file of rows.
        say: called with one line for whatever a person should know.

    Raises:
        MissingExtraError: the tracker is not installed.
        AlreadyFollowed: another process follows these runs into this tracker.
        DataError: there is no run, or the rows of one are damaged; the others were followed.
        UsageError: the tracker cannot be used.
    """
    opener(options.tracker)  # a missing extra is told before anything else
    find = (lambda: [followed_file(target)]) if metrics else (lambda: find_followed(target))
    session = _Session(find, options, say)
    found = session.look()
    if not found:
        raise DataError(
            f"{target}: no run in it, nor two levels below; a run folder holds run.json or "
            "metrics.jsonl"
        )
    if found > 1 and options.run_name is not None:
        raise UsageError(f"{target}: {found} runs, and one name for them; leave out --run-name")
    try:
        session.work()
    finally:
        session.close()
    session.raise_damage(target)
    return list(session.results.values())


class _Session:
    def __init__(
        self, find: Callable[[], Sequence[Followed]], options: FollowOptions, say: Say
    ) -> None:
        self.results: dict[Path, RunFollowed] = {}
        self._find = find
        self._options = options
        self._say = say
        self._found: Sequence[Followed] = ()
        self._open: dict[Path, RunFollower] = {}
        self._ended: dict[Path, int] = {}
        self._damaged: dict[Path, DataError] = {}
        self._told: dict[Path, Rewritten] = {}
        self._restarted: set[Path] = set()
        self._active_at = time.monotonic()

    def look(self) -> int:
        """Find the runs there are now; return how many."""
        self._found = self._find()
        return len(self._found)

    def work(self) -> None:
        """Look and send until there is no more to come."""
        while True:
            starter_is_gone = not _is_alive(self._options.until_exit_of)
            sent = sum(self._attend(run) for run in self._found)
            if sent or any(run.is_at_work for run in self._found):
                self._active_at = time.monotonic()
            self.look()
            if not self._options.follow or self._is_over(sent, starter_is_gone):
                return
            time.sleep(self._options.poll_seconds)

    def close(self) -> None:
        """Hand everything on and let go of all runs."""
        followed = {run.folder: run for run in self._found}
        for folder in list(self._open):
            self._close(folder, ended=None, failed=followed[folder].is_failed)

    def raise_damage(self, target: Path) -> None:
        """Raise what kept a run from being followed to its end, or that there was nothing."""
        for error in self._damaged.values():
            raise error
        if not self.results and self._options.follow and not self._ended:
            raise DataError(
                f"{target}: no row within {self._options.idle_timeout_seconds:g} s; "
                "has the run been started?"
            )

    def _is_over(self, sent: int, starter_is_gone: bool) -> bool:
        if starter_is_gone and self._options.until_exit_of is not None:
            return sent == 0
        settled = self._ended.keys() | self._damaged.keys()
        if self._options.until_exit_of is None and settled >= {run.folder for run in self._found}:
            return True
        if time.monotonic() - self._active_at < self._options.idle_timeout_seconds:
            return False
        self._say(f"nothing new for {self._options.idle_timeout_seconds:g} s; stopping")
        return True

    def _attend(self, run: Followed) -> int:
        """Send what is new of a run, and close it when it has ended; return how many rows."""
        if run.folder in self._damaged or self._ended.get(run.folder) == run.mark:
            return 0
        ending, mark = run.ending(), run.mark
        if not run.has_rows:
            if ending is not None:
                self._ended[run.folder] = mark
            return 0
        try:
            follower = self._open.get(run.folder) or self._begin(run)
            if follower is None:
                return 0
            sent = follower.poll()
            self._tell_rewritten(run, follower.rewritten)
            if ending is not None:
                follower.finish()
                self._close(run.folder, ended=ending, failed=ending == "failed")
                self._ended[run.folder] = mark
            return sent
        except DataError as error:
            self._say(f"{run.folder.name}: {error}")
            self._damaged[run.folder] = error
            return 0

    def _begin(self, run: Followed) -> RunFollower | None:
        options = self._options
        name = options.run_name or run.folder.resolve().name
        about = {"project": options.project, "entity": options.entity, "mode": options.mode}
        restart = options.restart and run.folder not in self._restarted
        try:
            state = take_over(run.folder, options.tracker, {**about, "name": name}, restart=restart)
        except AlreadyFollowed:
            if options.until_exit_of is None:
                raise
            return None  # the follower of an earlier start is still sending the rest
        self._restarted.add(run.folder)
        if state.is_complete and state.found["offset"] == run.metrics.stat().st_size:
            self._note_complete(run, state)
            return None
        facts = run.facts()
        recipe = facts.get("recipe")
        try:
            follower = RunFollower(
                _tracked(run, options, name, state.run_id, state.predecessor, facts),
                state,
                opener(options.tracker, offline=options.offline),
                metrics=run.metrics,
                names=names_of(recipe),
                evaluation_names=evaluation_names(recipe),
            )
        except BaseException:
            state.close()
            raise
        self._open[run.folder] = follower
        last = follower.last_step
        how = "begins" if last is None else f"continues behind step {last}"
        self._say(f"{name}: {options.tracker} run {state.run_id} {how}")
        return follower

    def _note_complete(self, run: Followed, state: FollowerState) -> None:
        """Leave a run alone that an earlier follower sent to its end."""
        state.close()
        self._ended[run.folder] = run.mark
        self.results[run.folder] = RunFollowed(
            folder=run.folder,
            run_id=state.run_id,
            sent=0,
            last_step=state.found["last_step"],
            ended="done",
        )

    def _close(self, folder: Path, *, ended: str | None, failed: bool) -> None:
        follower = self._open.pop(folder)
        follower.close(ended=ended, failed=failed)
        before = self.results.get(folder)
        self.results[folder] = RunFollowed(
            folder=folder,
            run_id=follower.run.run_id,
            sent=follower.sent + (before.sent if before is not None else 0),
            last_step=follower.last_step,
            ended=ended,
        )

    def _tell_rewritten(self, run: Followed, now: Rewritten) -> None:
        told = self._told.get(run.folder, Rewritten())
        if now == told:
            return
        self._told[run.folder] = replace(now)
        name = run.folder.name
        if now.repeated > told.repeated:
            self._say(f"{name}: {now.repeated} rows repeat a step of the file; they were not sent")
        if (now.same, now.timing, now.other) != (told.same, told.timing, told.other):
            self._say(
                f"{name}: the run went back and wrote rows again that had been sent; they stay as "
                f"they were sent: {now.same} are the same, {now.timing} differ in timings, "
                f"{now.other} in results" + ("; --restart sends the run anew" * (now.other > 0))
            )


def _tracked(
    run: Followed,
    options: FollowOptions,
    name: str,
    run_id: str,
    predecessor: int | None,
    facts: Mapping[str, object],
) -> TrackedRun:
    condition, seed = facts.get("condition"), facts.get("seed")
    tags = [str(condition)] * (condition is not None) + [f"seed{seed}"] * (seed is not None)
    return TrackedRun(
        folder=run.folder,
        name=name,
        run_id=run_id,
        project=options.project,
        entity=options.entity,
        group=options.group or (str(condition) if condition is not None else None),
        tags=tuple(tags),
        config=facts,
        predecessor=predecessor,
    )


def _is_alive(process: int | None) -> bool:
    """Say whether a process is there; True when none was named."""
    if process is None:
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
