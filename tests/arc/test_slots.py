"""Slots: replaced exactly where they halted, labels always those of the slot's own item."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cupel.arc.grids import Pair, Puzzle
from cupel.arc.halting import halt, halting_draws
from cupel.arc.items import ItemConfig, ItemStream
from cupel.arc.losses import IGNORE, sequence_losses
from cupel.arc.model import ARCModel
from cupel.arc.model_config import CoreConfig, HaltingConfig, ModelConfig
from cupel.arc.slots import SlotPool, collate
from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness

SMALL = CoreConfig(hidden_size=16, num_heads=2, n_context=3, H_cycles=1, L_cycles=1)


class Counting:
    """Hands out item 0, 1, 2, ... and remembers how many it was asked for."""

    def __init__(self, make_item):
        self.make_item = make_item
        self.given = 0
        self.asked = []

    def take(self, n, side):
        self.asked.append(n)
        items = [self.make_item(self.given + i, side) for i in range(n)]
        self.given += n
        return items


def restless_model(make_item, seed=0):
    """A model whose halt head says yes to half of the items."""
    model = ARCModel(ModelConfig(core=SMALL), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model.core.q_head.weight.normal_(generator=torch.Generator().manual_seed(seed + 1))
        model.core.q_head.bias.zero_()
        q_halt = model(collate([make_item(100 + n) for n in range(15)], 4)).q_halt
        model.core.q_head.bias[0] = -q_halt.median()
    return model


def test_a_batch_holds_each_items_own_rows(make_item):
    items = [make_item(n) for n in range(4)]
    batch = collate(items, 4)
    assert batch.demo_slot.tolist() == [0, 1, 1, 2, 2, 2, 3]
    assert batch.pair_tokens.shape == (7, 2, 16)
    assert batch.demo_pair.tolist() == list(range(7))
    assert batch.active is None
    for slot, item in enumerate(items):
        rows = batch.pair_tokens[batch.demo_pair[batch.demo_slot == slot]]
        assert np.array_equal(rows[:, 0], item.demo_inputs)
        assert np.array_equal(rows[:, 1], item.demo_outputs)
        assert np.array_equal(batch.query[slot], item.query)
        assert np.array_equal(batch.label[slot], item.label)
    assert batch.puzzle_ids.tolist() == [0, 1, 2, 3]


def test_queries_of_one_task_share_the_pairs_they_show():
    """Leave-one-out over five pairs, 20 rows: 5 pairs an epoch, and another augmentation's 5."""
    rng = np.random.default_rng(0)
    grids = [rng.integers(0, 10, (3, 4)).astype(np.uint8) for _ in range(10)]
    shown = tuple(Pair(input=grids[n], output=grids[n + 5]) for n in range(5))
    task = Puzzle(id="five", demos=shown[:4], tests=shown[4:])
    size, config = 5, ItemConfig(sides=(6,), together=True, subset_prob=0.0)
    items = ItemStream([task], seed=0, config=config).take(2 * size, 6)
    one, both = collate(items[:size], 6), collate(items, 6)
    assert one.demo_pair.shape == one.demo_slot.shape == (size * (size - 1),)
    assert one.pair_tokens.shape[0] == size
    assert both.pair_tokens.shape[0] == 2 * size
    rows = both.pair_tokens[both.demo_pair]
    for slot, item in enumerate(items):
        assert np.array_equal(rows[both.demo_slot == slot][:, 0], item.demo_inputs)
        assert np.array_equal(rows[both.demo_slot == slot][:, 1], item.demo_outputs)


def test_no_two_pairs_are_alike_and_equal_inputs_alone_do_not_make_a_pair(make_item):
    item = make_item(2)
    other = make_item(3, demo_inputs=item.demo_inputs[:1])
    small = make_item(2, side=3)
    twin = make_item(4, side=3, demo_inputs=small.demo_inputs, demo_outputs=small.demo_outputs)
    batch = collate([item, other, item, small, twin], 4)
    assert batch.demo_pair.tolist() == [0, 1, 2, 3, 0, 1, 2, 4, 5, 6, 4, 5, 6]
    assert len(batch.pair_tokens.unique(dim=0)) == len(batch.pair_tokens) == 7


def test_padding_labels_are_ignored_and_small_canvases_lie_in_the_corner(make_item):
    label = np.zeros(9, dtype=np.uint8)
    label[4] = 5
    batch = collate([make_item(0, 3, label=label), make_item(1, 4)], 4)
    assert batch.label[0].tolist() == [IGNORE] * 5 + [5] + [IGNORE] * 10
    inside = batch.active[0].view(4, 4)
    assert inside.sum() == 9
    assert inside[:3, :3].all()
    assert batch.active[1].all()
    assert np.array_equal(batch.query[0].view(4, 4)[:3, :3].flatten(), make_item(0, 3).query)
    assert not batch.query[0].view(4, 4)[3].any()


