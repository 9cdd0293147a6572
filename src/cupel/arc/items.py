"""Supervised items made on the fly: one pair asked, the other pairs shown.

Knows leave-one-out, augmentation by counters (epoch, puzzle) and exact passes over the data.
Refuses to store augmented data anywhere, and to know batches, tensors and models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pydantic import Field, model_validator

from cupel.arc.augmentations import IDENTITY, Augmentation
from cupel.arc.drawing import DrawnPuzzle, Item, draw, free_space, make_item, solved_pairs
from cupel.arc.fixed_items import evaluation_items, probe_items
from cupel.arc.grids import MAX_SIDE, Puzzle
from cupel.arc.tokens import SIDES, bucket_of
from cupel.config import Config, fingerprint, to_dict
from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of

__all__ = ["Item", "ItemConfig", "ItemStream", "evaluation_items", "probe_items"]


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
    """Ask all pairs of a puzzle one after the other, so that a batch has more pairs in common, each
    encoded once, but fewer puzzles."""
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
        ids = [puzzle.id for puzzle in self.puzzles]
        twice = sorted({id for id in ids if ids.count(id) > 1})
        if twice:
            raise DataError(f"task {twice[0]} was given twice; every puzzle must be unique")
        self._random = Randomness(seed)
        self._counters = [counter_of(id) for id in ids]
        self._side_of = [bucket_of(puzzle, self.config.sides) for puzzle in self.puzzles]
        self._targets = [solved_pairs(puzzle) for puzzle in self.puzzles]
        self._members: dict[int, list[int]] = {}
        for index, targets in enumerate(self._targets):
            if len(targets) >= 2:
                self._members.setdefault(self._side_of[index], []).append(index)
        if not self._members:
            raise DataError(
                f"none of {len(ids)} puzzles has two solved pairs, one to ask and one to show"
            )
        self.sides = tuple(sorted(self._members))
        self.epoch_size = {
            side: sum(len(self._targets[index]) for index in members)
            for side, members in self._members.items()
        }
        self.skipped = tuple(ids[i] for i, found in enumerate(self._targets) if len(found) < 2)
        about = {"seed": seed, "ids": ids, "content": _content(self.puzzles)}
        self._fingerprint = fingerprint({**about, "config": to_dict(self.config)})
        self._cursor = dict.fromkeys(self.sides, (0, 0))
        self._orders: dict[int, tuple[int, list[tuple[int, int]]]] = {}
        self._epochs: dict[int, _Epoch] = {}

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
        return make_item(
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


def _content(puzzles: Sequence[Puzzle]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for puzzle in puzzles:
        for pair in puzzle.pairs:
            for grid in (pair.input, pair.output):
                digest.update(b"none" if grid is None else bytes(grid.shape) + grid.tobytes())
    return digest.hexdigest()
