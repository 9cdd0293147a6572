"""Branches: common random numbers, independence of company, controllers, notes, broken parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of
from cupel.teach.branches.branching import Branch, BranchResult, run_branches, uniforms_of
from cupel.teach.environments import corridor
from cupel.teach.environments.base import (
    EnvironmentConfig,
    Snapshot,
    Step,
    make_environment,
    restore,
    take_snapshot,
)
from cupel.teach.rollouts.walks import ladder_of
from cupel.teach.students.prompts import build_prompt
from cupel.teach.students.student import Query, UniformStudent, draw
from tests.teach.teach_students import TableStudent, snapshots_of

CORRIDOR = EnvironmentConfig(name="corridor")
SHOP = EnvironmentConfig(name="shop")
UNIFORMS = uniforms_of(Randomness(5), "labels")
CORRIDOR_SNAPSHOTS = snapshots_of(CORRIDOR, seeds=range(6), walks=4, steps=3)
SHOP_SNAPSHOTS = snapshots_of(SHOP, seeds=range(3), walks=3, steps=4)


def step_by_step(branch: Branch, student: TableStudent, config: EnvironmentConfig) -> BranchResult:
    """One branch the slow way: no graph, no cache, `student.draw`, one generator a step."""
    environment = make_environment(config)
    restore(branch.snapshot, environment)
    actions: list[str] = []
    rewards: list[float] = []
    stop: Any = None
    while stop is None:
        valid = environment.valid_actions()
        if not valid:
            stop = "ended"
        elif len(actions) == branch.horizon:
            stop = "limit"
        else:
            first = not actions
            note = branch.patch if first or branch.patch_steps == "every" else None
            action = branch.first_action if first else None
            if action is None:
                prompt = build_prompt(environment.task(), environment.observe(), valid, patch=note)
                (probs,) = student.distributions([Query(prompt=prompt, actions=valid)])
                key = (counter_of(branch.snapshot.id), branch.replicate, len(actions))
                uniform = Randomness(5).generator("labels", *key).random()
                action = valid[draw(probs, uniform)]
            step = environment.step(action)
            actions.append(action)
            rewards.append(step.reward)
            if step.done:
                stop = "success" if step.success else "ended"
    return BranchResult(
        snapshot_id=branch.snapshot.id,
        condition=branch.condition,
        replicate=branch.replicate,
        success=stop == "success",
        n_steps=len(actions),
        total_reward=float(sum(rewards)),
        stop_reason=stop,
        actions=tuple(actions),
    )


def mixed_branches(snapshots: Sequence[Snapshot], config: EnvironmentConfig) -> list[Branch]:
    made = []
    for snapshot in snapshots:
        environment = make_environment(config)
        restore(snapshot, environment)
        first = environment.valid_actions()[-1]
        for replicate in range(3):
            base = Branch(snapshot=snapshot, condition="policy", replicate=replicate, horizon=6)
            made += [
                base,
                replace(base, condition="force", first_action=first),
                replace(base, condition="hint", patch="go on"),
                replace(base, condition="demo", patch="go on", patch_steps="every", horizon=4),
            ]
    return made


@pytest.mark.parametrize(
    ("config", "snapshots"),
    [(CORRIDOR, CORRIDOR_SNAPSHOTS), (SHOP, SHOP_SNAPSHOTS)],
    ids=["corridor", "shop"],
)
def test_all_together_equals_one_by_one_without_any_sharing(
    config: EnvironmentConfig, snapshots: list[Snapshot]
) -> None:
    """Every rollout has its own key, so that it can be had again alone, exactly."""
    student = TableStudent()
    branches = mixed_branches(snapshots, config)
    results = run_branches(branches, student, config, uniforms=UNIFORMS)
    assert results == [step_by_step(branch, student, config) for branch in branches]
    assert {result.stop_reason for result in results} >= {"limit"}


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_results_depend_neither_on_order_nor_on_company(data: st.DataObject) -> None:
    branches = mixed_branches(CORRIDOR_SNAPSHOTS[:6], CORRIDOR)
    every = run_branches(branches, TableStudent(), CORRIDOR, uniforms=UNIFORMS)
    chosen = data.draw(
        st.lists(st.integers(0, len(branches) - 1), min_size=1, max_size=20, unique=True)
    )
    some = run_branches([branches[i] for i in chosen], TableStudent(), CORRIDOR, uniforms=UNIFORMS)
    assert some == [every[i] for i in chosen]


def test_conditions_share_their_random_numbers_and_snapshots_do_not() -> None:
    """Two conditions that do the same have the same outcome, rollout by rollout."""
    student = TableStudent()
    base = [
        Branch(snapshot=s, condition="hint", replicate=r, horizon=6, patch="go on")
        for s in SHOP_SNAPSHOTS
        for r in range(8)
    ]
    other = [replace(branch, condition="shuffled") for branch in base]
    results = run_branches([*base, *other], student, SHOP, uniforms=UNIFORMS)
    hint, shuffled = results[: len(base)], results[len(base) :]
    assert [replace(r, condition="hint") for r in shuffled] == hint
    ways = {result.actions for result in hint[:8]}
    assert len(ways) > 1  # replicates differ


def test_each_tick_asks_for_what_is_new_only() -> None:
    student = TableStudent()
    branches = mixed_branches(SHOP_SNAPSHOTS, SHOP)
    results = run_branches(branches, student, SHOP, uniforms=UNIFORMS)
    assert len(student.asked) == len(set(student.asked))
    assert len(student.batches) <= 6
    assert sum(student.batches) < sum(result.n_steps for result in results)


def test_the_expert_wins_where_success_is_in_reach_and_ends_where_it_is_not() -> None:
    pit, fine = corridor.make(""), corridor.make("")
    pit.reset(3)
    pit.step("leap")
    fine.reset(3)
    snapshots = {True: take_snapshot(fine), False: take_snapshot(pit)}
    for reachable, snapshot in snapshots.items():
        results = run_branches(
            [
                Branch(snapshot=snapshot, condition="expert", replicate=r, horizon=9,
                       controller="expert")
                for r in range(2)
            ],
            UniformStudent(),
            CORRIDOR,
            uniforms=UNIFORMS,
        )  # fmt: skip
        assert [result.success for result in results] == [reachable] * 2
        assert results[0].stop_reason == ("success" if reachable else "ended")
        assert results[0].n_steps == (4 if reachable else 0)
    (short,) = run_branches(
        [
            Branch(snapshot=snapshots[True], condition="expert", replicate=0, horizon=3,
                   controller="expert")
        ],
        UniformStudent(),
        CORRIDOR,
        uniforms=UNIFORMS,
    )  # fmt: skip
    assert (short.success, short.stop_reason, short.n_steps) == (False, "limit", 3)


class Breaking(corridor.Corridor):
    """Its expert crashes at cell 2, its steps crash from cell 3 on to the right."""

    silent = False

    def expert(self) -> str | None:
        if self._cell == 2:
            if self.silent:
                return None
            raise RuntimeError("a box has gone")
        return "right"

    def step(self, action: str) -> Step:
        if self._cell == 3 and action == "right":
            raise OSError("the game does not answer")
        return super().step(action)

    def copy(self) -> Breaking:
        twin = type(self)(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


class Silent(Breaking):
    silent = True


def breaking(monkeypatch: pytest.MonkeyPatch, kind: type[Breaking]) -> Snapshot:
    monkeypatch.setattr(corridor, "make", kind)
    environment = kind()
    environment.reset(0)
    return take_snapshot(environment)


def test_what_breaks_is_no_failure_of_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the expert or of the environment is an instrument error: success None."""
    snapshot = breaking(monkeypatch, Breaking)
    base = Branch(snapshot=snapshot, condition="x", replicate=0, horizon=9)

    class Right(UniformStudent):
        def distributions(self, queries: Sequence[Query]) -> list[NDArray[np.float64]]:
            return [np.array([a == "right" for a in q.actions], float) for q in queries]

    expert, student = run_branches(
        [replace(base, controller="expert"), base], Right(), CORRIDOR, uniforms=UNIFORMS
    )
    assert (expert.success, expert.stop_reason, expert.n_steps) == (None, "error", 2)
    assert expert.message == "RuntimeError: a box has gone"
    assert (student.success, student.stop_reason, student.n_steps) == (None, "error", 3)
    assert student.message == "OSError: the game does not answer"


