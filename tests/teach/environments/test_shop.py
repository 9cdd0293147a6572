"""The shop: its catalogue, its rules, its exact distances and its words."""

from __future__ import annotations

import hashlib
import math
from collections import deque

import numpy as np
import pytest

from cupel.errors import ConfigError, DataError
from cupel.teach.environments.base import EnvironmentConfig, make_environment
from cupel.teach.environments.shop import VOCABULARY, Shop, make
from cupel.teach.environments.shop_catalogue import LEVELS, make_task
from cupel.teach.environments.shop_expert import diagnosis, error_type, mismatch, rationale
from cupel.teach.environments.shop_rules import (
    BOUGHT,
    CHOOSE,
    ITEM,
    RESULTS,
    State,
    after,
    distance,
    start,
    valid_actions,
)
from cupel.teach.students.prompts import build_prompt

TASKS = [(level, seed) for level in LEVELS for seed in range(40)]


def _walk(shop: Shop, rng: np.random.Generator, steps: int = 15) -> float:
    """Act at random; return the return."""
    total = 0.0
    for _ in range(steps):
        actions = shop.valid_actions()
        if not actions:
            break
        total += shop.step(actions[rng.integers(len(actions))]).reward
    return total


@pytest.mark.parametrize(("level", "seed"), TASKS)
def test_every_item_is_right_or_wrong_in_one_thing(level: str, seed: int) -> None:
    task = make_task(level, seed)
    wish = task.wish
    assert 1 <= len(task.right_prices) <= 2
    for item in task.items:
        wrong = [
            item.colour != wish.colour,
            item.material != wish.material,
            item.kind != wish.kind,
            item.price > wish.limit,
            wish.size not in item.sizes,
        ]
        assert sum(wrong) == (0 if item.right else 1)
        assert item.matched == 4 - sum(wrong[:4])
        assert bool(mismatch(wish, item)) != item.right
    assert task.money >= task.right_prices[-1]


@pytest.mark.parametrize(("level", "seed"), TASKS)
def test_three_queries_list_every_right_item_and_one_none(level: str, seed: int) -> None:
    task = make_task(level, seed)
    rights = {at for at, item in enumerate(task.items) if item.right}
    found = [rights & {item for sheet in pages for item in sheet} for pages in task.sheets]
    assert len(set(task.queries)) == 4
    assert sorted(map(len, found)) == [0, *[len(rights)] * 3]


def test_tasks_are_the_same_everywhere() -> None:
    digest = hashlib.sha256()
    for seed in range(200):
        shop = Shop()
        shop.reset(seed)
        rng = np.random.default_rng(seed)
        _walk(shop, rng, 6)
        digest.update(f"{shop.task()}|{shop.observe()}|{shop.key()}".encode())
    assert digest.hexdigest()[:16] == "171884f15590c123"


def _graph(level: str, seed: int) -> dict[State, list[tuple[State, bool]]]:
    """Follow every action from the start."""
    task = make_task(level, seed)
    graph: dict[State, list[tuple[State, bool]]] = {}
    waiting = [start(task)]
    while waiting:
        state = waiting.pop()
        if state in graph:
            continue
        graph[state] = []
        for action in valid_actions(task, state):
            found, brought = after(task, state, action)
            graph[state].append((found, brought.success))
            waiting.append(found)
    return graph


def _distances(graph: dict[State, list[tuple[State, bool]]]) -> dict[State, float]:
    """Search breadth-first, backwards from success."""
    before: dict[State, list[State]] = {state: [] for state in graph}
    for state, moves in graph.items():
        for found, _ in moves:
            before[found].append(state)
    left: dict[State, float] = {state: 0.0 for state in graph if state.page == BOUGHT}
    queue = deque(left)
    while queue:
        state = queue.popleft()
        for earlier in before[state]:
            if earlier not in left:
                left[earlier] = left[state] + 1
                queue.append(earlier)
    return left


