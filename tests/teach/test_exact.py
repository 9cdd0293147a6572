"""Exact success probabilities: against dynamic programming, against sampling, and as bounds."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import pytest

from cupel.errors import ConfigError, DataError
from cupel.lab.randomness import Randomness
from cupel.teach.branches.branching import Branch, run_branches, uniforms_of
from cupel.teach.branches.exact import Root, action_values, success_bounds
from cupel.teach.environments import corridor
from cupel.teach.environments.base import (
    Environment,
    EnvironmentConfig,
    Snapshot,
    make_environment,
    restore,
    take_snapshot,
)
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, UniformStudent
from tests.teach.teach_students import ExpertishStudent, TableStudent, snapshots_of

CORRIDOR = EnvironmentConfig(name="corridor")
SHOP = EnvironmentConfig(name="shop")
UNIFORMS = uniforms_of(Randomness(5), "exact test")


def by_recursion(environment: Environment, student: TableStudent, left: int) -> float:
    """Bellman's recursion, straight: the whole tree, nothing merged, nothing shared."""
    if left == 0 or not environment.valid_actions():
        return 0.0
    actions = environment.valid_actions()
    prompt = build_prompt(environment.task(), environment.observe(), actions)
    (probs,) = student.distributions([Query(prompt=prompt, actions=actions)])
    total = 0.0
    for action, p in zip(actions, probs, strict=True):
        twin = environment.copy()
        step = twin.step(action)
        total += p * (float(step.success) if step.done else by_recursion(twin, student, left - 1))
    return total


def restored(snapshot: Snapshot, config: EnvironmentConfig) -> Environment:
    environment = make_environment(config)
    restore(snapshot, environment)
    return environment


@pytest.mark.parametrize("temperature", [1.0, 0.3, 0.0])
def test_corridor_equals_the_recursion_over_the_whole_tree(temperature: float) -> None:
    student = TableStudent(temperature=temperature)
    snapshots = snapshots_of(CORRIDOR, seeds=range(6), walks=6, steps=3)
    assert len(snapshots) > 15
    bounds = success_bounds(
        [Root(snapshot=s, horizon=6) for s in snapshots], student, CORRIDOR, prune_mass=0.0
    )
    for snapshot, found in zip(snapshots, bounds, strict=True):
        expected = by_recursion(restored(snapshot, CORRIDOR), student, 6)
        assert found.lo == pytest.approx(expected, abs=1e-12)
        assert found.hi == pytest.approx(expected, abs=1e-12)
        assert found.complete


def test_two_uniform_steps_from_cell_four_by_hand() -> None:
    """From cell 4 of an even task: leap wins (1/3); right, then right or leap of three (2/9);
    left to cell 3, from where two steps are too many: 5/9."""
    environment = corridor.make("")
    environment.reset(4)
    for action in ("leap", "right"):
        environment.step(action)
    snapshot = take_snapshot(environment)
    assert environment.observe() == "cell 4"
    (found,) = success_bounds([Root(snapshot=snapshot, horizon=2)], UniformStudent(), CORRIDOR)
    assert found.lo == pytest.approx(5 / 9, abs=1e-15)
    assert found.hi == pytest.approx(5 / 9, abs=1e-15)
    (values,) = action_values([(snapshot, 2)], UniformStudent(), CORRIDOR)
    assert values.actions == ("left", "right", "leap")
    assert values.lo.tolist() == pytest.approx([0.0, 2 / 3, 1.0], abs=1e-15)
    assert values.probs.tolist() == pytest.approx([1 / 3] * 3)
    assert values.of("right").value == pytest.approx(2 / 3)


def test_every_condition_is_a_first_distribution_over_the_same_action_values() -> None:
    student = TableStudent()
    for snapshot in snapshots_of(SHOP, seeds=range(3), walks=3, steps=4):
        root = {"snapshot": snapshot, "horizon": 6}
        (values,) = action_values([(snapshot, 6)], student, SHOP, prune_mass=0.0)
        patched, plain, forced = success_bounds(
            [
                Root(**root, patch="look at the price first"),
                Root(**root),
                Root(**root, first_action=values.actions[-1]),
            ],
            student,
            SHOP,
            prune_mass=0.0,
        )
        environment = restored(snapshot, SHOP)
        prompt = build_prompt(
            environment.task(),
            environment.observe(),
            values.actions,
            patch="look at the price first",
        )
        (probs,) = student.distributions([Query(prompt=prompt, actions=values.actions)])
        assert values.under(probs).lo == pytest.approx(patched.lo, abs=1e-12)
        assert values.under(values.probs).lo == pytest.approx(plain.lo, abs=1e-12)
        assert values.of(values.actions[-1]).lo == pytest.approx(forced.lo, abs=1e-12)


