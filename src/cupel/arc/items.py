"""Supervised items made on the fly: one pair asked, the other pairs shown.

Knows leave-one-out, augmentation by counters (epoch, puzzle) and exact passes over the data.
Refuses to store augmented data anywhere, and to know batches, tensors and models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from cupel.arc.augmentations import IDENTITY, Augmentation
from cupel.arc.drawing import DrawnPuzzle, draw, free_space
from cupel.arc.grids import MAX_SIDE, Puzzle
from cupel.arc.tokens import SIDES, Tokens, bucket_of
from cupel.config import Config
from cupel.config import fingerprint as config_fingerprint
from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One query with its context, on canvases of `side`; S = side * side, K >= 1 shown pairs.

    `label` is PAD where nothing is asked (everywhere when the answer is not known).
    `puzzle_index` is the place among the puzzles the item was made from. `pair_index` counts
    demonstrations first, then tests; `demo_indices` say which pairs are shown, in their order.
    Items of equal (`puzzle_id`, `augmentation`, `epoch`) show a pair with equal tokens.
    """

    puzzle_id: str
    puzzle_index: int
    augmentation: Augmentation
    side: int
    demo_inputs: Tokens
    demo_outputs: Tokens
    query: Tokens
    label: Tokens
    pair_index: int
    demo_indices: tuple[int, ...]
    offset: tuple[int, int]
    epoch: int
    test_index: int | None

    @property
    def is_test(self) -> bool:
        """Whether the query is one of the puzzle's test inputs."""
        return self.test_index is not None


class ItemConfig(Config):
    """How training items are drawn."""

    dihedral: bool = True
    """Turn and mirror every task anew in every epoch."""
    colours: bool = True
    """Permute the colours 1 to 9 anew in every epoch."""
    translate: bool = True
    """Move every pair to a random place of its canvas."""
    shuffle_demos: bool = True
    """Show the other pairs in a random order."""
    subset_prob: float = Field(default=0.5, ge=0.0, le=1.0)
    """Probability of showing only some of the other pairs, 1 to all but one, uniformly."""
    max_demos: int = Field(default=10, ge=1)
    """Most pairs shown with a query."""
    together: bool = False
    """Ask all pairs of a puzzle one after the other, so that their encodings can be shared."""
    sides: tuple[int, ...] = SIDES
    """Sides of the canvases, ascending; a puzzle is drawn on the smallest that fits."""

    @model_validator(mode="after")
    def _check_sides(self) -> Self:
        if not self.sides or list(self.sides) != sorted(set(self.sides)):
            raise ValueError("sides must ascend, e.g. [10, 15, 20, 30]")
        if not 1 <= self.sides[0] <= self.sides[-1] <= MAX_SIDE:
            raise ValueError(f"sides are 1 to {MAX_SIDE}")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    """What one epoch decided for one puzzle."""

    number: int
    drawn: DrawnPuzzle
    contexts: dict[int, tuple[int, ...]]