@pytest.mark.parametrize(
    ("level", "seed"), [(level, seed) for level in LEVELS for seed in range(6)]
)
def test_distances_are_those_of_a_search_of_the_whole_graph(level: str, seed: int) -> None:
    task, graph = make_task(level, seed), _graph(level, seed)
    left = _distances(graph)
    dead = 0
    for state in graph:
        assert distance(task, state) == left.get(state, math.inf)
        dead += state not in left and bool(valid_actions(task, state))
    assert dead > 0


def test_only_success_is_reached_by_a_successful_step() -> None:
    for moves in _graph("", 3).values():
        assert all(success == (found.page == BOUGHT) for found, success in moves)


def test_the_expert_needs_five_to_seven_steps() -> None:
    shop, lengths = Shop(), []
    for seed in range(500):
        shop.reset(seed)
        total, count = 0.0, 0
        while (action := shop.expert()) is not None:
            assert shop.optimal_q(99)[action] == 1.0
            brought = shop.step(action)
            total, count = total + brought.reward, count + 1
        assert brought.success
        assert total == 1.0
        lengths.append(count)
    assert set(lengths) <= {5, 6, 7}
    assert len(set(lengths)) > 1


def test_the_return_is_the_share_that_the_best_purchase_matched() -> None:
    rng, shop, returns = np.random.default_rng(0), Shop(), set()
    for seed in range(600):
        shop.reset(seed)
        total = _walk(shop, rng, 60)
        returns.add(round(total, 9))
        assert total == pytest.approx(shop.state.score / 5)
        assert (total == pytest.approx(1)) == (shop.state.page == BOUGHT)
    assert {0.0, 0.6, 0.8, 1.0} <= returns


def _to_item(shop: Shop, wanted: str) -> bool:
    """Go to an item of a kind of mistake, by the first query that lists one that can be paid."""
    for query, pages in enumerate(shop.wares.sheets):
        for number, sheet in enumerate(pages):
            for place, at in enumerate(sheet):
                item = shop.wares.items[at]
                if wanted in mismatch(shop.wares.wish, item) and item.price <= shop.state.money:
                    shop.step(f"search {shop.wares.queries[query]}")
                    for _ in range(number):
                        shop.step("next page")
                    shop.step(f"click item {place + 1}")
                    return True
    return False


def test_a_wrong_purchase_is_paid_and_can_be_a_dead_end_or_be_repaired() -> None:
    ends = {"dead": 0, "repairable": 0}
    for seed in range(200):
        shop = Shop()
        shop.reset(seed)
        if not _to_item(shop, "the task wants"):
            continue
        before = shop.state.money
        brought = shop.step("buy now")
        assert not brought.done
        assert 0 < brought.reward < 1
        assert shop.state.money < before
        assert f"money {shop.state.money} ; score {shop.state.score}" in shop.observe()
        if shop.expert() is None:
            ends["dead"] += 1
            assert not any(shop.optimal_q(1000).values())
            assert shop.valid_actions()
            assert "not enough" in rationale(shop)
            assert diagnosis(shop, shop.valid_actions()[0]) == rationale(shop)
        else:
            ends["repairable"] += 1
            while (action := shop.expert()) is not None:
                brought = shop.step(action)
            assert brought.success
    assert min(ends.values()) > 20


def test_leaving_ends_without_success() -> None:
    shop = Shop()
    brought = shop.step("leave")
    assert (brought.done, brought.success, brought.reward) == (True, False, 0.0)
    assert shop.valid_actions() == ()
    assert shop.optimal_q(9) == {}
    with pytest.raises(DataError, match="none, the episode is over"):
        shop.step("leave")


def test_what_cannot_be_paid_cannot_be_bought() -> None:
    rng, poor = np.random.default_rng(1), 0
    for seed in range(300):
        shop = Shop()
        shop.reset(seed)
        _walk(shop, rng, 12)
        if shop.state.page == ITEM:
            payable = shop.wares.items[shop.state.item].price <= shop.state.money
            assert ("buy now" in shop.valid_actions()) == payable
            poor += not payable
    assert poor > 0


