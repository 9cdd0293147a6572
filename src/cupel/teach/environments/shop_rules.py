"""The rules of the shop: what can be done in a state, what comes of it, how far success is.

Knows states as plain tuples and pure functions of them. Refuses to know histories: who was here
before is in the wallet and in the score, nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from cupel.teach.environments.base import Step
from cupel.teach.environments.shop_catalogue import (
    BUY,
    CHOICES,
    CLICKS,
    LEAVE,
    NEXT,
    OPTIONS,
    SIZES,
    TO_RESULTS,
    TO_SEARCH,
    Task,
)

SEARCH, RESULTS, ITEM, CHOOSE, BOUGHT, LEFT = range(6)
"""The pages; the last two are ends: the right thing was bought, or the shop was left."""

PARTS = 5
"""What a purchase is judged by: colour, material, kind, price, size."""


class State(NamedTuple):
    """Where one is.

    Attributes:
        seed: the task.
        page: one of the pages above.
        query, sheet: the results that are shown, or that one came from; -1 before a search.
        item: looked at; on a results page the one looked at last; -1 for none.
        size: chosen, as a number of `SIZES`; -1 for none.
        money: left in the wallet.
        score: parts matched by the best purchase so far.
    """

    seed: int
    page: int
    query: int
    sheet: int
    item: int
    size: int
    money: int
    score: int


_ITEM_ACTIONS = (OPTIONS, TO_RESULTS)
_PAYABLE_ACTIONS = (BUY, OPTIONS, TO_RESULTS)
_CLICK_OF = {action: number for number, action in enumerate(CLICKS)}
_CHOICE_OF = {action: number for number, action in enumerate(CHOICES)}
_QUIET = Step(reward=0.0, done=False, success=False)
_LEFT = Step(reward=0.0, done=True, success=False)
_PURCHASES: Mapping[int, Step] = {
    gain: Step(reward=gain / PARTS, done=False, success=False) for gain in range(PARTS)
}
_SUCCESSES: Mapping[int, Step] = {
    gain: Step(reward=gain / PARTS, done=True, success=True) for gain in range(1, PARTS + 1)
}


def start(task: Task) -> State:
    """Return the state that a task begins in."""
    return State(task.seed, SEARCH, -1, -1, -1, -1, task.money, 0)


def valid_actions(task: Task, state: State) -> tuple[str, ...]:
    """Return what can be done."""
    _, page, query, sheet, item, _, money, _ = state
    if page == RESULTS:
        return task.sheet_actions[query][sheet]
    if page == ITEM:
        return _PAYABLE_ACTIONS if task.items[item].price <= money else _ITEM_ACTIONS
    if page == CHOOSE:
        return task.items[item].choices
    return task.search_actions if page == SEARCH else ()


def after(task: Task, state: State, action: str) -> tuple[State, Step]:
    """Return what a valid action leads to.

    A purchase is paid at once and kept for good. It is rewarded by how much better than the best
    before it is, so that a return is the share of parts that the best purchase matched, and 1 with
    success only.
    """
    seed, page, query, sheet, item, size, money, score = state
    if page == RESULTS:
        place = _CLICK_OF.get(action)
        if place is not None:
            shown = task.sheets[query][sheet][place]
            return State(seed, ITEM, query, sheet, shown, -1, money, score), _QUIET
        if action == TO_SEARCH:
            return State(seed, SEARCH, -1, -1, -1, -1, money, score), _QUIET
        turned = sheet + (1 if action == NEXT else -1)
        return State(seed, RESULTS, query, turned, -1, -1, money, score), _QUIET
    if page == ITEM:
        if action == BUY:
            return _bought(task, state)
        if action == OPTIONS:
            return State(seed, CHOOSE, query, sheet, item, size, money, score), _QUIET
        return State(seed, RESULTS, query, sheet, item, -1, money, score), _QUIET
    if page == CHOOSE:
        chosen = _CHOICE_OF.get(action, size)
        return State(seed, ITEM, query, sheet, item, chosen, money, score), _QUIET
    if action == LEAVE:
        return State(seed, LEFT, -1, -1, -1, -1, money, score), _LEFT
    return State(seed, RESULTS, task.number_of[action], 0, -1, -1, money, score), _QUIET


def _bought(task: Task, state: State) -> tuple[State, Step]:
    seed, _, query, sheet, item, size, money, score = state
    thing = task.items[item]
    matched = thing.matched + (size == task.wish.size)
    gain = max(0, matched - score)
    left = money - thing.price
    if matched == PARTS:
        return State(seed, BOUGHT, -1, -1, -1, -1, left, PARTS), _SUCCESSES[gain]
    found = State(seed, RESULTS, query, sheet, item, -1, left, score + gain)
    return found, _PURCHASES[gain]


def distance(task: Task, state: State) -> float:
    """Return the fewest steps to success; infinite in a dead end.

    A wrong purchase leads where `back to results` leads, with less money: no shortest way has one.
    """
    page, money = state.page, state.money
    if page in (BOUGHT, LEFT):
        return 0 if page == BOUGHT else math.inf
    routes = task.routes_with(money)
    if page == SEARCH:
        return routes.search
    back = routes.sheets[state.query][state.sheet]
    if page == RESULTS:
        return back
    thing = task.items[state.item]
    ready = state.size == task.wish.size
    if not (thing.right and thing.price <= money):
        return back + (1 if page == ITEM else 2)
    if page == ITEM:
        return 1 if ready else 3
    return 2


def observation(task: Task, state: State) -> str:
    """Return what is seen: everything that decides what the actions do, but unseen items."""
    if state.page == BOUGHT:
        return "the order is right"
    if state.page == LEFT:
        return "you left the shop"
    wallet = f"money {state.money} ; score {state.score}"
    if state.page == SEARCH:
        return f"search page ; {wallet}"
    sheets = task.sheets[state.query]
    where = f"{task.queries[state.query]} page {state.sheet + 1}"
    if state.page == RESULTS:
        shown = sheets[state.sheet]
        lines = [f"item {at + 1} {task.items[item].title}" for at, item in enumerate(shown)]
        seen = f"item {shown.index(state.item) + 1}" if state.item >= 0 else "none"
        listed = " ; ".join(lines)
        return f"results for {where} of {len(sheets)} ; {listed} ; seen {seen} ; {wallet}"
    thing = task.items[state.item]
    sizes = " ".join(SIZES[size] for size in thing.sizes)
    chosen = SIZES[state.size] if state.size >= 0 else "none"
    page = "item" if state.page == ITEM else "options for"
    return f"{page} {thing.title} ; sizes {sizes} ; size {chosen} ; from {where} ; {wallet}"
