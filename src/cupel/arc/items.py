"""Supervised items made on the fly: one pair asked, the other pairs shown.

Knows leave-one-out, augmentation by counters (epoch, puzzle) and exact passes over the data.
Refuses to store augmented data anywhere, and to know batches, tensors and models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cupel.arc.augmentations import Augmentation
from cupel.arc.grids import Puzzle
from cupel.arc.tokens import SIDES, Tokens
from cupel.config import Config


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Item:
    """One query with its context, on canvases of `side`; S = side * side, K >= 1 shown pairs.

    `label` is PAD where nothing is asked (everywhere when the answer is not known).
    `pair_index` counts demonstrations first, then tests; `demo_indices` say which pairs are
    shown. Items of equal (`puzzle_id`, `augmentation`, `epoch`) show a pair with equal tokens.
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
    is_test: bool
    test_index: int | None


class ItemConfig(Config):
    """How training items are drawn."""

    dihedral: bool = True
    """Turn and mirror every task anew in every epoch."""
    colours: bool = True
    """Permute the colours 1 to 9 anew in every epoch."""
    translate: bool = True
    """Move every pair to a random place of its canvas."""
    subset_prob: float = 0.5
    """Probability of showing only some of the other pairs, 1 to all but one, uniformly."""
    max_demos: int = 10
    """Most pairs shown with a query."""
    together: bool = False
    """Ask all pairs of a puzzle one after the other, so that their encodings can be shared."""
    sides: tuple[int, ...] = SIDES
    """Sides of the canvases."""


class ItemStream:
    """Items of every puzzle, in exact epochs per canvas side.

    Attributes (all fixed by the constructor): `sides` in use, `epoch_size` items per side,
    `skipped` ids of puzzles with a single solved pair, which leaves nothing to show.
    """

    sides: tuple[int, ...]
    epoch_size: dict[int, int]
    skipped: tuple[str, ...]

    def __init__(
        self, puzzles: Sequence[Puzzle], seed: int, config: ItemConfig | None = None
    ) -> None:
        raise NotImplementedError

    def take(self, n: int, side: int) -> list[Item]:
        """Return the next n items of a side; runs on into the next epoch where one ends."""
        raise NotImplementedError

    def progress(self, side: int) -> float:
        """Return the passes over a side so far, e.g. 2.25."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """Return the position as JSON data."""
        raise NotImplementedError

    def restore(self, state: dict[str, Any]) -> None:
        """Go to a position; raises DataError for the state of other puzzles, seed or settings."""
        raise NotImplementedError


def evaluation_items(
    puzzles: Sequence[Puzzle],
    n_augmentations: int,
    seed: int,
    sides: Sequence[int] = SIDES,
) -> Iterator[Item]:
    """Yield every test input under up to n distinct augmentations, all demonstrations shown.

    The first augmentation is the identity; sides ascend, nothing is moved from the corner.
    """
    raise NotImplementedError


def probe_items(
    puzzles: Sequence[Puzzle],
    n_augmentations: int = 1,
    seed: int = 0,
    sides: Sequence[int] = SIDES,
) -> Iterator[Item]:
    """Yield every solved pair as query, all other solved pairs shown, in a fixed order."""
    raise NotImplementedError