def test_an_expert_without_advice_where_success_is_in_reach_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    snapshot = breaking(monkeypatch, Silent)
    branch = Branch(
        snapshot=snapshot, condition="expert", replicate=0, horizon=9, controller="expert"
    )
    (result,) = run_branches([branch], UniformStudent(), CORRIDOR, uniforms=UNIFORMS)
    assert (result.success, result.stop_reason) == (None, "error")
    branch = replace(branch, horizon=3)  # after two steps one is left: out of reach
    (result,) = run_branches([branch], UniformStudent(), CORRIDOR, uniforms=UNIFORMS)
    assert (result.success, result.stop_reason) == (False, "ended")


class Nameless(corridor.Corridor):
    """A corridor that keeps its state to itself and counts its copies."""

    copies = 0

    def key(self) -> None:  # type: ignore[override]
        return None

    def copy(self) -> Nameless:
        Nameless.copies += 1
        twin = Nameless(self.level)
        twin.seed, twin.actions, twin._cell = self.seed, self.actions, self._cell
        return twin


def test_states_that_cannot_be_named_are_branched_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def nameless(snapshot: Snapshot) -> Snapshot:
        environment = Nameless()
        environment.reset(snapshot.seed)
        for action in snapshot.actions:
            environment.step(action)
        return take_snapshot(environment)

    monkeypatch.setattr(corridor, "make", Nameless)
    snapshots = [nameless(snapshot) for snapshot in CORRIDOR_SNAPSHOTS]
    branches = mixed_branches(snapshots, CORRIDOR)
    Nameless.copies = 0
    results = run_branches(branches, TableStudent(), CORRIDOR, uniforms=UNIFORMS)
    assert Nameless.copies < sum(result.n_steps for result in results)
    assert results == [step_by_step(branch, TableStudent(), CORRIDOR) for branch in branches]


