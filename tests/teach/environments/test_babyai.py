"""BabyAI levels: exact restores, a mask that leaves nothing out, a bot that follows any history."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("minigrid", reason="the extra 'teach' (minigrid) is not installed")

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.babyai import ACTIONS, BabyAI, make
from cupel.teach.environments.base import EnvironmentConfig, make_environment
from cupel.testing import check_environment


def _solve(world: BabyAI, limit: int = 400) -> bool:
    """Follow the expert; whether that succeeds."""
    for _ in range(limit):
        action = world.expert()
        if action is None:
            return False
        brought = world.step(action)
        if brought.done:
            return brought.success
    return False


@pytest.mark.parametrize("level", ["GoToLocal", "PutNextLocal", "SynthSeq"])
def test_levels_keep_the_contract(level: str) -> None:
    contract = check_environment(
        partial(make, level), seeds=range(30), states=30, steps=30, processes=int(level[0] == "G")
    )
    assert contract.keys == 30
    assert contract.experts + contract.ended > 20


@pytest.mark.slow
@pytest.mark.parametrize("level", ["GoToLocal", "UnlockPickup", "BossLevel"])
def test_a_thousand_random_states_are_restored(level: str) -> None:
    contract = check_environment(
        partial(make, level), seeds=range(60), states=334, steps=60, processes=1
    )
    assert contract.distinct > 200


@pytest.mark.parametrize("level", ["GoToLocal", "PickupLoc", "UnlockPickup", "PutNextLocal"])
def test_the_bot_succeeds_from_the_start(level: str) -> None:
    world = make(level)
    for seed in range(10):
        world.reset(seed)
        assert _solve(world), seed


def test_the_bot_mostly_succeeds_after_a_random_history() -> None:
    rng, solved, world = np.random.default_rng(0), 0, make("PickupLoc")
    for seed in range(30):
        world.reset(seed)
        for _ in range(12):
            actions = world.valid_actions()
            if not actions or world.step(actions[rng.integers(len(actions))]).done:
                break
        solved += world.observe().startswith("the mission is") or _solve(world)
    assert solved >= 26


def test_an_opened_box_breaks_the_bot_and_not_the_environment() -> None:
    """Open the box that is to be picked up: what was wanted is gone."""
    broken = 0
    for seed in range(60):
        world = make("PickupLoc")
        world.reset(seed)
        if " box" not in world.task():
            continue
        while "pick up" not in (action := world.expert() or "pick up"):
            world.step(action)
        if "toggle" in world.valid_actions():
            world.step("toggle")
            broken += not _solve(world, 60)
    assert broken > 3


def test_what_the_mask_leaves_out_changes_nothing() -> None:
    """Try every masked action of the package in a copy; the state stays."""
    rng, tried = np.random.default_rng(1), 0
    world = make("SynthSeq")
    for seed in range(15):
        world.reset(seed)
        for _ in range(25):
            actions = world.valid_actions()
            if not actions:
                break
            before = world.key()
            for number, action in enumerate(ACTIONS):
                if action not in actions:
                    twin = world.copy()
                    twin._world.step(number)
                    assert twin.key() == before, action
                    tried += 1
            world.step(actions[rng.integers(len(actions))])
    assert tried > 300


def test_things_alike_are_told_apart_by_the_key() -> None:
    """A place that the mission remembers decides, though the grid looks the same."""
    world = make("PutNextLocal")
    world.reset(0)
    twin = world.copy()
    leaf = twin._world.instrs
    leaf.desc_fixed.obj_poss = [(1, 1)]
    assert twin.observe() == world.observe()
    assert twin.key() != world.key()


def test_text_mask_and_level() -> None:
    world = make_environment(EnvironmentConfig(name="babyai"))
    assert world.level == "GoToLocal"
    world.reset(3)
    assert world.task() == "go to the red key"
    assert world.observe().startswith("you see a green box 2 steps forward ; a red box 1 step")
    assert world.observe().endswith("a wall 6 steps forward ; you carry nothing")
    assert world.valid_actions() == ("turn left", "turn right", "go forward")
    with pytest.raises(DataError, match="babyai GoToLocal task 3: action 'drop' is not valid"):
        world.step("drop")
    with pytest.raises(ConfigError, match="no level 'GoToLokal'; did you mean GoToLocal"):
        make("GoToLokal")


def test_levels_do_not_print(capfd: pytest.CaptureFixture[str]) -> None:
    world = make("SynthSeq")
    for seed in range(20):
        world.reset(seed)
    assert capfd.readouterr() == ("", "")
