"""Grids, pairs and puzzles as immutable values, and the one check every grid passes.

Knows what a legal ARC grid is. Refuses to know where grids come from: a caller says `where`, and
every complaint opens with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cupel.errors import DataError

Grid: TypeAlias = NDArray[np.uint8]

COLOURS = 10
MAX_SIDE = 30


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """One example: an input grid and its output, None where the answer is not known."""

    input: Grid
    output: Grid | None

    @property
    def solved(self) -> bool:
        """Whether the output is known."""
        return self.output is not None

    @property
    def max_side(self) -> int:
        """Return the longest side of its grids."""
        sides = self.input.shape if self.output is None else self.input.shape + self.output.shape
        return int(max(sides))

    def __eq__(self, other: object) -> bool:
        """Compare the grids, shapes included."""
        return isinstance(other, Pair) and self._content() == other._content()

    def __hash__(self) -> int:
        """Return a hash of the grids."""
        return hash(self._content())

    def _content(self) -> tuple[Any, ...]:
        grids = (self.input,) if self.output is None else (self.input, self.output)
        return tuple((grid.shape, grid.tobytes()) for grid in grids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """One ARC task: demonstrations, test pairs, and the file or data set it came from."""

    id: str
    demos: tuple[Pair, ...]
    tests: tuple[Pair, ...]
    source: str = ""

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Return demonstrations first, then tests; `pair_index` counts in this order."""
        return self.demos + self.tests

    @property
    def max_side(self) -> int:
        """Return the longest side of all its grids."""
        return max(pair.max_side for pair in self.pairs)

    @property
    def solved(self) -> bool:
        """Whether every test output is known."""
        return all(pair.solved for pair in self.tests)


def parse_grid(raw: Any, *, where: str) -> Grid:
    """Return rows of colours as a read-only grid.

    Raises:
        DataError: no rows, ragged rows, a colour that is no integer in 0..9, or a side over 30.
    """
    if isinstance(raw, np.ndarray):
        raw = raw.tolist()
    if not isinstance(raw, list | tuple) or not raw or not isinstance(raw[0], list | tuple):
        raise DataError(f"{where}: no grid but {_shown(raw)}; a grid is a list of rows of colours")
    width = len(raw[0])
    for number, row in enumerate(raw):
        _check_row(row, number, width, where)
    if len(raw) > MAX_SIDE or not 1 <= width <= MAX_SIDE:
        raise DataError(f"{where}: grid of {len(raw)}x{width}; a side is 1 to {MAX_SIDE} cells")
    grid = np.array(raw, dtype=np.uint8)
    grid.flags.writeable = False
    return grid


def _check_row(row: Any, number: int, width: int, where: str) -> None:
    if not isinstance(row, list | tuple):
        raise DataError(f"{where}: row {number} is {_shown(row)}, not a list of colours")
    if len(row) != width:
        raise DataError(
            f"{where}: ragged grid: row {number} has {len(row)} cells, row 0 has {width}"
        )
    for column, colour in enumerate(row):
        if type(colour) is not int or not 0 <= colour < COLOURS:
            raise DataError(
                f"{where}: colour {_shown(colour)} at row {number}, column {column}; "
                f"colours are the integers 0 to {COLOURS - 1}"
            )


def make_puzzle(id: str, train: Sequence[Any], test: Sequence[Any], *, source: str = "") -> Puzzle:
    """Build a puzzle from raw `{"input": rows, "output": rows}` pairs.

    Raises:
        DataError: a malformed pair or grid, a demonstration without output, no demonstrations,
            or no test; names the source and the task.
    """
    where = f"{source}: task {id}" if source else f"task {id}"
    for name, raw in (("train", train), ("test", test)):
        if not isinstance(raw, list | tuple):
            raise DataError(f"{where}: '{name}' is {_shown(raw)}; it is a list of pairs")
    if not train:
        raise DataError(f"{where}: no demonstrations; a task has at least one pair in 'train'")
    if not test:
        raise DataError(f"{where}: no test; a task has at least one pair in 'test'")
    demos = tuple(
        _pair(raw, f"{where}: demonstration {k}", solved=True) for k, raw in enumerate(train)
    )
    tests = tuple(_pair(raw, f"{where}: test {k}", solved=False) for k, raw in enumerate(test))
    return Puzzle(id=id, demos=demos, tests=tests, source=source)


def _pair(raw: Any, where: str, *, solved: bool) -> Pair:
    if not isinstance(raw, dict) or "input" not in raw:
        raise DataError(f"{where}: {_shown(raw)} has no 'input'; a pair has 'input' and 'output'")
    if raw.get("output") is None:
        if solved:
            raise DataError(f"{where}: no 'output'; every demonstration has one")
        return Pair(input=parse_grid(raw["input"], where=f"{where}: input"), output=None)
    return Pair(
        input=parse_grid(raw["input"], where=f"{where}: input"),
        output=parse_grid(raw["output"], where=f"{where}: output"),
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
