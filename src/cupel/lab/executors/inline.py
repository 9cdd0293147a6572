"""Running a study in this very process, one run after the other: for tests, toys and debuggers.

Knows the order. Refuses concurrency and isolation: a recipe that kills its process kills the
study, which can then be resumed.
"""

from __future__ import annotations

from cupel.lab.executors.base import Execution
from cupel.lab.executors.tail import Tail
from cupel.lab.recipe import Slot
from cupel.lab.worker import execute_run


def run_inline(execution: Execution, slot: Slot) -> None:
    """Execute every due run here and now."""
    for task in execution.tasks:
        again = True
        while again:
            execution.begin(task)
            tail = Tail(task.run)
            status = execute_run(
                task.run.path,
                slot,
                provenance=execution.provenance,
                fresh=task.fresh,
                fsync=execution.fsync,
            )
            row = tail.last_row()
            if row is not None:
                execution.tell(task, status, row=row)
            again = execution.settle(task)
