"""The shop's expert in words: why its action is right, and what is wrong with another.

Knows the reasons, all in the shop's vocabulary and none naming the action to take. Refuses to
know who asks: teachers are in `cupel.teach.teachers.teacher`.
"""

from __future__ import annotations

from typing import Literal

from cupel.teach.environments.shop import Shop
from cupel.teach.environments.shop_catalogue import BUY, LEAVE, NEXT, PREVIOUS, SIZES, Item, Wish
from cupel.teach.environments.shop_rules import (
    BOUGHT,
    CHOOSE,
    ITEM,
    LEFT,
    RESULTS,
    SEARCH,
    after,
    distance,
)

ErrorType = Literal[
    "affordance_miss", "attribute_confusion", "planning_error", "exploration_failure"
]


def rationale(environment: Shop) -> str:
    """Say why the expert's action is right here, without the action's text.

    In a dead end, where the expert has no action, say so.
    """
    action = environment.expert()
    task, state = environment.wares, environment.state
    if action is None:
        return _without_expert(state.page)
    if state.page == SEARCH:
        query = task.queries[task.number_of[action]]
        return (
            f"the right item is on the first page of {query}"
            if _early(environment, query)
            else (f"{query} lists the right item within other pages")
        )
    if state.page == RESULTS:
        return _on_results(environment, action)
    item = task.items[state.item]
    wrong = mismatch(task.wish, item)
    if wrong:
        return wrong
    if action == BUY:
        return "the item matches the task and the size is right"
    size = SIZES[task.wish.size]
    chosen = SIZES[state.size] if state.size >= 0 else "none"
    return f"the task wants size {size} and the size is {chosen}"


def mismatch(wish: Wish, item: Item) -> str:
    """Say what is wrong with an item, the first thing only; empty if nothing is."""
    pairs = (
        (wish.kind, item.kind),
        (wish.colour, item.colour),
        (wish.material, item.material),
    )
    for wanted, found in pairs:
        if wanted != found:
            return f"the task wants {wanted} and this item is {found}"
    if item.price > wish.limit:
        return f"the price {item.price} is over the limit {wish.limit}"
    if wish.size not in item.sizes:
        return f"the task wants size {SIZES[wish.size]} and this item has no {SIZES[wish.size]}"
    return ""


def error_type(environment: Shop, action: str) -> ErrorType:
    """Say what kind of mistake an action is.

    affordance_miss: bought, or chose, without the wanted size; attribute_confusion: went for
    words, an item or a price that the task does not want; exploration_failure: gave up, or turned
    away from where the right item is; planning_error: any other detour, and everything done in a
    dead end.
    """
    task, state = environment.wares, environment.state
    if action == LEAVE:
        return "exploration_failure"
    if environment.expert() is None:
        return "planning_error"
    found, _ = after(task, state, action)
    if state.page == SEARCH:
        listed = any(task.items[item].right for sheet in task.sheets[found.query] for item in sheet)
        return "planning_error" if listed else "attribute_confusion"
    if state.page == RESULTS:
        if found.page == ITEM:
            wrong = mismatch(task.wish, task.items[found.item])
            return "attribute_confusion" if wrong else "planning_error"
        return "exploration_failure"
    wrong = mismatch(task.wish, task.items[state.item])
    if wrong:
        return "attribute_confusion"
    if action == BUY or (state.page == CHOOSE and found.size != task.wish.size):
        return "affordance_miss"
    return "planning_error"


def diagnosis(environment: Shop, action: str) -> str:
    """Say what an action gets wrong here; empty where it is as good as the expert's.

    In a dead end every action gets what the expert's silence means.
    """
    task, state = environment.wares, environment.state
    if environment.expert() is None:
        return _without_expert(state.page)
    found, _ = after(task, state, action)
    if distance(task, found) == distance(task, state) - 1:
        return ""
    if action == LEAVE:
        return "the right item is in this shop and you left"
    item = found.item if found.page == ITEM else state.item
    wrong = mismatch(task.wish, task.items[item]) if item >= 0 else ""
    if state.page == SEARCH:
        return f"{task.queries[found.query]} is not the best search"
    if state.page == RESULTS and found.page != ITEM:
        return "the right item is not there"
    if wrong:
        return wrong
    if error_type(environment, action) == "affordance_miss":
        return f"the task wants size {SIZES[task.wish.size]} and that is not the size"
    return "this is not the best step"


def _without_expert(page: int) -> str:
    if page == BOUGHT:
        return "the order is right"
    if page == LEFT:
        return "you left the shop"
    return "the money is spent and not enough for the right item"


def _early(environment: Shop, query: str) -> bool:
    task = environment.wares
    first = task.sheets[task.queries.index(query)][0]
    return any(
        task.items[item].right and task.items[item].price <= environment.state.money
        for item in first
    )


def _on_results(environment: Shop, action: str) -> str:
    task, state = environment.wares, environment.state
    found, _ = after(task, state, action)
    if found.page == ITEM:
        wish, place = task.wish, task.sheets[state.query][state.sheet].index(found.item)
        return (
            f"item {place + 1} is a {wish.colour} {wish.material} {wish.kind} "
            "and the price is within the limit"
        )
    if action in (NEXT, PREVIOUS):
        return "no item here matches the task and the right item is on other pages"
    return f"{task.queries[state.query]} is not the best search for the task"
