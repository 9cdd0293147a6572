"""Writing down a due run so that another machine can run it, and recognise that it is the same."""

from __future__ import annotations

import os
import sys

from cupel.lab.executors.base import Execution, Task
from cupel.lab.executors.node import Order
from cupel.lab.executors.software import software
from cupel.lab.files import file_sha256


def order_of(execution: Execution, task: Task, *, executor: str, threads: int) -> Order:
    """Return the order for one run; its paths are absolute."""
    recipes, modules = execution.needed()
    return Order(
        executor=executor,
        folder=str(task.run.path.resolve()),
        config_sha256=file_sha256(task.run.path / "config.json"),
        fresh=task.fresh,
        fsync=execution.fsync,
        threads=threads,
        recipes=recipes,
        modules=modules,
        paths=[os.path.abspath(path) for path in sys.path],
        cwd=os.getcwd(),
        provenance=dict(execution.provenance),
        software=dict(software()),
    )
