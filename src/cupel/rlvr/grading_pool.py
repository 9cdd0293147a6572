"""A few grader processes with a deadline an item, killed and replaced when one does not answer.

Knows processes, pipes and clocks. Refuses to know what is compared. The deadline is processor time,
so that a busy machine changes no verdict; a second limit by the clock catches what waits for
something else. No item can hang the caller, and no worker outlives it for long: a worker ends when
its input does.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cupel.errors import ConfigError, InfrastructureFailure

WORKERS = 2
"""Processes a pool holds at most. They are no setting: how many there are changes no verdict."""

CLOCK_FACTOR = 6.0
"""Seconds by the clock an item may take, a second of its deadline."""

START_LIMIT_S = 120.0
"""Seconds by the clock a worker may take to start; counted apart from any deadline."""

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from cupel.rlvr.grading_worker import main; main()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of one item.

    Attributes:
        outcome: correct, incorrect, unparsable, timeout or error.
        reason: one clause; empty where there is nothing to say.
    """

    outcome: str
    reason: str = ""


class WorkerPool:
    """Compares pairs of texts in worker processes; started when first needed."""

    def __init__(self, task: str, *, deadline_s: float, workers: int = WORKERS) -> None:
        """Make a pool.

        Args:
            task: what a worker loads; see `grading_worker.load`.
            deadline_s: processor seconds an item may take.
        """
        self._task = task
        self._deadline_s = deadline_s
        self._limit = workers
        self._workers: list[_Worker] = []
        self.started = 0
        """Workers started so far; more than the pool holds means that some were replaced."""
        self._finalizer = weakref.finalize(self, _close_all, self._workers, os.getpid())

    def compare(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Compare every pair (text, reference); the answers stand in the order of the pairs.

        Raises:
            ConfigError: the task cannot be loaded.
            InfrastructureFailure: a worker does not start.
        """
        answers: list[Answer | None] = [None] * len(pairs)
        waiting = list(range(len(pairs)))[::-1]
        try:
            with selectors.DefaultSelector() as selector:
                self._fill(selector, pairs, waiting)
                while selector.get_map():
                    self._collect(selector, answers)
                    self._fill(selector, pairs, waiting)
        except BaseException:
            self.close()  # a late answer must not be taken for one to the next pair
            raise
        assert all(answer is not None for answer in answers)
        return [answer for answer in answers if answer is not None]

    def close(self) -> None:
        """End all workers; the pool starts new ones when it is used again."""
        _close_all(self._workers, os.getpid())

    def _fill(
        self, selector: selectors.BaseSelector, pairs: Sequence[tuple[str, str]], waiting: list[int]
    ) -> None:
        while waiting:
            worker = next((one for one in self._workers if one.item is None), None)
            if worker is None and len(self._workers) < self._limit:
                worker = _Worker(self._task, self._deadline_s)
                self._workers.append(worker)
                self.started += 1
            if worker is None:
                return
            item = waiting.pop()
            worker.give(item, pairs[item])
            selector.register(worker.output, selectors.EVENT_READ, worker)

    def _collect(self, selector: selectors.BaseSelector, answers: list[Answer | None]) -> None:
        """Wait for the next answer or the next limit, and take in what there is."""
        busy: list[_Worker] = [key.data for key in selector.get_map().values()]
        nearest = min(worker.limit for worker in busy)
        ready = selector.select(timeout=max(0.0, nearest - time.monotonic()))
        for worker in [key.data for key, _ in ready]:
            self._take(selector, worker, worker.read(), answers)
        for worker in busy:
            if worker.item is not None and time.monotonic() >= worker.limit:
                self._take(selector, worker, worker.overdue(), answers)

    def _take(
        self,
        selector: selectors.BaseSelector,
        worker: _Worker,
        answer: Answer | None,
        answers: list[Answer | None],
    ) -> None:
        if answer is None:
            return
        assert worker.item is not None
        answers[worker.item] = answer
        worker.item = None
        selector.unregister(worker.output)
        if worker.process.poll() is not None:
            worker.close()
            self._workers.remove(worker)


class _Worker:
    """One process: what it works on, until when, and the bytes it has sent so far."""

    def __init__(self, task: str, deadline_s: float) -> None:
        self.item: int | None = None
        self.limit = float("inf")
        self._deadline_s = deadline_s
        self._received = b""
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # sums over sets follow the hash salt; Ctrl-C is for the caller, who closes the input
            env={**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.fileno()
        self._start(task)

    def give(self, item: int, pair: tuple[str, str]) -> None:
        """Send a pair; the clock starts."""
        self.item = item
        self.limit = time.monotonic() + CLOCK_FACTOR * self._deadline_s
        self._send(list(pair))

    def read(self) -> Answer | None:
        """Take in what has arrived: an answer, the worker's death, or not yet enough."""
        data = os.read(self.output, 1 << 16)
        if not data:
            return self._death()
        self._received += data
        line, separator, rest = self._received.partition(b"\n")
        if not separator:
            return None
        self._received = rest
        return Answer(**json.loads(line))

    def overdue(self) -> Answer:
        """End a worker that is past the limit by the clock."""
        self.process.kill()
        self.process.wait()
        seconds = CLOCK_FACTOR * self._deadline_s
        return Answer(outcome="timeout", reason=f"no verdict within {seconds:g} s by the clock")

    def close(self) -> None:
        """End the process and release its pipes."""
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # bytes for a worker that is gone
        self.process.wait()

    def _death(self) -> Answer:
        code = self.process.wait()
        if code == -signal.SIGPROF:
            reason = f"no verdict within {self._deadline_s:g} s of processor time"
            return Answer(outcome="timeout", reason=reason)
        return Answer(outcome="error", reason=f"the grader's process died (exit code {code})")

    def _send(self, message: Any) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # its death is read where its answer would be

    def _start(self, task: str) -> None:
        """Wait until the worker has loaded its task."""
        self._send({"task": task, "deadline_s": self._deadline_s})
        until = time.monotonic() + START_LIMIT_S
        with selectors.DefaultSelector() as selector:
            selector.register(self.output, selectors.EVENT_READ)
            while b"\n" not in self._received:
                arrived = selector.select(timeout=max(0.0, until - time.monotonic()))
                data = os.read(self.output, 1 << 16) if arrived else b""
                if not data:
                    self.close()
                    raise InfrastructureFailure(
                        f"grading: the process of grader '{task}' did not start within "
                        f"{START_LIMIT_S:g} s (exit code {self.process.returncode})"
                    )
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        greeting = json.loads(line)
        if "failed" in greeting:
            self.close()
            raise ConfigError(
                f"grading: the grader '{task}' cannot be loaded: {greeting['failed']}"
            )


def _close_all(workers: list[_Worker], process: int) -> None:
    """Close the workers, in the process that started them and nowhere else."""
    if os.getpid() == process:
        for worker in workers:
            worker.close()
        workers.clear()
