"""Running a study on machines that a scheduler grants: hand out, follow, settle, hand out again.

Knows the study's books: what was begun, what a run wrote last, and whose fault an end was. The
only granter of runs is this loop; a scheduler never repeats one by itself. Refuses to know which
scheduler it is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.signals import terminate_is_interrupt
from cupel.lab.executors.tail import Tail

POLL_S = 0.2
READS_PER_S = 500.0
"""Run folders looked at a second, over all runs: a shared file system has other users."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A run that a scheduler is done with; `died` says why when the run itself could not."""

    number: int
    died: str | None


class Fleet(Protocol):
    """A scheduler, as the loop sees it."""

    def hand_out(self, due: Sequence[tuple[int, Task]]) -> None:
        """Hand out runs by number; raises UsageError when they could never run."""
        ...

    def poll(self, wait_s: float) -> Sequence[Ended]:
        """Return what has ended, after at most `wait_s`."""
        ...

    def news(self) -> Mapping[int, Mapping[str, Any] | None] | None:
        """Return rows by run, None for a start; None when the run folders tell it."""
        ...

    def stop(self) -> None:
        """End everything that was handed out, and bring home what can be brought home."""
        ...


@dataclass(slots=True, kw_only=True)
class Flight:
    """A run that was handed out."""

    task: Task
    attempts: int
    tail: Tail
    begun: bool = False


def drive(execution: Execution, fleet: Fleet, *, at_a_time: int | None) -> None:
    """Hand out every due run, follow it to its end, and try it again where that is right.

    Args:
        at_a_time: runs that are handed out at once; None for all, the scheduler has a queue.

    Raises:
        KeyboardInterrupt: after everything was stopped and every run left resumable.
    """
    loop = _Loop(execution, fleet, at_a_time)
    with terminate_is_interrupt():
        try:
            loop.work()
        finally:
            loop.close()


class _Loop:
    def __init__(self, execution: Execution, fleet: Fleet, at_a_time: int | None) -> None:
        self._execution = execution
        self._fleet = fleet
        self._most = at_a_time
        self._due = deque(enumerate(execution.tasks))
        self._flights: dict[int, Flight] = {}
        self._look_at = 0.0

    def work(self) -> None:
        """Hand out, watch and settle until nothing is due."""
        while self._due or self._flights:
            self._hand_out()
            for ended in self._fleet.poll(POLL_S):
                self._settle(ended)
            self._tell()

    def close(self) -> None:
        """Stop the fleet, and leave every run resumable."""
        if not self._flights:
            return
        self._fleet.stop()
        for flight in self._flights.values():
            run = flight.task.run
            if run.is_complete:
                run.mark_done()
            elif run.state()["status"] == "running":
                run.release("interrupted; run the study again to continue")
            self._execution.record(flight.task)
        self._flights.clear()

    def _hand_out(self) -> None:
        room = len(self._due) if self._most is None else self._most - len(self._flights)
        batch = [self._due.popleft() for _ in range(min(room, len(self._due)))]
        for number, task in batch:
            attempts = int(task.run.state()["attempts"])
            self._flights[number] = Flight(task=task, attempts=attempts, tail=Tail(task.run))
        if batch:
            self._fleet.hand_out(batch)

    def _settle(self, ended: Ended) -> None:
        flight = self._flights.pop(ended.number)
        task = flight.task
        if task.run.is_complete:
            task.run.mark_done()
        elif ended.died is not None:
            state = task.run.state()
            told = state["status"] == "failed" and state["attempts"] > flight.attempts
            if not told:
                task.run.fail("infrastructure", ended.died)
        self._begin(flight)
        row = flight.tail.last_row()
        if row is not None:
            self._execution.tell(task, "running", row=row)
        if self._execution.settle(task):
            self._due.appendleft((ended.number, task))

    def _tell(self) -> None:
        news = self._fleet.news()
        if news is not None:
            for number, row in news.items():
                if number in self._flights:
                    self._tell_one(self._flights[number], row)
            return
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + len(self._flights) / READS_PER_S
        for flight in self._flights.values():
            if flight.begun or self._has_begun(flight):
                self._tell_one(flight, flight.tail.last_row())

    def _tell_one(self, flight: Flight, row: Mapping[str, Any] | None) -> None:
        self._begin(flight)
        if row is not None:
            self._execution.tell(flight.task, "running", row=row)

    def _has_begun(self, flight: Flight) -> bool:
        return bool(flight.task.run.state()["attempts"] > flight.attempts)

    def _begin(self, flight: Flight) -> None:
        if not flight.begun:
            flight.begun = True
            self._execution.begin(flight.task)
