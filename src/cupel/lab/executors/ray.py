"""Running a study on a Ray cluster: one task a run, with the CPUs and GPUs it asks for.

Knows what a cluster could ever grant, and what Ray's errors mean for a run.
Refuses to let Ray repeat a run by itself, and to wait for resources that no node has.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from cupel.errors import InfrastructureFailure, UsageError
from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.fleet import Ended, drive
from cupel.lab.executors.options import RayOptions
from cupel.lab.executors.orders import order_of
from cupel.lab.executors.ray_cluster import connected

if TYPE_CHECKING:
    from cupel.lab.executors.ray_node import Shipment

STOP_S = 20.0
CHECK_S = 10.0
NO_NODE_S = 300.0
"""How long runs may wait after the last node that could run them was lost."""


def run_ray(execution: Execution, options: RayOptions, *, at_a_time: int | None) -> None:
    """Execute every due run as a Ray task.

    Raises:
        MissingExtraError: Ray is not installed.
        UsageError: no cluster at the address, no node that could ever run a run, other software
            on a node, or a node that does not see the study folder.
    """
    with connected(options.address) as ray:
        fleet = RayFleet(ray, execution, options)
        fleet.check_resources()
        drive(execution, fleet, at_a_time=at_a_time)


class RayFleet:
    """The tasks that were handed out, by run."""

    def __init__(self, ray: Any, execution: Execution, options: RayOptions) -> None:
        self._ray = ray
        self._execution = execution
        self._options = options
        self._node: Any = importlib.import_module("cupel.lab.executors.ray_node")
        self._tasks: dict[Any, tuple[int, Task]] = {}
        self._sent: dict[int, Shipment] = {}
        self._started: set[int] = set()
        self._task = self._as_task()
        self._board: Any = self._as_board() if options.storage == "returned" else None
        self._check_at = 0.0
        self._fits_at = time.monotonic()

    def check_resources(self) -> None:
        """Refuse what no node could ever grant.

        Raises:
            UsageError: names what a run asks for and what the nodes have.
        """
        if self._fits():
            return
        cpus, gpus = self._options.cpus, self._options.gpus
        nodes = [_share(node) for node in self._nodes()]
        has = "; ".join(f"{c:g} CPUs, {g:g} GPUs" for c, g in sorted(set(nodes), reverse=True))
        raise UsageError(
            f"a run asks for {cpus:g} CPUs and {gpus:g} GPUs, and none of the cluster's "
            f"{len(nodes)} nodes has that (they have: {has or 'nothing'}). Ask for less with "
            "--cpus-per-run and --gpus-per-run, or add a larger node first"
        )

    def hand_out(self, due: Sequence[tuple[int, Task]]) -> None:
        """Submit one task a run; Ray queues what does not fit yet."""
        for number, task in due:
            order = order_of(self._execution, task, executor="ray", threads=self._options.threads)
            if self._board is not None:
                limit = self._options.parcel_limit_bytes
                self._sent[number] = self._node.ship(task.run.path, limit_bytes=limit)
            submitted = self._task.options(name=f"cupel {task.run.path.name}").remote(
                dict(order),
                self._sent.get(number),
                self._board,
                number,
                self._options.parcel_limit_bytes,
            )
            self._tasks[submitted] = (number, task)

    def poll(self, wait_s: float) -> Sequence[Ended]:
        """Return the tasks that ended.

        Raises:
            UsageError: a node refused, because it has other software or sees no study folder.
            InfrastructureFailure: no node that could run what is waiting has been there for long.
        """
        waiting = list(self._tasks)
        if not waiting:
            return []
        ready, _ = self._ray.wait(waiting, num_returns=len(waiting), timeout=wait_s)
        self._check_nodes()
        return [self._ended(each) for each in ready]

    def news(self) -> Mapping[int, Mapping[str, Any] | None] | None:
        """Return the rows on the board; None where the study folder shows them."""
        if self._board is None:
            return None
        rows: dict[int, dict[str, Any] | None] = {}
        with suppress(self._ray.exceptions.RayError):
            rows = self._ray.get(self._board.take.remote(), timeout=CHECK_S)
        self._started |= rows.keys()
        return rows

    def stop(self) -> None:
        """Cancel what waits, end what runs, take its folder home, and give up after a while."""
        if self._board is not None:
            self._board.stop.remote()
        for each, (number, _) in self._tasks.items():
            if self._board is None or number not in self._started:
                self._ray.cancel(each)
        deadline = time.monotonic() + STOP_S
        while self._tasks and time.monotonic() < deadline:
            ready, _ = self._ray.wait(list(self._tasks), timeout=1.0)
            for each in ready:
                with suppress(UsageError):
                    self._ended(each)
        for each in self._tasks:
            self._ray.cancel(each, force=True)
        self._tasks.clear()

    def _ended(self, submitted: Any) -> Ended:
        number, task = self._tasks.pop(submitted)
        self._sent.pop(number, None)
        self._started.discard(number)
        try:
            told, shipment = self._ray.get(submitted)
            if "refused" in told:
                raise UsageError(_refused(told["refused"], self._options))
            if shipment is not None:
                self._node.unpack(
                    shipment.parcel, self._node.fetched(shipment.chunks), task.run.path
                )
            return Ended(number=number, died=told["died"])
        except self._ray.exceptions.RayError as error:
            return Ended(number=number, died=self._lost(task, _why(error)))
        except InfrastructureFailure as error:
            return Ended(number=number, died=self._lost(task, str(error)))

    def _lost(self, task: Task, why: str) -> str:
        """Count an attempt whose folder never came back."""
        if self._board is not None and not task.run.is_complete:
            task.run.start(self._execution.provenance)
        return why

    def _as_task(self) -> Any:
        """Return the remote function, pickled by value: a node without Cupel can still say so."""
        module = sys.modules[__name__]
        pickle = importlib.import_module("ray.cloudpickle")
        pickle.register_pickle_by_value(module)
        share = {"num_cpus": self._options.cpus, "num_gpus": self._options.gpus}
        return self._ray.remote(**share, max_retries=0)(_on_node)

    def _as_board(self) -> Any:
        """Start the board on the node of this process, which no study outlives anyway."""
        strategies = importlib.import_module("ray.util.scheduling_strategies")
        here = strategies.NodeAffinitySchedulingStrategy(
            self._ray.get_runtime_context().get_node_id(), soft=True
        )
        actor = self._ray.remote(self._node.Board)
        return actor.options(num_cpus=0, max_restarts=-1, scheduling_strategy=here).remote()

    def _check_nodes(self) -> None:
        now = time.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + CHECK_S
        if self._fits():
            self._fits_at = now
        elif now - self._fits_at > NO_NODE_S:
            raise InfrastructureFailure(
                f"no node has had {self._options.cpus:g} CPUs and {self._options.gpus:g} GPUs "
                f"for {NO_NODE_S / 60:g} minutes; nothing is lost, run the study again then"
            )

    def _fits(self) -> bool:
        asked = (self._options.cpus, self._options.gpus)
        return any(
            cpus >= asked[0] and gpus >= asked[1] for cpus, gpus in map(_share, self._nodes())
        )

    def _nodes(self) -> list[Mapping[str, Any]]:
        return [node["Resources"] for node in self._ray.nodes() if node["Alive"]]


def _on_node(order: Any, *rest: Any) -> Any:
    """Run an order on whatever node this is."""
    try:
        from cupel.lab.executors.ray_node import execute
    except ImportError as error:
        import socket

        return {"refused": f"node {socket.gethostname()} cannot import Cupel: {error}"}, None
    return execute(order, *rest)


def _share(resources: Mapping[str, Any]) -> tuple[float, float]:
    return float(resources.get("CPU", 0.0)), float(resources.get("GPU", 0.0))


def _refused(reason: str, options: RayOptions) -> str:
    if options.storage == "shared" and "does not see" in reason:
        return f"{reason}. Put the study where all nodes see it, or give --storage returned"
    return reason


def _why(error: Exception) -> str:
    """Say in a line why Ray lost a run."""
    words: Mapping[str, str] = {
        "NodeDiedError": "the run's node was lost",
        "LocalRayletDiedError": "the run's node was lost",
        "WorkerCrashedError": "the run's Ray worker was lost, perhaps with its node",
        "OutOfMemoryError": "Ray ended the run because its node ran out of memory",
        "TaskCancelledError": "the run was cancelled",
        "OwnerDiedError": "the run's node was lost before its folder came back",
    }
    name = type(error).__name__
    return words.get(name, f"Ray: {name}: {_last_line(error)}")


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