def test_items_that_do_not_fit_are_refused(make_item):
    with pytest.raises(DataError, match="puzzle0 has side 5"):
        collate([make_item(0, 5)], 4)
    with pytest.raises(DataError, match="no items"):
        collate([], 4)
    with pytest.raises(ConfigError, match="at least 1"):
        SlotPool(slots=0, side=4)

    class Short(Counting):
        def take(self, n, side):
            return super().take(n, side)[:-1]

    with pytest.raises(DataError, match="asked for 2 items of side 4, got 1"):
        SlotPool(slots=2, side=4).refill(Short(make_item))


def test_selected_slots_are_renumbered(make_item):
    batch = collate([make_item(n) for n in range(4)], 4)
    chosen = batch.select([3, 1])
    assert [item.puzzle_id for item in chosen.items] == ["puzzle3", "puzzle1"]
    assert chosen.demo_slot.tolist() == [0, 1, 1]
    assert torch.equal(chosen.query, batch.query[[3, 1]])


@pytest.mark.parametrize("prob", [0.0, 0.5])
def test_the_pool_equals_a_naive_loop_over_samples(make_item, prob):
    """Every slot is followed on its own: its item, its state, its age, its halting."""
    model, randomness = restless_model(make_item), Randomness(3)
    halting = HaltingConfig(halt_max_steps=4, halt_exploration_prob=prob)
    source, pool, slots = Counting(make_item), SlotPool(slots=5, side=4), 5

    naive = [None] * slots  # (item number, carry, age) of each slot, one sample each
    given, asked, ages_at_halt = 0, [], []
    for step in range(12):
        batch = pool.refill(source)
        with torch.no_grad():
            output = model(batch, pool.carry)
        draws = halting_draws(randomness, step=step, side=4, slots=slots)
        pool.settle(halt(output.carry, output.q_halt, draws, halting))
        losses = sequence_losses(output.logits, output.q_halt, batch.label)

        asked.append(sum(state is None for state in naive))
        for slot in range(slots):
            if naive[slot] is None:
                naive[slot], given = (given, None, 0), given + 1
            number, carry, age = naive[slot]
            own = collate([make_item(number)], 4)
            with torch.no_grad():
                alone = model(own, carry)
            age += 1
            assert batch.items[slot].puzzle_id == f"puzzle{number}"
            assert output.carry.steps[slot].item() == age
            torch.testing.assert_close(alone.logits[0], output.logits[slot], atol=1e-4, rtol=1e-4)
            own_losses = sequence_losses(alone.logits, alone.q_halt, own.label)
            torch.testing.assert_close(own_losses.lm_B[0], losses.lm_B[slot], atol=1e-4, rtol=1e-4)
            u0, u1 = draws[slot].tolist()
            least = 2 + int(u1 * 3) if u0 < prob else 1
            done = age >= 4 or (alone.q_halt.item() > 0 and age >= least)
            assert pool.carry.halted[slot].item() == done
            naive[slot] = None if done else (number, alone.carry, age)
            ages_at_halt += [age] if done else []
    assert [n for n in asked if n] == source.asked
    assert source.given == given
    assert min(ages_at_halt) < 4  # the test saw slots that halted by themselves
    assert max(ages_at_halt) == 4  # and some that did not


def test_a_halted_slots_state_does_not_reach_its_next_item(make_item):
    model = restless_model(make_item)
    batch = collate([make_item(n) for n in range(2)], 4)
    with torch.no_grad():
        first = model(batch)
        poisoned = first.carry
        poisoned.z_H[0] = float("nan")
        poisoned.z_L[0] = float("nan")
        poisoned.halted[0] = True
        second = model(batch, poisoned)
    assert torch.equal(second.logits[0], first.logits[0])
    assert not torch.equal(second.logits[1], first.logits[1])
    assert second.carry.steps.tolist() == [1, 2]


def test_a_restored_pool_goes_on_as_if_never_stopped(make_item):
    model, halting = restless_model(make_item), HaltingConfig(halt_max_steps=3)
    randomness = Randomness(0)

    def run(pool, source, steps):
        seen = []
        for step in steps:
            batch = pool.refill(source)
            with torch.no_grad():
                output = model(batch, pool.carry)
            draws = halting_draws(randomness, step=step, side=4, slots=3)
            pool.settle(halt(output.carry, output.q_halt, draws, halting))
            seen.append((batch.query, output.logits))
        return seen

    source, pool = Counting(make_item), SlotPool(slots=3, side=4)
    run(pool, source, range(4))
    state, given = pool.state(), source.given
    straight = run(pool, source, range(4, 9))
    other, again = Counting(make_item), SlotPool(slots=3, side=4)
    other.given = given
    again.restore(state)
    for a, b in zip(straight, run(again, other, range(4, 9)), strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
    with pytest.raises(DataError, match="3 slots of side 4, this run has 2 of side 4"):
        SlotPool(slots=2, side=4).restore(state)