def test_an_action_that_is_not_there_names_those_that_are() -> None:
    shop = Shop()
    with pytest.raises(
        DataError, match=r"shop task 0: action 'buy now' .*; valid: 'search .*'leave'"
    ):
        shop.step("buy now")
    assert shop.actions == ()


def test_actions_are_in_order_and_copies_go_their_own_way() -> None:
    shop = Shop()
    shop.reset(5)
    first = shop.valid_actions()[0]
    shop.step(first)
    twin = shop.copy()
    twin.step("back to search")
    assert shop.actions == (first,)
    assert twin.actions == (first, "back to search")
    assert shop.state.page == RESULTS


def test_levels_differ_and_others_are_refused() -> None:
    assert len(make_task("easy", 1).items) < len(make_task("", 1).items)
    assert len(make_task("", 1).items) < len(make_task("hard", 1).items)
    with pytest.raises(ConfigError, match=r"no level 'expert'; levels: '', 'easy', 'hard'"):
        make("expert")
    assert isinstance(make_environment(EnvironmentConfig()), Shop)


def test_every_text_is_of_the_vocabulary_and_short() -> None:
    rng, words, longest, fewest, most = np.random.default_rng(2), set(), 0, 9, 0
    for number in range(1500):
        shop = Shop(("", "easy", "hard")[number % 3])
        shop.reset(number)
        for _ in range(15):
            actions = shop.valid_actions()
            if not actions:
                break
            prompt = build_prompt(shop.task(), shop.observe(), actions, patch=rationale(shop))
            pieces = prompt.replace(":", " :").split()
            words.update(pieces)
            longest = max(longest, len(pieces))
            fewest, most = min(fewest, len(actions)), max(most, len(actions))
            for action in actions:
                words.update(diagnosis(shop, action).split())
            shop.step(actions[rng.integers(len(actions))])
    assert words <= set(VOCABULARY)
    assert len(VOCABULARY) == len(set(VOCABULARY)) <= 150
    assert longest <= 110
    assert (fewest, most) == (2, 6)


def test_reasons_do_not_name_the_action_and_mistakes_have_a_kind() -> None:
    rng, kinds, reasons = np.random.default_rng(3), set(), set()
    for seed in range(400):
        shop = Shop()
        shop.reset(seed)
        for _ in range(15):
            action, reason = shop.expert(), rationale(shop)
            assert reason
            assert action is None or action not in reason
            if action is not None:
                assert diagnosis(shop, action) == ""
                reasons.add(reason)
            actions = shop.valid_actions()
            for other in actions:
                if diagnosis(shop, other):
                    kinds.add(error_type(shop, other))
            if not actions:
                break
            shop.step(actions[rng.integers(len(actions))])
    assert kinds == {
        "affordance_miss", "attribute_confusion", "planning_error", "exploration_failure",
    }  # fmt: skip
    assert len(reasons) > 100


def test_kinds_of_mistakes_by_example() -> None:
    shop = Shop()
    shop.reset(next(seed for seed in range(99) if _cheap_right(seed)))
    wrong = next(q for q, d in enumerate(shop.wares.routes[-1].sheets) if min(d) > 5)
    assert error_type(shop, f"search {shop.wares.queries[wrong]}") == "attribute_confusion"
    assert error_type(shop, "leave") == "exploration_failure"
    while shop.state.page != ITEM:
        shop.step(shop.expert() or "")
    assert error_type(shop, "buy now") == "affordance_miss"
    assert error_type(shop, "back to results") == "planning_error"
    assert rationale(shop).endswith("and the size is none")
    shop.step("show options")
    assert shop.state.page == CHOOSE
    others = [a for a in shop.valid_actions() if a.startswith("choose") and a != shop.expert()]
    assert [error_type(shop, action) for action in others] == ["affordance_miss"] * len(others)


def _cheap_right(seed: int) -> bool:
    """Whether a right item is on the first page of its best query."""
    return make_task("", seed).routes[-1].search == 5
