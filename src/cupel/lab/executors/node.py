"""What happens on the machine that was given a run: check it, fork the run, hear how it ended.

Knows an order and the fork server of this process. Refuses to know which scheduler gave the
order, and to run what it cannot run alike: other software or an unseen folder is sent back.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypedDict

from cupel.lab import leases
from cupel.lab.executors.server import ENDED_BY_ITSELF, ForkServer, how_it_died
from cupel.lab.executors.software import differences, software
from cupel.lab.files import file_sha256
from cupel.lab.provenance import capture

POLL_S = 0.2
WAIT_S = leases.LEASE_S + 30.0
"""How long a run waits for an earlier attempt of itself that is still dying elsewhere."""
_OF_THE_NODE = ("python", "os", "cpu", "cpu_count", "torch", "packages", "environment")

Report = Callable[[], bool]
"""Called several times a second while a run runs; False asks for its end."""


class Order(TypedDict):
    """One run, as it is handed to another machine; plain data, older software can read it.

    Attributes:
        executor: who gives it, in the record.
        folder: the run folder; `config_sha256` proves that it is the same one there.
        paths: where the giver looks for modules; those that exist there are used as well.
        cwd: the giver's working folder, used where it exists.
    """

    executor: str
    folder: str
    config_sha256: str
    fresh: bool
    fsync: bool
    threads: int
    recipes: list[str]
    modules: list[str]
    paths: list[str]
    cwd: str
    provenance: dict[str, Any]
    software: dict[str, str]


class Told(TypedDict, total=False):
    """What comes back: `refused` with a reason, or how the run's process ended.

    `died` is None when the run wrote down itself how it ended.
    """

    refused: str
    died: str | None
    host: str


def refusal(order: Order) -> str | None:
    """Return why this machine cannot run an order alike; None when it can."""
    unlike = differences(order["software"], software())
    if unlike:
        return (
            f"node {socket.gethostname()} has other software: {'; '.join(unlike)}. "
            "Install the same versions on every machine of a study"
        )
    return None


def run_order(
    order: Order,
    *,
    device: str,
    folder: Path | None = None,
    report: Report | None = None,
    deaf_to: Sequence[signal.Signals] = (),
) -> Told:
    """Run one order to its end.

    Args:
        device: accelerator that was granted here.
        folder: the run folder, where it is another one here than the order says.
        deaf_to: signals that are meant for the caller, not for the run.
    """
    reason = refusal(order)
    path = Path(order["folder"]) if folder is None else folder
    host = socket.gethostname()
    if reason is None and not _is_same(path, order["config_sha256"]):
        reason = f"node {host} does not see the run folder {path}"
    if reason is not None:
        return Told(refused=reason, host=host)
    server = _server(order, path, deaf_to)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    note = f"executor {order['executor']}: node {host}, device {device}, {order['threads']} threads"
    try:
        server.order(
            {
                "task": 0,
                "folder": str(path),
                "device": device,
                "threads": order["threads"],
                "environment": {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible},
                "fresh": order["fresh"],
                "fsync": order["fsync"],
                "wait_s": WAIT_S,
                "notes": [note, *_notes(order)],
            }
        )
        code = _follow(server, report)
    except BaseException:
        _end_server()
        raise
    died = None if code in ENDED_BY_ITSELF else how_it_died(code, path)
    return Told(died=died and f"node {host}: {died}", host=host)


def _follow(server: ForkServer, report: Report | None) -> int:
    """Return the exit code of the one run that the server runs."""
    while True:
        messages = server.messages(POLL_S)
        if messages is None:
            _end_server()
            return -int(signal.SIGKILL)
        for message in messages:
            if "exit" in message:
                return int(message["exit"])
        if report is not None and not report():
            _end_server()
            return -int(signal.SIGTERM)


_servers: dict[str, ForkServer] = {}
"""The fork server of this process, by what it was started for: at most one."""


def _server(order: Order, folder: Path, deaf_to: Sequence[signal.Signals]) -> ForkServer:
    key = repr([order[name] for name in ("recipes", "modules", "paths", "cwd", "threads")])
    if key not in _servers:
        _end_server()
        cwd = Path(order["cwd"])
        log = Path(tempfile.gettempdir()) / f"cupel-executor-{os.getpid()}.log"
        _servers[key] = ForkServer(
            log=log,
            recipes=order["recipes"],
            modules=order["modules"],
            provenance=_provenance(order),
            threads=order["threads"],
            paths=_paths(order["paths"]),
            cwd=cwd if cwd.is_dir() else None,
            deaf_to=deaf_to,
        )
    return _servers[key]


def _end_server() -> None:
    while _servers:
        _servers.popitem()[1].end()


def _provenance(order: Order) -> dict[str, Any]:
    """Return what the giver knows of code and command, and what this machine knows of itself."""
    node = capture(argv=())
    return {
        **order["provenance"],
        **{name: node[name] for name in _OF_THE_NODE},
        "node": {"host": socket.gethostname(), "executor": order["executor"]},
    }


def _paths(given: Sequence[str]) -> list[str]:
    """Return this process's module paths, then those of the giver that exist here."""
    own = [os.path.abspath(path) for path in sys.path]
    return [*own, *(path for path in given if path not in own and Path(path).exists())]


def _notes(order: Order) -> list[str]:
    cwd = order["cwd"]
    if Path(cwd).is_dir():
        return []
    return [f"the working folder {cwd} is not on this node; relative paths start elsewhere"]


def _is_same(folder: Path, sha256: str) -> bool:
    try:
        return file_sha256(folder / "config.json") == sha256
    except OSError:
        return False
