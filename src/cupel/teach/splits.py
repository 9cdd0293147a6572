"""Which tasks are for what, fixed by the hash of a task's name before anything is labelled.

Knows four shares. Refuses to depend on order, on a process, or on what was labelled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from cupel.errors import DataError

Split = Literal["train", "calibration", "panel", "test"]

SHARES: tuple[tuple[Split, float], ...] = (
    ("train", 0.5),
    ("calibration", 0.1),
    ("panel", 0.2),
    ("test", 0.2),
)
"""train: labels that are trained on; calibration: validation by micro-training; panel: failure
states that every model is evaluated on; test: tasks from the start, retention included."""


def split_of(task: str) -> Split:
    """Return the split of a task, by the first 52 bits of SHA-256 of its name.

    >>> split_of("shop-000000") == split_of("shop-000000")
    True
    """
    share = int(hashlib.sha256(task.encode()).hexdigest()[:13], 16) / 2.0**52
    for name, width in SHARES:
        if share < width:
            return name
        share -= width
    return SHARES[-1][0]


def refuse_leaks(tasks: Iterable[str], allowed: Split | tuple[Split, ...], *, where: str) -> None:
    """Refuse tasks of another split than the allowed ones.

    Raises:
        DataError: names the first such task, its split, and how many there are.
    """
    names = (allowed,) if isinstance(allowed, str) else allowed
    leaked = sorted(task for task in set(tasks) if split_of(task) not in names)
    if leaked:
        raise DataError(
            f"{where}: {len(leaked)} tasks are not of the {' or '.join(names)} split, the first "
            f"{leaked[0]} ({split_of(leaked[0])}); a model would be judged on what it was made "
            "from. Build this file again from the tasks of its split"
        )
