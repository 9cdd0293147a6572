"""The contract check passes what keeps the contract, and names each breach."""

from __future__ import annotations

import sys
from copy import copy
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import pytest

from cupel.errors import DataError, UsageError
from cupel.teach.environments import corridor, shop
from cupel.teach.environments.base import Step
from cupel.teach.environments.corridor import Corridor
from cupel.testing import ContractViolation, check_environment


def test_corridor_keeps_the_contract_in_a_thousand_states() -> None:
    contract = check_environment(partial(corridor.make, ""), seeds=range(6), states=1000, steps=8)
    assert contract.states == contract.keys == contract.values == 1000
    assert contract.dead_ends > 0
    assert contract.successes == contract.ended > 0


@pytest.mark.parametrize("level", ["", "easy", "hard"])
def test_shop_keeps_the_contract(level: str) -> None:
    states = 300 if level else 1000
    contract = check_environment(
        partial(shop.make, level), seeds=range(100), states=states, processes=1 if level else 2
    )
    assert contract.states == contract.keys == contract.values == states
    assert contract.distinct > states / 3
    assert contract.dead_ends > 0


class _Broken(Corridor):
    """A corridor whose copies are of its own kind."""

    def copy(self) -> Self:
        return copy(self)


class _Repeats(_Broken):
    def valid_actions(self) -> tuple[str, ...]:
        actions = super().valid_actions()
        return actions and (*actions, actions[0])


class _Runs(_Broken):
    """Never says that it is over."""

    def step(self, action: str) -> Step:
        return Step(reward=super().step(action).reward, done=False, success=False)


class _Stumbles(_Broken):
    """Moves when it is looked at."""

    def observe(self) -> str:
        if self._cell == 2:
            self._cell = 1
        return super().observe()


class _Counts(_Broken):
    """Shows what its key does not hold."""

    def observe(self) -> str:
        return f"{super().observe()} after {len(self.actions)} steps"


class _Tires(_Broken):
    """Does what its key does not decide."""

    def step(self, action: str) -> Step:
        tired = len(self.actions) > 3
        brought = super().step(action)
        if tired and self._cell == 3:
            self._cell = 2
        return brought


class _Tolerates(_Broken):
    """Takes an action that is not valid for `right`."""

    def step(self, action: str) -> Step:
        valid = self.valid_actions()
        return super().step(valid[-1] if valid and action not in valid else action)


class _Slips(_Broken):
    """Refuses, but moves."""

    def step(self, action: str) -> Step:
        try:
            return super().step(action)
        except DataError:
            self._cell = max(0, self._cell - 1)
            raise


class _Crashes(_Broken):
    def step(self, action: str) -> Step:
        if action not in self.valid_actions():
            raise KeyError(action)
        return super().step(action)


class _Shares(_Broken):
    def copy(self) -> Self:
        return self


class _Dices(_Broken):
    """Leaves the rules at random."""

    _rng = np.random.default_rng(5)

    def step(self, action: str) -> Step:
        brought = super().step(action)
        if self._cell == 3 and self._rng.random() < 0.5:
            self._cell = 2
        return brought


class _Forgets(_Broken):
    """Does not record what was done."""

    def step(self, action: str) -> Step:
        brought = super().step(action)
        self.actions = ()
        return brought


class _Lists(_Broken):
    def key(self) -> list[int]:
        return [self.seed % 2, self._cell]


class _Hopes(_Broken):
    """Values a leap into the pit."""

    def optimal_q(self, horizon: int) -> dict[str, float]:
        return dict.fromkeys(self.valid_actions(), 1.0)


class _Despairs(_Broken):
    """Its expert gives up though the goal is within reach."""

    def expert(self) -> str | None:
        return None if self._cell == 4 else super().expert()


class _Invents(_Broken):
    def expert(self) -> str | None:
        return "fly"


class _Drifts(_Broken):
    """Starts elsewhere every time."""

    _resets = 0

    def reset(self, seed: int) -> None:
        super().reset(seed)
        self._resets += 1
        self._cell = self._resets % 3


class _Half(_Broken):
    version = None


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (_Repeats, "distinct"),
        (_Runs, "not over and there are no actions"),
        (_Stumbles, "looking changes"),
        (_Counts, "one key, two views"),
        (_Tires, "one key, two outcomes"),
        (_Tolerates, "was accepted"),
        (_Slips, "changed the state"),
        (_Crashes, "must raise DataError; it raised KeyError"),
        (_Shares, "of a copy changed the original"),
        (_Dices, "two copies|two outcomes|leads elsewhere|does not restore"),
        (_Forgets, "`actions` does not end"),
        (_Lists, "cannot be hashed"),
        (_Hopes, "one step ahead it is 0.0"),
        (_Despairs, "the expert says 'None'"),
        (_Invents, "'fly' is not valid"),
        (_Drifts, "reset does not lead to the same start"),
        (_Half, "'version' must be text"),
    ],
)
def test_each_breach_is_found(broken: type[Corridor], words: str) -> None:
    with pytest.raises(ContractViolation, match=words):
        check_environment(broken, seeds=range(6), states=200, steps=8, processes=0)


SALTED_VIEW = """
    def observe(self):
        return f"{super().observe()} {hash(str(self.key())) % 1000}"
"""
SALTED_EXPERT = """
    def expert(self):
        both = {"right", "leap"} & set(self.valid_actions())
        return next(iter(both), None) if self.seed % 2 == 0 else super().expert()
    def optimal_q(self, horizon):
        return None
"""


@pytest.mark.parametrize("method", [SALTED_VIEW, SALTED_EXPERT])
def test_a_salted_hash_is_found(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "salted_corridor.py").write_text(
        "from copy import copy\n"
        "from cupel.teach.environments.corridor import Corridor\n"
        "class Salted(Corridor):\n"
        "    def copy(self):\n"
        "        return copy(self)\n" + method
    )
    monkeypatch.syspath_prepend(tmp_path)
    from salted_corridor import Salted  # type: ignore[import-not-found]

    try:
        with pytest.raises(ContractViolation, match="in another process"):
            check_environment(Salted, seeds=range(6), states=20, steps=8, processes=5)
    finally:
        del sys.modules["salted_corridor"]


def test_a_maker_that_cannot_travel_is_told_so() -> None:
    with pytest.raises(UsageError, match="processes=0"):
        check_environment(lambda: corridor.make(""), states=5)


def test_the_message_says_where() -> None:
    with pytest.raises(ContractViolation, match=r"^corridor, task \d, after \['?.*\]: "):
        check_environment(_Hopes, states=50, processes=0)
