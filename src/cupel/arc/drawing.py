"""One puzzle, drawn: every pair on its canvas under one augmentation, and the items cut from it.

Knows how tokens are laid out fast, one table look-up a grid, and what an item is. Refuses to draw
randomness of its own: augmentation, offsets and what is shown are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.arc.augmentations import Augmentation, turn
from cupel.arc.grids import COLOURS, Grid, Puzzle
from cupel.arc.tokens import FIRST_COLOUR, Tokens, encode_into


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DrawnPuzzle:
    """Read-only tokens of every pair, inputs at [:, 0] and outputs at [:, 1], PAD if unknown."""

    tokens_P2S: Tokens
    augmentation: Augmentation
    offsets: tuple[tuple[int, int], ...]


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


def draw(
    puzzle: Puzzle,
    side: int,
    augmentation: Augmentation,
    offsets: Sequence[tuple[int, int]] | None = None,
) -> DrawnPuzzle:
    """Encode all pairs of a puzzle; `offsets` are one per pair, the corner if not given.

    Raises:
        DataError: a grid does not fit its canvas at its offset.
    """
    pairs = puzzle.pairs
    places = tuple(offsets) if offsets is not None else ((0, 0),) * len(pairs)
    table = np.array(augmentation.colours, dtype=np.uint8) + np.uint8(FIRST_COLOUR)
    tokens = np.zeros((len(pairs), 2, side * side), dtype=np.uint8)
    canvases = tokens.reshape(len(pairs), 2, side, side)
    for number, (pair, offset) in enumerate(zip(pairs, places, strict=True)):
        encode_into(canvases[number, 0], _tokens(pair.input, table, augmentation), offset)
        if pair.output is not None:
            encode_into(canvases[number, 1], _tokens(pair.output, table, augmentation), offset)
    tokens.flags.writeable = False
    return DrawnPuzzle(tokens_P2S=tokens, augmentation=augmentation, offsets=places)


def free_space(puzzle: Puzzle, side: int, augmentation: Augmentation) -> NDArray[np.int64]:
    """Return [P, 2], the largest row and column offset of each pair once it is turned."""
    sizes = []
    for pair in puzzle.pairs:
        shapes = (
            [pair.input.shape] if pair.output is None else [pair.input.shape, pair.output.shape]
        )
        sizes.append((max(shape[0] for shape in shapes), max(shape[1] for shape in shapes)))
    room = side - np.array(sizes, dtype=np.int64)
    return room[:, ::-1] if augmentation.dihedral in (1, 3, 6, 7) else room


def solved_pairs(puzzle: Puzzle) -> list[int]:
    """Return the indices of the pairs whose output is known."""
    return [number for number, pair in enumerate(puzzle.pairs) if pair.solved]


def make_item(
    puzzle: Puzzle,
    index: int,
    side: int,
    drawn: DrawnPuzzle,
    epoch: int,
    target: int,
    shown: tuple[int, ...],
) -> Item:
    """Ask one pair of a drawn puzzle, showing others in the order given."""
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


def _tokens(grid: Grid, table: NDArray[np.uint8], augmentation: Augmentation) -> Tokens:
    assert int(grid.max(initial=0)) < COLOURS
    return table[turn(grid, augmentation.dihedral)]
