"""A shop to search, choose and buy in: symbolic, exact, and with purchases that are final.

Knows how the rules become an environment. A wish is one line (`buy a red cotton shirt size m for
at most 30`); a purchase is paid from the wallet and kept, so a wrong one can put success out of
reach while the episode goes on. Refuses to know the catalogue (`shop_catalogue`), the rules
(`shop_rules`) and the reasons of the expert (`shop_expert`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import Step
from cupel.teach.environments.shop_catalogue import (
    LEVELS,
    VERSION,
    VOCABULARY,
    Task,
    make_task,
)
from cupel.teach.environments.shop_rules import (
    State,
    after,
    distance,
    observation,
    start,
    valid_actions,
)

__all__ = ["VOCABULARY", "Shop", "make"]


class Shop:
    """One shopper's way through the shop."""

    __slots__ = ("_state", "_task", "_trail", "level", "seed")

    name = "shop"
    version = VERSION

    def __init__(self, level: str = "") -> None:
        if level not in LEVELS:
            known = ", ".join(f"'{name}'" for name in LEVELS)
            raise ConfigError(f"shop: no level '{level}'; levels: {known}")
        self.level = level
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Begin task `seed`."""
        self.seed = int(seed)
        self._task: Task = make_task(self.level, self.seed)
        self._state: State = start(self._task)
        self._trail: Any = ()

    @property
    def actions(self) -> tuple[str, ...]:
        """What was done since the reset."""
        found, trail = [], self._trail
        while trail:
            trail, action = trail
            found.append(action)
        return tuple(reversed(found))

    @property
    def state(self) -> State:
        """Where the shopper is; the same as `key()`."""
        return self._state

    @property
    def wares(self) -> Task:
        """The catalogue of this task."""
        return self._task

    def task(self) -> str:
        """Return the wish."""
        return self._task.wish.text

    def observe(self) -> str:
        """Return the page, the wallet and the score."""
        return observation(self._task, self._state)

    def valid_actions(self) -> tuple[str, ...]:
        """Return what can be done on this page."""
        return valid_actions(self._task, self._state)

    def step(self, action: str) -> Step:
        """Act.

        Raises:
            DataError: the action is not on this page.
        """
        if action not in valid_actions(self._task, self._state):
            allowed = ", ".join(f"'{name}'" for name in self.valid_actions())
            raise DataError(
                f"shop task {self.seed}: action '{action}' is not valid at '{self.observe()}'; "
                f"valid: {allowed or 'none, the episode is over'}"
            )
        self._state, brought = after(self._task, self._state, action)
        self._trail = (self._trail, action)
        return brought

    def key(self) -> State:
        """Return the whole state."""
        return self._state

    def copy(self) -> Shop:
        """Return an independent shopper in the same state."""
        twin = Shop.__new__(Shop)
        twin.level, twin.seed = self.level, self.seed
        twin._task, twin._state, twin._trail = self._task, self._state, self._trail
        return twin

    def expert(self) -> str | None:
        """Return the first action of a shortest way to success; None in a dead end or at the end.

        Of equally short ways it takes the one whose action is listed first, and never buys
        anything wrong.
        """
        left = distance(self._task, self._state)
        if left in (0, float("inf")):
            return None
        return next(
            action
            for action in self.valid_actions()
            if self._left_after(action) == left - 1 and not self._spends(action, left)
        )

    def optimal_q(self, horizon: int) -> Mapping[str, float]:
        """Return for each valid action whether success is within reach in `horizon` steps."""
        return {
            action: float(1 + self._left_after(action) <= horizon)
            for action in self.valid_actions()
        }

    def _left_after(self, action: str) -> float:
        return distance(self._task, after(self._task, self._state, action)[0])

    def _spends(self, action: str, left: float) -> bool:
        """Tell a purchase that is not the last step."""
        return action == "buy now" and left > 1


def make(level: str) -> Shop:
    """Make a shop.

    Raises:
        ConfigError: there is no such level.
    """
    return Shop(level)
