"""The side that trains next: by the work that is left, the same for the same update."""

from __future__ import annotations

from collections import Counter

from cupel.arc.sides import choose_side, live_work
from cupel.lab.randomness import Randomness


class Position:
    """Two sides of very different size."""

    sides: tuple[int, ...] = (10, 30)

    def __init__(self) -> None:
        self.epoch_size = {10: 30, 30: 10}
        self.taken = {10: 0, 30: 0}

    def progress(self, side: int) -> float:
        return self.taken[side] / self.epoch_size[side]


def test_live_work_is_what_is_owed_to_the_common_pass() -> None:
    position = Position()
    assert live_work(position) == {10: 30.0, 30: 10.0}
    position.taken = {10: 15, 30: 12}
    assert live_work(position) == {10: 15.0, 30: 0.0}


def test_probability_is_proportional_to_live_work() -> None:
    position = Position()
    drawn = Counter(choose_side(position, Randomness(0), update) for update in range(4000))
    assert abs(drawn[10] / 4000 - 0.75) < 0.03


def test_no_side_runs_ahead_of_the_others_by_more_than_a_pass_and_a_batch() -> None:
    position, randomness = Position(), Randomness(1)
    for update in range(2000):
        position.taken[choose_side(position, randomness, update)] += 3
        assert abs(position.progress(10) - position.progress(30)) <= 1 + 3 / 10


def test_the_choice_is_a_function_of_seed_update_and_position() -> None:
    position = Position()
    one = [choose_side(position, Randomness(3), update) for update in range(50)]
    assert one == [choose_side(position, Randomness(3), update) for update in range(50)]
