"""What the shop sells in one task: the wish, the items, the queries and what each lists.

Knows how a task is drawn from its number, how far a right purchase is from everywhere, and the
closed vocabulary of all the shop's texts. Refuses to know pages and wallets in motion; those are
in `shop_rules`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, combinations
from typing import TypeVar

from cupel.errors import ConfigError

VERSION = "1"
"""Changes whenever a task, a rule or a text does; snapshots of another version are refused."""

COLOURS = ("red", "blue", "green", "black", "white", "grey")
MATERIALS = ("cotton", "wool", "linen", "silk")
KINDS = ("shirt", "dress", "coat", "hat", "skirt")
SIZES = ("s", "m", "l")
NUMBERS = tuple(str(number) for number in sorted({*range(6), *range(5, 105, 5)}))

SHEET = 3
"""Items a results page shows."""

CLICKS = tuple(f"click item {number}" for number in range(1, SHEET + 1))
CHOICES = tuple(f"choose size {size}" for size in SIZES)
NEXT, PREVIOUS, TO_SEARCH = "next page", "previous page", "back to search"
OPTIONS, BUY, TO_RESULTS, TO_ITEM, LEAVE = (
    "show options", "buy now", "back to results", "back to item", "leave",
)  # fmt: skip

_WORDS = """
: ; task state actions action note
search click choose show buy now next previous back to leave item page results options size sizes
a for at most of price money score seen none from you left shop order is right
the wants this has no not match matches within over limit here and on an first lists with item's
enough other only spent wrong more best do instead that it in one step before but was will
pages there remember example good look read words again carefully
"""
VOCABULARY: tuple[str, ...] = tuple(
    dict.fromkeys((*_WORDS.split(), *COLOURS, *MATERIALS, *KINDS, *SIZES, *NUMBERS))
)
"""Every piece of every text of the shop, of its expert's reasons and of the prompt's frame; texts
are lower-case pieces separated by single spaces, punctuation being pieces of its own."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be bought."""

    colour: str
    material: str
    kind: str
    size: int
    limit: int

    @property
    def text(self) -> str:
        """The instruction."""
        return (
            f"buy a {self.colour} {self.material} {self.kind} "
            f"size {SIZES[self.size]} for at most {self.limit}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing on sale.

    Attributes:
        sizes: on offer, as numbers of `SIZES`.
        matched: how many of colour, material, kind and price are as wished.
        right: all four are, and the size is on offer.
        choices: the valid actions of its options page.
    """

    colour: str
    material: str
    kind: str
    price: int
    sizes: tuple[int, ...]
    matched: int
    right: bool
    choices: tuple[str, ...]

    @property
    def title(self) -> str:
        """Attributes and price."""
        return f"{self.colour} {self.material} {self.kind} price {self.price}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """Fewest steps to the right purchase, with a given wallet.

    Attributes:
        search: from the search page.
        sheets: from each query's results pages.
    """

    search: float
    sheets: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Task:
    """All that does not change while shopping.

    Attributes:
        money: in the wallet at the start.
        queries: what can be searched, e.g. `red shirt`, in the order of the search page.
        search_actions, sheet_actions: valid actions of the search page and of [query][sheet].
        number_of: the query's number by its action.
        sheets: the items shown, by [query][sheet].
        right_prices: of the right items, ascending.
        routes: by the number of right items that can be paid.
    """

    seed: int
    wish: Wish
    money: int
    items: tuple[Item, ...]
    queries: tuple[str, ...]
    search_actions: tuple[str, ...]
    number_of: Mapping[str, int]
    sheets: tuple[tuple[tuple[int, ...], ...], ...]
    sheet_actions: tuple[tuple[tuple[str, ...], ...], ...]
    right_prices: tuple[int, ...]
    routes: tuple[Routes, ...]

    def routes_with(self, money: int) -> Routes:
        """Return the distances of somebody with this much money."""
        return self.routes[sum(price <= money for price in self.right_prices)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """How hard: numbers of items that are wrong in one thing, and money beyond the limit."""

    colour: int
    material: int
    kind: int
    price: int
    size: int
    spare: tuple[int, ...]


LEVELS: Mapping[str, Level] = {
    "": Level(colour=2, material=2, kind=1, price=2, size=1, spare=(5, 10, 20, 30)),
    "easy": Level(colour=1, material=1, kind=1, price=1, size=0, spare=(10, 20, 30)),
    "hard": Level(colour=3, material=3, kind=2, price=3, size=1, spare=(0, 5, 10)),
}


class _Draws:
    """Whole numbers drawn from one hash of the task's name."""

    def __init__(self, name: str) -> None:
        self._bytes = hashlib.shake_256(name.encode()).digest(1024)
        self._at = 0

    def below(self, count: int) -> int:
        self._at += 2
        return int.from_bytes(self._bytes[self._at - 2 : self._at], "little") % count

    def pick(self, values: Sequence[_T]) -> _T:
        return values[self.below(len(values))]

    def other(self, values: Sequence[_T], than: _T) -> _T:
        return self.pick([value for value in values if value != than])

    def shuffled(self, values: Sequence[_T]) -> list[_T]:
        mixed = list(values)
        for last in range(len(mixed) - 1, 0, -1):
            at = self.below(last + 1)
            mixed[last], mixed[at] = mixed[at], mixed[last]
        return mixed


@lru_cache(maxsize=4096)
def make_task(level: str, seed: int) -> Task:
    """Draw a task; equal arguments give equal tasks in every process.

    Raises:
        ConfigError: there is no such level.
    """
    if level not in LEVELS:
        known = ", ".join(f"'{name}'" for name in LEVELS)
        raise ConfigError(f"shop: no level '{level}'; levels: {known}")
    draws = _Draws(f"cupel shop {VERSION} {level} {seed}")
    wish = Wish(
        colour=draws.pick(COLOURS),
        material=draws.pick(MATERIALS),
        kind=draws.pick(KINDS),
        size=draws.below(len(SIZES)),
        limit=20 + 5 * draws.below(7),
    )
    items = tuple(draws.shuffled(_stock(wish, LEVELS[level], draws)))
    queries = tuple(draws.shuffled(_queries(wish, items)))
    sheets = tuple(_listed(query, items) for query in queries)
    rights = sorted((item.price, at) for at, item in enumerate(items) if item.right)
    search_actions = tuple(f"search {query}" for query in queries)
    return Task(
        seed=seed,
        wish=wish,
        money=wish.limit + draws.pick(LEVELS[level].spare),
        items=items,
        queries=queries,
        search_actions=(*search_actions, LEAVE),
        number_of={action: number for number, action in enumerate(search_actions)},
        sheets=sheets,
        sheet_actions=tuple(
            tuple(_sheet_actions(pages, number) for number in range(len(pages))) for pages in sheets
        ),
        right_prices=tuple(price for price, _ in rights),
        routes=tuple(
            _routes(sheets, {at for _, at in rights[:payable]})
            for payable in range(len(rights) + 1)
        ),
    )


def _stock(wish: Wish, level: Level, draws: _Draws) -> list[Item]:
    """Draw the right items, and those that are wrong in exactly one thing."""

    def item(
        colour: str = wish.colour,
        material: str = wish.material,
        kind: str = wish.kind,
        extra: int = 0,
        lacks_size: bool = False,
    ) -> Item:
        price = wish.limit + extra if extra else max(10, wish.limit - 5 * draws.below(5))
        others = [size for size in range(len(SIZES)) if size != wish.size]
        sizes = draws.pick([*([size] for size in others), others])
        if not lacks_size:
            sizes = sorted({wish.size, *sizes})
        wrong = (colour != wish.colour) + (material != wish.material) + (kind != wish.kind)
        matched = 4 - wrong - (price > wish.limit)
        return Item(
            colour=colour,
            material=material,
            kind=kind,
            price=price,
            sizes=tuple(sizes),
            matched=matched,
            right=matched == 4 and not lacks_size,
            choices=(*(CHOICES[size] for size in sizes), TO_ITEM),
        )

    stock = [item() for _ in range(1 + (draws.below(3) == 0))]
    stock += [item(colour=draws.other(COLOURS, wish.colour)) for _ in range(level.colour)]
    stock += [item(material=draws.other(MATERIALS, wish.material)) for _ in range(level.material)]
    stock += [item(kind=draws.other(KINDS, wish.kind)) for _ in range(level.kind)]
    stock += [item(extra=5 * (1 + draws.below(3))) for _ in range(level.price)]
    stock += [item(lacks_size=True) for _ in range(level.size)]
    return stock


def _queries(wish: Wish, items: Sequence[Item]) -> list[str]:
    """Return three queries that list every right item, and one that lists none."""
    stray = next(item.colour for item in items if item.colour != wish.colour)
    right = combinations((wish.colour, wish.material, wish.kind), 2)
    return [*(" ".join(pair) for pair in right), f"{stray} {wish.kind}"]


def _listed(query: str, items: Sequence[Item]) -> tuple[tuple[int, ...], ...]:
    """Return the items that a query finds, in sheets."""
    words = set(query.split())
    found = [
        at for at, item in enumerate(items) if words <= {item.colour, item.material, item.kind}
    ]
    return tuple(tuple(found[at : at + SHEET]) for at in range(0, len(found), SHEET))


def _sheet_actions(pages: Sequence[Sequence[int]], number: int) -> tuple[str, ...]:
    turns = [(NEXT, number + 1 < len(pages)), (PREVIOUS, number > 0), (TO_SEARCH, True)]
    return (*CLICKS[: len(pages[number])], *(action for action, there in turns if there))


def _routes(sheets: Sequence[Sequence[Sequence[int]]], targets: set[int]) -> Routes:
    """Compute the distances; a right item is bought by click, options, choice and purchase."""
    places = [
        [number for number, sheet in enumerate(pages) if targets & set(sheet)] for pages in sheets
    ]
    search = min((1 + place + 4 for place in chain.from_iterable(places)), default=math.inf)
    return Routes(
        search=search,
        sheets=tuple(
            tuple(
                min([1 + search, *(abs(number - place) + 4 for place in found)])
                for number in range(len(pages))
            )
            for pages, found in zip(sheets, places, strict=True)
        ),
    )
