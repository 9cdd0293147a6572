"""Running a study on this machine, several runs at a time, each in a process of its own.

Knows slots, retries and how a process can end. Refuses to lose a run: every one that was started
is read to its end, and one that died is a failure with a reason.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.server import ENDED_BY_ITSELF, ForkServer, how_it_died
from cupel.lab.executors.signals import terminate_is_interrupt
from cupel.lab.executors.tail import Tail
from cupel.lab.recipe import Slot

POLL_S = 0.2


def run_processes(
    execution: Execution, *, slots: Sequence[Slot] | None, workers: int | None
) -> None:
    """Execute every due run, at most one per slot at a time."""
    shares = _shares(slots, workers, len(execution.tasks))
    pool = _Pool(execution, shares)
    with terminate_is_interrupt():
        try:
            pool.work()
        finally:
            pool.close()


def cpu_count() -> int:
    """Return the number of CPU cores this process may use."""
    with suppress(AttributeError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _shares(slots: Sequence[Slot] | None, workers: int | None, tasks: int) -> list[Slot]:
    kinds = list(slots) if slots else [Slot()]
    count = workers or (len(kinds) if slots else cpu_count())
    return [kinds[index % len(kinds)] for index in range(max(1, min(count, tasks)))]


class _Pool:
    """The running children, by task number, and the fork server that owns them."""

    def __init__(self, execution: Execution, slots: Sequence[Slot]) -> None:
        self._execution = execution
        self._pending = deque(enumerate(execution.tasks))
        self._free = deque(slots)
        self._threads = max(slot.threads for slot in slots)
        self._running: dict[int, tuple[Task, Slot, Tail]] = {}
        self._pids: dict[int, int] = {}
        self._server: ForkServer | None = None

    def work(self) -> None:
        """Start, watch and settle until nothing is due."""
        while self._pending or self._running:
            while self._pending and self._free:
                self._start(*self._pending.popleft())
            if self._server is None:
                continue
            messages = self._server.messages(POLL_S)
            if messages is None:
                self._lose_server()
                continue
            for message in messages:
                if "pid" in message:
                    self._pids[message["task"]] = message["pid"]
                else:
                    self._ended(message["task"], message["exit"])
            self._tell_steps()

    def close(self) -> None:
        """End whatever still runs, and leave every run resumable."""
        if self._server is not None:
            self._server.end()
        for task, _, _ in self._running.values():
            if task.run.is_complete:
                task.run.mark_done()
            elif task.run.state()["status"] == "running":
                task.run.release("interrupted; run the study again to continue")
            self._execution.record(task)
        self._running.clear()

    def _start(self, number: int, task: Task) -> None:
        slot = self._free.popleft()
        self._running[number] = (task, slot, Tail(task.run))
        self._execution.begin(task)
        if self._server is None:
            recipes, modules = self._execution.needed()
            self._server = ForkServer(
                log=self._execution.study.path / "executor.log",
                recipes=recipes,
                modules=modules,
                provenance=self._execution.provenance,
                threads=self._threads,
            )
        environment, device = _visible_device(slot.device)
        self._server.order(
            {
                "task": number,
                "folder": str(task.run.path.resolve()),
                "device": device,
                "threads": slot.threads,
                "environment": environment,
                "fresh": task.fresh,
                "fsync": self._execution.fsync,
            }
        )

    def _ended(self, number: int, code: int) -> None:
        task, slot, tail = self._running.pop(number)
        self._pids.pop(number, None)
        self._free.append(slot)
        if code not in ENDED_BY_ITSELF:
            if task.run.is_complete:
                task.run.mark_done()
            else:
                task.run.fail("infrastructure", how_it_died(code, task.run.path))
        row = tail.last_row()
        if row is not None:
            self._execution.tell(task, "running", row=row)
        if self._execution.settle(task):
            self._pending.appendleft((number, task))

    def _lose_server(self) -> None:
        """The fork server died: end its children, each of them a failure to be tried again."""
        if self._server is not None:
            self._server.end()
            self._server = None
        for number in list(self._running):
            if number in self._pids:
                with suppress(ProcessLookupError):
                    os.kill(self._pids[number], signal.SIGKILL)
            self._ended(number, -int(signal.SIGKILL))

    def _tell_steps(self) -> None:
        for task, _, tail in self._running.values():
            row = tail.last_row()
            if row is not None:
                self._execution.tell(task, "running", row=row)


def _visible_device(device: str) -> tuple[dict[str, str], str]:
    """Return the environment that shows a run only its own accelerator, and its name there."""
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index:
        return {}, device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = [name for name in visible.split(",") if name]
    name = names[int(index)] if int(index) < len(names) else index
    return {"CUDA_VISIBLE_DEVICES": name}, "cuda"
