"""What the learning rate is, and what is frozen, at a given update.

Knows the number of an update and the planned total. Refuses to know optimizers and tensors. An
update's number is the only clock: nothing is switched by an event that a resumed run would miss.
"""

from __future__ import annotations

import math

from cupel.errors import ConfigError


def learning_rate(
    update: int, *, lr: float, warmup_steps: int, total_steps: int, min_ratio: float
) -> float:
    """Return the learning rate of an update, counted from 1.

        update <= W: lr · update / W
        after:       lr · (r + (1 - r) · (1 + cos(π · (update - W) / (N - W))) / 2)

    The last update, N, has lr · r; r = 1 keeps lr constant after warm-up.

    >>> learning_rate(5, lr=1.0, warmup_steps=10, total_steps=100, min_ratio=0.1)
    0.5

    Raises:
        ConfigError: the update is outside 1 ... total_steps.
    """
    if not 1 <= update <= total_steps:
        raise ConfigError(
            f"learning_rate: update {update} is outside 1 ... {total_steps}; the schedule and the "
            "training loop must share one total"
        )
    if update <= warmup_steps:
        return lr * update / warmup_steps
    progress = (update - warmup_steps) / (total_steps - warmup_steps)
    return lr * (min_ratio + (1.0 - min_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def is_frozen(update: int, freeze_steps: int) -> bool:
    """Say whether a part that is frozen for its first updates is still frozen in this one.

    >>> [is_frozen(update, 2) for update in (1, 2, 3)]
    [True, True, False]
    """
    return update <= freeze_steps
