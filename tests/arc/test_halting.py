"""The halting rule, its exploration, and slots against a naive loop over samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cupel.arc.halting import Carry, fresh_where, halt, halting_draws, out_of_phase
from cupel.arc.model_config import HaltingConfig
from cupel.lab.randomness import Randomness


def carry_at(steps):
    count = len(steps)
    return Carry(
        z_H=torch.zeros(count, 1, 1),
        z_L=torch.zeros(count, 1, 1),
        steps=torch.tensor(steps, dtype=torch.int32),
        halted=torch.zeros(count, dtype=torch.bool),
    )


def halted_by_hand(steps, q_halt, u0, u1, *, most, prob):
    least = 1
    if u0 < prob and most > 1:
        least = 2 + math.floor(u1 * (most - 1))
    return steps >= most or (q_halt > 0 and steps >= least)


@pytest.mark.parametrize("most", [1, 2, 5, 16])
@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_halting_equals_the_rule_by_hand(most, prob):
    rng = np.random.default_rng(0)
    steps = rng.integers(1, most + 1, 200).tolist()
    q_halt, draws = rng.normal(size=200), rng.random((200, 2))
    config = HaltingConfig(halt_max_steps=most, halt_exploration_prob=prob)
    given = torch.from_numpy(q_halt).float(), torch.from_numpy(draws).float()
    carry = halt(carry_at(steps), *given, config)
    expected = [
        halted_by_hand(s, q, *u, most=most, prob=prob)
        for s, q, u in zip(steps, q_halt, draws, strict=True)
    ]
    assert carry.halted.tolist() == expected


def test_held_back_as_often_as_the_formula_says():
    """P(not halted at age t | it would) = p (M - t) / (M - 1)."""
    config = HaltingConfig(halt_max_steps=5, halt_exploration_prob=0.4)
    draws = halting_draws(Randomness(0), step=0, side=10, slots=40_000)
    for age in range(1, 6):
        carry = halt(carry_at([age] * 40_000), torch.ones(40_000), draws, config)
        held = 1 - carry.halted.float().mean().item()
        assert held == pytest.approx(0.4 * (5 - age) / 4, abs=0.01)


def test_draws_depend_on_seed_step_side_and_slot_alone():
    randomness = Randomness(1)
    eight = halting_draws(randomness, step=3, side=10, slots=8)
    assert torch.equal(eight[4:], halting_draws(randomness, step=3, side=10, slots=4, first_slot=4))
    assert torch.equal(eight, halting_draws(Randomness(1), step=3, side=10, slots=8))
    for other in (
        halting_draws(randomness, step=4, side=10, slots=8),
        halting_draws(randomness, step=3, side=15, slots=8),
        halting_draws(Randomness(2), step=3, side=10, slots=8),
    ):
        assert not torch.equal(eight, other)
    assert len(set(eight.flatten().tolist())) == 16


def test_only_halted_slots_start_afresh():
    halted = torch.tensor([True, False])
    kept, fresh = torch.full((2, 3, 4), float("nan")), torch.ones(2, 3, 4)
    kept[1] = 7.0
    result = fresh_where(halted, fresh, kept)
    assert (result[0] == 1).all()
    assert (result[1] == 7).all()


def test_out_of_phase_a_share_of_the_slots_leaves_at_every_step():
    most, slots = 4, 8
    config = HaltingConfig(halt_max_steps=most, halt_exploration_prob=0.0)
    carry = out_of_phase(carry_at([1] * slots), most=most, first_slot=0, slots=slots)
    assert carry.steps.tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    never, draws = torch.full((slots,), -1.0), torch.zeros(slots, 2)
    left = []
    for _ in range(2 * most):
        carry = halt(carry, never, draws, config)
        left.append(carry.halted.nonzero().flatten().tolist())
        carry = carry_at(torch.where(carry.halted, 1, carry.steps + 1).tolist())
    assert left == 2 * [[6, 7], [4, 5], [2, 3], [0, 1]]


def test_ranks_are_out_of_phase_as_one_process_is():
    whole = out_of_phase(carry_at([1] * 6), most=3, first_slot=0, slots=6)
    parts = [out_of_phase(carry_at([1] * 3), most=3, first_slot=at, slots=6) for at in (0, 3)]
    assert torch.cat([part.steps for part in parts]).tolist() == whole.steps.tolist()