class ItemStream:
    """Items of every puzzle, in exact epochs per canvas side.

    One epoch of a side asks every solved pair of every puzzle of that side exactly once. All
    draws are functions of (seed, epoch, puzzle), so neither order of calls nor `n` changes an
    item, and the state is two numbers a side. Tokens of the current epoch are kept in memory
    (a few MB for all of ARC), so a pair is encoded once an epoch, not once a query.

    Attributes (all fixed by the constructor): `sides` in use, ascending; `epoch_size`, items per
    side and epoch; `skipped`, ids of puzzles with fewer than two solved pairs: with nothing to
    show, they yield no item; `puzzles` as given, which `Item.puzzle_index` points into.
    """

    def __init__(
        self, puzzles: Sequence[Puzzle], seed: int, config: ItemConfig | None = None
    ) -> None:
        """Sort the puzzles into canvases.

        Raises:
            DataError: an id twice, a puzzle that fits no canvas, or no pair to ask at all.
        """
        self.puzzles = tuple(puzzles)
        self.config = config or ItemConfig()
        self._random = Randomness(seed)
        ids = [puzzle.id for puzzle in self.puzzles]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise DataError(f"task {twice[0]} was given twice; every puzzle must be unique")
        self._counters = [counter_of(id) for id in ids]
        self._side_of = [bucket_of(puzzle, self.config.sides) for puzzle in self.puzzles]
        self._targets = [_solved(puzzle) for puzzle in self.puzzles]
        self.skipped = tuple(
            id for id, targets in zip(ids, self._targets, strict=True) if len(targets) < 2
        )
        self._members = self._sort_into_sides()
        self.sides = tuple(sorted(self._members))
        self.epoch_size = {
            side: sum(len(self._targets[index]) for index in members)
            for side, members in self._members.items()
        }
        if not self.sides:
            raise DataError(
                f"none of {len(ids)} puzzles has two solved pairs, one to ask and one to show"
            )
        self._fingerprint = config_fingerprint(
            {
                "seed": seed,
                "ids": ids,
                "targets": self._targets,
                **self.config.model_dump(mode="json"),
            }
        )
        self._cursor = dict.fromkeys(self.sides, (0, 0))
        self._orders: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        self._epochs: dict[int, _Epoch] = {}

    def _sort_into_sides(self) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        for index, targets in enumerate(self._targets):
            if len(targets) >= 2:
                members.setdefault(self._side_of[index], []).append(index)
        return members

    def take(self, n: int, side: int) -> list[Item]:
        """Return the next n items of a side; runs on into the next epoch where one ends.

        Raises:
            DataError: no puzzle has this side, or n is negative.
        """
        self._check_side(side)
        if n < 0:
            raise DataError(f"take: n = {n}; ask for 0 or more items")
        items = []
        epoch, position = self._cursor[side]
        for _ in range(n):
            order = self._order(side, epoch)
            index, target = order[position]
            items.append(self._item(epoch, index, target))
            position += 1
            if position == len(order):
                epoch, position = epoch + 1, 0
        self._cursor[side] = (epoch, position)
        return items

    def progress(self, side: int) -> float:
        """Return the passes over a side so far, e.g. 2.25."""
        self._check_side(side)
        epoch, position = self._cursor[side]
        return epoch + position / self.epoch_size[side]

    def behind(self) -> int:
        """Return the side with the least progress, the larger epoch first where equal.

        Taking from it keeps all sides within one call of the same epoch.
        """
        return min(self.sides, key=lambda side: (self.progress(side), -self.epoch_size[side]))

    def state(self) -> dict[str, Any]:
        """Return the position as JSON data."""
        cursors = {str(side): list(self._cursor[side]) for side in self.sides}
        return {"fingerprint": self._fingerprint, "cursors": cursors}

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position, exactly.

        Raises:
            DataError: the state was saved with other puzzles, another seed or other settings.
        """
        if state.get("fingerprint") != self._fingerprint:
            raise DataError(
                f"item stream: the saved position belongs to {state.get('fingerprint')}, this "
                f"stream is {self._fingerprint}; resume with the same puzzles, seed and settings"
            )
        cursors = {int(side): tuple(place) for side, place in state["cursors"].items()}
        for side in self.sides:
            epoch, position = cursors[side]
            assert epoch >= 0
            assert 0 <= position < self.epoch_size[side]
            self._cursor[side] = (epoch, position)

    def _check_side(self, side: int) -> None:
        if side not in self.epoch_size:
            raise DataError(f"no puzzle is drawn at side {side}; sides in use: {self.sides}")

    def _order(self, side: int, epoch: int) -> list[tuple[int, int]]:
        cached = self._orders.get(side)
        if cached is not None and cached[0] == epoch:
            return cached[1]
        rng = self._random.generator("arc.order", epoch, side)
        members = self._members[side]
        shuffled = [members[i] for i in rng.permutation(len(members))]
        order = [(index, target) for index in shuffled for target in self._targets[index]]
        if not self.config.together:
            order = [order[i] for i in rng.permutation(len(order))]
        self._orders[side] = (epoch, order)
        return order

    def _item(self, epoch: int, index: int, target: int) -> Item:
        cached = self._epochs.get(index)
        if cached is None or cached.number != epoch:
            cached = self._epochs[index] = self._draw(epoch, index)
        return _make_item(
            self.puzzles[index], index, self._side_of[index], cached.drawn, epoch,
            target, cached.contexts[target],
        )  # fmt: skip

    def _draw(self, epoch: int, index: int) -> _Epoch:
        """Decide augmentation, places and contexts of a puzzle in an epoch.

        Every choice is drawn whether or not its setting uses it, so that one setting does not
        shift the draws of another.
        """
        puzzle, side, config = self.puzzles[index], self._side_of[index], self.config
        rng = self._random.generator("arc.augment", epoch, self._counters[index])
        sampled = Augmentation.sample(rng)
        augmentation = Augmentation(
            sampled.dihedral if config.dihedral else 0,
            sampled.colours if config.colours else IDENTITY.colours,
        )
        room_P2 = free_space(puzzle, side, augmentation)
        places_P2 = (rng.random(room_P2.shape) * (room_P2 + 1)).astype(np.int64)
        offsets = [(top, left) for top, left in places_P2.tolist()] if config.translate else None
        contexts = {target: self._context(index, target, rng) for target in self._targets[index]}
        drawn = draw(puzzle, side, augmentation, offsets)
        return _Epoch(number=epoch, drawn=drawn, contexts=contexts)

    def _context(self, index: int, target: int, rng: np.random.Generator) -> tuple[int, ...]:
        others = [pair for pair in self._targets[index] if pair != target]
        order = rng.permutation(len(others))
        wants_some, share = rng.random(2).tolist()
        count = len(others)
        if count > 1 and wants_some < self.config.subset_prob:
            count = 1 + int(share * (count - 1))
        chosen = order[: min(count, self.config.max_demos)]
        if not self.config.shuffle_demos:
            chosen = np.sort(chosen)
        return tuple(others[i] for i in chosen)


def evaluation_items(
    puzzles: Sequence[Puzzle],
    n_augmentations: int,
    seed: int,
    sides: Sequence[int] = SIDES,
) -> Iterator[Item]:
    """Yield every test input under up to n distinct augmentations, all demonstrations shown.

    The first augmentation is the identity. Distinct means distinct tokens, shapes included; a
    puzzle that looks the same under most symmetries yields fewer than n. Sides ascend, grids
    stay in the corner, items of one (puzzle, augmentation) follow one another. `epoch` is the
    number of the augmentation.

    Raises:
        DataError: a puzzle fits no canvas, or n is below 1.
    """
    random = Randomness(seed)
    for index, side in _by_side(puzzles, sides):
        puzzle = puzzles[index]
        shown = tuple(range(len(puzzle.demos)))
        for number, drawn in enumerate(_distinct(puzzle, side, n_augmentations, random)):
            for target in range(len(puzzle.demos), len(puzzle.pairs)):
                yield _make_item(puzzle, index, side, drawn, number, target, shown)


def probe_items(
    puzzles: Sequence[Puzzle],
    n_augmentations: int = 1,
    seed: int = 0,
    sides: Sequence[int] = SIDES,
) -> Iterator[Item]:
    """Yield every solved pair as query, all other solved pairs shown, in a fixed order.

    The first augmentation is the identity; nothing is moved from the corner. Puzzles with fewer
    than two solved pairs yield nothing, as in training.

    Raises:
        DataError: a puzzle fits no canvas, or n is below 1.
    """
    random = Randomness(seed)
    for index, side in _by_side(puzzles, sides):
        puzzle = puzzles[index]
        targets = _solved(puzzle)
        if len(targets) < 2:
            continue
        for number, drawn in enumerate(_distinct(puzzle, side, n_augmentations, random)):
            for target in targets:
                shown = tuple(pair for pair in targets if pair != target)
                yield _make_item(puzzle, index, side, drawn, number, target, shown)


_TRIALS_PER_AUGMENTATION = 5


def _distinct(puzzle: Puzzle, side: int, n: int, random: Randomness) -> Iterator[DrawnPuzzle]:
    if n < 1:
        raise DataError(f"n_augmentations = {n}; 1 is the puzzle as it is")
    rng = random.generator("arc.evaluate", counter_of(puzzle.id))
    seen: set[bytes] = set()
    augmentation = IDENTITY
    for _ in range(n * _TRIALS_PER_AUGMENTATION):
        drawn = draw(puzzle, side, augmentation)
        content = drawn.tokens_P2S.tobytes()
        if content not in seen:
            seen.add(content)
            yield drawn
        if len(seen) == n:
            return
        augmentation = Augmentation.sample(rng)


def _by_side(puzzles: Sequence[Puzzle], sides: Sequence[int]) -> list[tuple[int, int]]:
    placed = [(index, bucket_of(puzzle, sides)) for index, puzzle in enumerate(puzzles)]
    return sorted(placed, key=lambda place: (place[1], place[0]))


def _solved(puzzle: Puzzle) -> list[int]:
    return [number for number, pair in enumerate(puzzle.pairs) if pair.solved]


def _make_item(
    puzzle: Puzzle,
    index: int,
    side: int,
    drawn: DrawnPuzzle,
    epoch: int,
    target: int,
    shown: tuple[int, ...],
) -> Item:
    demos_K2S = drawn.tokens_P2S[list(shown)]
    n_demos = len(puzzle.demos)
    return Item(
        puzzle_id=puzzle.id,
        puzzle_index=index,
        augmentation=drawn.augmentation,
        side=side,
        demo_inputs=demos_K2S[:, 0],
        demo_outputs=demos_K2S[:, 1],
        query=drawn.tokens_P2S[target, 0],
        label=drawn.tokens_P2S[target, 1],
        pair_index=target,
        demo_indices=shown,
        offset=drawn.offsets[target],
        epoch=epoch,
        test_index=target - n_demos if target >= n_demos else None,
    )
