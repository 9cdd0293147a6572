"""Grids as square canvases of tokens, and back.

Knows the twelve tokens, the EOS border under and right of a grid, and the canvas sides. Refuses
to know what a task is: it asks a puzzle only for its longest side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cupel.arc.grids import COLOURS, Grid, Pair, Puzzle
from cupel.errors import DataError

PAD = 0
EOS = 1
FIRST_COLOUR = 2
VOCAB = FIRST_COLOUR + COLOURS
SIDES = (10, 15, 20, 30)

Tokens = NDArray[np.uint8]


def encode(grid: Grid, side: int, offset: tuple[int, int] = (0, 0)) -> Tokens:
    """Return [side * side] tokens: the grid at `offset`, EOS below and right of it, PAD elsewhere.

    The border is an open L: a row of EOS of the grid's width, a column of its height, each
    omitted where the grid touches the canvas edge; the corner stays PAD.

    >>> encode(np.array([[3]], dtype=np.uint8), 3).reshape(3, 3).tolist()
    [[5, 1, 0], [1, 0, 0], [0, 0, 0]]

    Raises:
        DataError: the grid does not fit the canvas at this offset.
    """
    canvas = np.zeros(side * side, dtype=np.uint8)
    encode_into(canvas.reshape(side, side), grid + np.uint8(FIRST_COLOUR), offset)
    return canvas


def encode_into(canvas: Tokens, tokens_HW: Tokens, offset: tuple[int, int]) -> None:
    """Write colour tokens and their border into an empty canvas of [side, side].

    Raises:
        DataError: the tokens do not fit the canvas at this offset.
    """
    side = canvas.shape[0]
    top, left = offset
    bottom, right = top + tokens_HW.shape[0], left + tokens_HW.shape[1]
    if top < 0 or left < 0 or bottom > side or right > side:
        height, width = tokens_HW.shape
        raise DataError(
            f"encode: a {height}x{width} grid at offset {offset} leaves a canvas of side {side}; "
            f"use a larger side of {SIDES} or a smaller offset"
        )
    canvas[top:bottom, left:right] = tokens_HW
    if bottom < side:
        canvas[bottom, left:right] = EOS
    if right < side:
        canvas[top:bottom, right] = EOS


def decode(tokens: NDArray[np.integer], side: int, offset: tuple[int, int] = (0, 0)) -> Grid:
    """Return the grid of largest area whose top left cell is at `offset`, all of it colours.

    Rows are added downwards, the width shrinking to the first token that is no colour; of equal
    areas the one with fewer rows wins. May be empty (0x0).

    >>> decode(encode(np.array([[3, 4]], dtype=np.uint8), 5, (2, 1)), 5, (2, 1)).tolist()
    [[3, 4]]

    Raises:
        DataError: there are not `side * side` tokens, or the offset is outside the canvas.
    """
    if tokens.size != side * side:
        raise DataError(f"decode: {tokens.size} tokens are no canvas of side {side}")
    if not (0 <= offset[0] < side and 0 <= offset[1] < side):
        raise DataError(f"decode: offset {offset} is outside a canvas of side {side}")
    canvas = tokens.reshape(side, side)[offset[0] :, offset[1] :]
    colour = (canvas >= FIRST_COLOUR) & (canvas < VOCAB)
    widths = np.minimum.accumulate(np.logical_and.accumulate(colour, axis=1).sum(axis=1))
    areas = widths * np.arange(1, len(widths) + 1)
    rows = int(areas.argmax()) + 1
    width = int(widths[rows - 1])
    if width == 0:
        return np.zeros((0, 0), dtype=np.uint8)
    return (canvas[:rows, :width] - FIRST_COLOUR).astype(np.uint8)


def bucket_of(puzzle: Puzzle, sides: Sequence[int] = SIDES) -> int:
    """Return the smallest canvas side that fits every grid of the puzzle, its tests included.

    Raises:
        DataError: none does; names the task.
    """
    fitting = [side for side in sorted(sides) if side >= puzzle.max_side]
    if not fitting:
        where = f"{puzzle.source}: " if puzzle.source else ""
        raise DataError(
            f"{where}task {puzzle.id} has a side of {puzzle.max_side} cells; the canvases have "
            f"{tuple(sorted(sides))}. Filter with max_side, or add a canvas"
        )
    return fitting[0]


def offset_limits(pair: Pair, side: int) -> tuple[int, int]:
    """Return the largest row and column offset at which both grids of a pair fit."""
    height, width = pair.input.shape
    if pair.output is not None:
        height, width = max(height, pair.output.shape[0]), max(width, pair.output.shape[1])
    return side - height, side - width
