"""A small process that imports a recipe once and forks a child for every run.

Knows how to fork, to reap and to end its children. Refuses to decide anything: it starts what it
is told to start, and says how each child ended. It holds no threads, so a fork is safe, and every
run begins with warm imports and fresh memory.

One JSON object a line goes each way. In: first `{"recipes", "modules", "provenance"}`, then
`{"task", "folder", "device", "threads", "environment", "fresh", "fsync"}` and perhaps
`"wait_s", "notes"` for every start. Out: `{"task", "pid"}` when a child is started and
`{"task", "exit"}` when it ended, negative for a signal. When its input is closed it ends its
children and itself.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cupel.lab.recipe import Slot
from cupel.lab.registry import load_recipe
from cupel.lab.worker import CLAIM_WAIT_S, execute_run

GRACE_S = 2.0
LOG = "log.txt"
EXIT_DONE, EXIT_FAILED, EXIT_BROKEN = 0, 3, 70


class _Server:
    def __init__(self, source: int, sink: int) -> None:
        self._source = source
        self._sink = sink
        self._children: dict[int, int] = {}
        self._provenance: Mapping[str, Any] = {}
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)

    def serve(self) -> None:
        """Start children until the input ends."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        selector = selectors.DefaultSelector()
        selector.register(self._source, selectors.EVENT_READ)
        selector.register(self._woken, selectors.EVENT_READ)
        buffer = b""
        while True:
            for key, _ in selector.select():
                if key.fd == self._woken:
                    os.read(self._woken, 4096)
                    self._reap()
                    continue
                data = os.read(self._source, 1 << 16)
                if not data:
                    self._end_children()
                    return
                *lines, buffer = (buffer + data).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def _obey(self, order: Mapping[str, Any]) -> None:
        if "recipes" in order:
            self._provenance = order["provenance"]
            _import_ahead(order["recipes"], order["modules"])
            return
        pid = os.fork()
        if pid == 0:
            self._become_run(order)
        self._children[pid] = order["task"]
        self._say({"task": order["task"], "pid": pid})

    def _become_run(self, order: Mapping[str, Any]) -> NoReturn:
        """Turn this fresh child into a run; never return into the server's loop."""
        code = EXIT_BROKEN
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for descriptor in (self._source, self._sink, self._woken, self._wake):
                os.close(descriptor)
            code = _run(order, self._provenance)
        except BaseException:  # noqa: BLE001 - the boundary of the process
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                task = self._children.pop(pid)
                self._say({"task": task, "exit": os.waitstatus_to_exitcode(status)})

    def _end_children(self) -> None:
        deadline = time.monotonic() + GRACE_S
        _send(self._children, signal.SIGTERM)
        while self._children and time.monotonic() < deadline:
            time.sleep(0.01)
            self._reap()
        _send(self._children, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)

    def _say(self, message: Mapping[str, Any]) -> None:
        try:
            os.write(self._sink, (json.dumps(message) + "\n").encode())
        except BrokenPipeError:
            return  # the parent is gone; the closed input will end this process


def serve(source: int, sink: int) -> None:
    """Serve until the input pipe `source` is closed; answers go to the pipe `sink`."""
    _Server(source, sink).serve()


def _import_ahead(recipes: list[str], modules: list[str]) -> None:
    """Import what the runs will need; what fails here fails again, and is told, in the run."""
    for load, names in ((load_recipe, recipes), (importlib.import_module, modules)):
        for name in names:
            try:
                load(name)
            except Exception:  # noqa: BLE001 - a plug-in may raise anything on import
                traceback.print_exc()
    gc.freeze()


def _run(order: Mapping[str, Any], provenance: Mapping[str, Any]) -> int:
    folder = Path(order["folder"])
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.environ.update(order["environment"])
    status = execute_run(
        folder,
        Slot(device=order["device"], threads=order["threads"]),
        provenance=provenance,
        fresh=order["fresh"],
        fsync=order["fsync"],
        guardian=os.getppid(),
        wait_s=order.get("wait_s", CLAIM_WAIT_S),
        notes=order.get("notes", ()),
    )
    return EXIT_DONE if status == "done" else EXIT_FAILED


def _send(children: Mapping[int, int], number: signal.Signals) -> None:
    for pid in children:
        os.kill(pid, number)