@pytest.mark.parametrize("config", [CORRIDOR, SHOP], ids=["corridor", "shop"])
def test_sampling_agrees_within_three_standard_errors(config: EnvironmentConfig) -> None:
    """1,000 rollouts a state; of all states at most 1 % may lie beyond 3 standard errors."""
    student = ExpertishStudent(config, range(8))
    snapshots = snapshots_of(config, seeds=range(8), walks=4, steps=5)
    replicates = 1_000
    bounds = success_bounds([Root(snapshot=s, horizon=7) for s in snapshots], student, config)
    results = run_branches(
        [
            Branch(snapshot=s, condition="policy", replicate=r, horizon=7)
            for s in snapshots
            for r in range(replicates)
        ],
        student,
        config,
        uniforms=UNIFORMS,
    )
    beyond = 0
    between = 0
    for number, found in enumerate(bounds):
        mine = results[number * replicates : (number + 1) * replicates]
        rate = float(np.mean([result.success for result in mine]))
        error = 3 * np.sqrt(max(found.hi * (1 - found.lo), 1e-9) / replicates) + 1e-9
        beyond += not found.lo - error <= rate <= found.hi + error
        between += 0.05 < found.value < 0.95
        assert found.hi - found.lo < 0.05
    assert beyond <= max(1, len(bounds) // 100)
    assert between >= len(bounds) // 5  # the comparison is not of zeros with zeros


def test_pruning_widens_and_the_truth_stays_inside() -> None:
    student = TableStudent()
    snapshots = snapshots_of(SHOP, seeds=range(4), walks=3, steps=3)
    roots = [Root(snapshot=s, horizon=8) for s in snapshots]
    truth = success_bounds(roots, student, SHOP, prune_mass=0.0)
    widths = []
    for prune_mass in (1e-4, 1e-3, 1e-2, 1e-1):
        found = success_bounds(roots, student, SHOP, prune_mass=prune_mass)
        for bounds, exact in zip(found, truth, strict=True):
            assert exact.hi == pytest.approx(exact.lo, abs=1e-9)
            assert bounds.lo <= exact.hi + 1e-12
            assert exact.lo <= bounds.hi + 1e-12
            assert bounds.queries <= exact.queries
        widths.append(sum(bounds.hi - bounds.lo for bounds in found))
    assert widths == sorted(widths)
    assert widths[0] < widths[-1]


def test_too_many_states_widen_the_bounds_and_are_said() -> None:
    student = TableStudent()
    (snapshot,) = snapshots_of(SHOP, seeds=[1], walks=1, steps=0)
    root = Root(snapshot=snapshot, horizon=8)
    (exact,) = success_bounds([root], student, SHOP, prune_mass=0.0)
    (cut,) = success_bounds([root], student, SHOP, prune_mass=0.0, max_states=10)
    assert exact.complete
    assert not cut.complete
    assert cut.lo <= exact.lo <= cut.hi
    assert cut.hi - cut.lo > 0.01
    assert cut.queries <= 10


def test_a_root_does_not_depend_on_its_company() -> None:
    student = TableStudent()
    snapshots = snapshots_of(SHOP, seeds=range(3), walks=4, steps=4)
    roots = [
        Root(snapshot=s, horizon=5 + number % 3, patch="hm" if number % 2 else None)
        for number, s in enumerate(snapshots)
    ]
    together = success_bounds(roots, student, SHOP, prune_mass=1e-3)
    backwards = success_bounds(roots[::-1], student, SHOP, prune_mass=1e-3)[::-1]
    alone = [success_bounds([root], student, SHOP, prune_mass=1e-3)[0] for root in roots]
    assert together == backwards == alone


def test_roots_share_queries_and_each_level_is_one_batch() -> None:
    snapshots = snapshots_of(CORRIDOR, seeds=[0, 2], walks=4, steps=3)
    student = TableStudent()
    success_bounds([Root(snapshot=s, horizon=6) for s in snapshots], student, CORRIDOR)
    assert len(student.asked) == len(set(student.asked))
    assert len(student.batches) <= 6


def test_where_success_is_out_of_reach_nobody_is_asked() -> None:
    student = TableStudent()
    (snapshot,) = snapshots_of(CORRIDOR, seeds=[3], walks=1, steps=0)
    (found,) = success_bounds(
        [Root(snapshot=snapshot, horizon=5)], student, CORRIDOR, prune_mass=0.0
    )
    assert found.lo == found.hi > 0
    assert not any("pit" in query.prompt for query in student.asked)
    pit = restored(snapshot, CORRIDOR)
    pit.step("leap")
    (values,) = action_values([(take_snapshot(pit), 5)], student, CORRIDOR)
    assert (values.lo.tolist(), values.hi.tolist(), values.actions) == ([0.0], [0.0], ("wait",))


def test_a_patch_at_every_step_changes_later_prompts() -> None:
    student = TableStudent()
    (snapshot,) = snapshots_of(CORRIDOR, seeds=[3], walks=1, steps=0)
    success_bounds(
        [Root(snapshot=snapshot, horizon=4, patch="mind the pit", patch_steps="every")],
        student,
        CORRIDOR,
    )
    assert all("note: mind the pit" in query.prompt for query in student.asked)
    first = TableStudent()
    success_bounds([Root(snapshot=snapshot, horizon=4, patch="mind the pit")], first, CORRIDOR)
    assert sum("note:" in query.prompt for query in first.asked) == 1


class Nameless(corridor.Corridor):
    """A corridor that keeps its state to itself."""

    def key(self) -> Hashable:
        return None

    def copy(self) -> Nameless:
        twin = Nameless(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


def test_an_environment_without_keys_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corridor, "make", lambda level: Nameless(level))
    nameless = Nameless()
    nameless.reset(1)
    with pytest.raises(ConfigError, match="states of corridor cannot be named"):
        success_bounds(
            [Root(snapshot=take_snapshot(nameless), horizon=3)], UniformStudent(), CORRIDOR
        )


def test_an_action_or_a_horizon_that_cannot_be_is_refused() -> None:
    (snapshot,) = snapshots_of(CORRIDOR, seeds=[0], walks=1, steps=0)
    with pytest.raises(DataError, match="action 'fly' is not valid there; valid: right, leap"):
        success_bounds(
            [Root(snapshot=snapshot, horizon=3, first_action="fly")], UniformStudent(), CORRIDOR
        )
    with pytest.raises(DataError, match="at least one step"):
        action_values([(snapshot, 0)], UniformStudent(), CORRIDOR)
