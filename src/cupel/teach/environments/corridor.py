"""The smallest environment: a corridor with a goal, a pit and a sticky door; all answers known.

Knows integers. For checks of the machinery, for `--mock-env`, and as the example to start an
environment of one's own from.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import Step

LENGTH = 6
"""Cells 0 .. LENGTH; the goal is cell LENGTH, the pit is cell -1; nobody leaves either."""


class Corridor:
    """Walk right to the goal; `leap` moves two cells but falls into the pit from even cells of
    odd-numbered tasks. Starts at cell seed % 3."""

    name = "corridor"
    version = "1"

    def __init__(self, level: str = "") -> None:
        if level:
            raise ConfigError(f"corridor: no level '{level}'; leave it empty")
        self.level = level
        self.seed = 0
        self.actions: tuple[str, ...] = ()
        self._cell = 0

    def reset(self, seed: int) -> None:
        """Begin task `seed`."""
        self.seed, self.actions, self._cell = seed, (), seed % 3

    def task(self) -> str:
        """Return the instruction."""
        return f"reach cell {LENGTH} of corridor {self.seed % 2}"

    def observe(self) -> str:
        """Return the cell, or that it is over."""
        return "pit" if self._cell < 0 else f"cell {self._cell}"

    def valid_actions(self) -> tuple[str, ...]:
        """Return the moves; in the pit one can only wait."""
        if self._cell == LENGTH:
            return ()
        if self._cell < 0:
            return ("wait",)
        return ("left", "right", "leap") if self._cell > 0 else ("right", "leap")

    def step(self, action: str) -> Step:
        """Move.

        Raises:
            DataError: the action is not valid here.
        """
        if action not in self.valid_actions():
            raise DataError(
                f"corridor: action '{action}' is not valid at {self.observe()}; "
                f"valid: {', '.join(self.valid_actions()) or 'none, it is over'}"
            )
        self.actions = (*self.actions, action)
        self._cell = self._after(self._cell, action)
        success = self._cell == LENGTH
        return Step(reward=float(success), done=success, success=success)

    def key(self) -> Hashable:
        """Return cell and kind of corridor."""
        return (self.seed % 2, self._cell)

    def copy(self) -> Corridor:
        """Return an independent corridor in the same state."""
        twin = Corridor(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin

    def expert(self) -> str | None:
        """Return the move of a shortest way; None in the pit or at the goal."""
        moves = [action for action in self.valid_actions() if action != "wait"]
        if not moves:
            return None
        return min(moves, key=lambda action: self._distance(self._after(self._cell, action)))

    def optimal_q(self, horizon: int) -> Mapping[str, float]:
        """Return which moves keep the goal within `horizon` steps."""
        return {
            action: float(self._distance(self._after(self._cell, action)) <= horizon - 1)
            for action in self.valid_actions()
        }

    def _after(self, cell: int, action: str) -> int:
        match action:
            case "left":
                return cell - 1
            case "right":
                return cell + 1
            case "leap":
                return -1 if self.seed % 2 and cell % 2 == 0 else min(cell + 2, LENGTH)
        return cell

    def _distance(self, cell: int) -> float:
        """Return the fewest steps from a cell to the goal."""
        if cell < 0:
            return float("inf")
        steps = 0
        while cell != LENGTH:
            leap = self._after(cell, "leap")
            cell = leap if leap > cell else cell + 1
            steps += 1
        return steps


def make(level: str) -> Corridor:
    """Make a corridor."""
    return Corridor(level)