def test_a_snapshot_that_leads_elsewhere_is_refused() -> None:
    (snapshot,) = snapshots_of(CORRIDOR, seeds=[0], walks=1, steps=0)
    bad = replace(snapshot, state_hash="0" * 32)
    with pytest.raises(DataError, match="restored to state"):
        run_branches(
            [Branch(snapshot=bad, condition="policy", replicate=0, horizon=3)],
            UniformStudent(),
            CORRIDOR,
            uniforms=UNIFORMS,
        )


def test_a_first_action_that_is_not_valid_is_refused() -> None:
    (snapshot,) = snapshots_of(CORRIDOR, seeds=[0], walks=1, steps=0)
    with pytest.raises(DataError, match="action 'fly' is not valid there; valid: right, leap"):
        run_branches(
            [Branch(snapshot=snapshot, condition="f", replicate=0, horizon=3, first_action="fly")],
            UniformStudent(),
            CORRIDOR,
            uniforms=UNIFORMS,
        )


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=12).filter(lambda v: sum(v) > 0.1),
    st.floats(0, 1, exclude_max=True),
)
def test_the_fast_draw_is_the_draw(weights: list[float], uniform: float) -> None:
    probs = np.array(weights) / sum(weights)
    assert bisect_right(ladder_of(probs), uniform) == draw(probs, uniform)
