"""The shopper that a small student is warm-started on: mostly right, wrong in ways of its own.

Knows what stands on the page and in a note, and nothing that the student could not read. Some
mistakes are habits, made without doubt: white passes for grey, linen for cotton, a little over
the limit for within it, and a hat is bought without asking for its size. The
others are hesitation. So there are states where the student is unsure and states where it is
surely wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.teach.environments.shop import Shop
from cupel.teach.environments.shop_catalogue import (
    BUY,
    CHOICES,
    CLICKS,
    LEAVE,
    NEXT,
    OPTIONS,
    TO_ITEM,
    TO_RESULTS,
    TO_SEARCH,
    Item,
    Wish,
)
from cupel.teach.environments.shop_rules import CHOOSE, ITEM, RESULTS, SEARCH

Probs = NDArray[np.float64]

ALIKE = ({"white", "grey"}, {"linen", "cotton"})
"""Words that the shopper does not tell apart."""
TOLERANCE = 5
"""How much over the limit passes for within it."""
SIZELESS = "hat"
"""The kind bought without asking for a size."""
DOUBTFUL = "coat"
"""The kind of which the shopper is not sure whether it has sizes."""
NOISE = 0.02
"""Share of plain chance in every choice."""


@dataclass(frozen=True, slots=True)
class _View:
    """A wish as the shopper reads items against it."""

    wish: Wish

    def fits(self, item: Item) -> bool:
        wish = self.wish
        return (
            _alike(item.colour, wish.colour)
            and _alike(item.material, wish.material)
            and item.kind == wish.kind
            and item.price <= wish.limit + TOLERANCE
        )


def careless_probs(shop: Shop) -> Probs:
    """Return what the careless shopper would do here, over the valid actions."""
    actions = shop.valid_actions()
    weights = _WEIGHTS[shop.state.page](shop)
    found = np.array([weights.get(action, 0.0) for action in actions])
    total = found.sum()
    share = found / total if total else np.full(len(actions), 1 / len(actions))
    probs: Probs = (1 - NOISE) * share + NOISE / len(actions)
    return probs


def guided_probs(
    shop: Shop, *, follow: str | None, avoid: str | None = None, trust: float
) -> Probs:
    """Return what the shopper does who trusts a note this far."""
    actions = shop.valid_actions()
    own = careless_probs(shop)
    if avoid in actions:
        own[actions.index(avoid)] *= 1 - trust
        own /= own.sum()
    if follow is None:
        return own
    probs = (1 - trust) * own
    probs[actions.index(follow)] += trust
    return probs


def _search(shop: Shop) -> Mapping[str, float]:
    wish = shop.wares.wish
    wanted = (wish.colour, wish.material, wish.kind)
    weights = {LEAVE: 0.02 if shop.state.score == 0 else 0.3}
    for query in shop.wares.queries:
        right = all(any(_alike(word, other) for other in wanted) for word in query.split())
        weights[f"search {query}"] = 1.0 if right else 0.05
    return weights


def _results(shop: Shop) -> Mapping[str, float]:
    task, state = shop.wares, shop.state
    view = _View(task.wish)
    shown = task.sheets[state.query][state.sheet]
    weights = {NEXT: 0.25, TO_SEARCH: 0.12}
    for click, number in zip(CLICKS, shown, strict=False):
        if not view.fits(task.items[number]):
            weights[click] = 0.03
        else:
            weights[click] = 0.1 if number == state.item else 2.0
    return weights


def _item(shop: Shop) -> Mapping[str, float]:
    task, state = shop.wares, shop.state
    thing, wish = task.items[state.item], task.wish
    if not _View(wish).fits(thing):
        return {TO_RESULTS: 0.88, OPTIONS: 0.06, BUY: 0.06}
    if state.size == wish.size:
        return {BUY: 0.94, OPTIONS: 0.03, TO_RESULTS: 0.03}
    if wish.size not in thing.sizes:
        return {TO_RESULTS: 0.65, OPTIONS: 0.2, BUY: 0.15}
    if thing.kind == SIZELESS:
        return {BUY: 0.85, OPTIONS: 0.1, TO_RESULTS: 0.05}
    if thing.kind == DOUBTFUL:
        return {OPTIONS: 0.6, BUY: 0.36, TO_RESULTS: 0.04}
    return {OPTIONS: 0.93, BUY: 0.04, TO_RESULTS: 0.03}


def _choose(shop: Shop) -> Mapping[str, float]:
    wish, thing = shop.wares.wish, shop.wares.items[shop.state.item]
    weights = {CHOICES[size]: 0.08 for size in thing.sizes} | {TO_ITEM: 0.08}
    if wish.size in thing.sizes:
        weights[CHOICES[wish.size]] = 0.85
    else:
        weights[TO_ITEM] = 0.3
    return weights


def _alike(one: str, other: str) -> bool:
    return one == other or any({one, other} <= pair for pair in ALIKE)


_WEIGHTS = {SEARCH: _search, RESULTS: _results, ITEM: _item, CHOOSE: _choose}
