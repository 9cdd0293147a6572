"""Whether two sets of puzzles share content, however it was turned, mirrored, recoloured, shuffled.

Knows one canonical form of a pair under the 8 dihedral maps and all relabellings of colours.
Refuses to trust ids alone: a renamed task is still the same task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cupel.arc.augmentations import DIHEDRALS, turn
from cupel.arc.grids import COLOURS, Grid, Pair, Puzzle
from cupel.errors import DataError

_SHOWN = 5

KNOWN_TWINS = frozenset({("070dd51e", "40853293"), ("50a16a69", "caa06a1f")})
"""(evaluation, training) tasks of ARC-AGI-1 itself that share pairs up to turning and recolouring:
all three of 070dd51e; two of four of 50a16a69, its test among them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One held-out puzzle that training has seen, and the training puzzle it was seen in."""

    heldout: Puzzle
    train: Puzzle
    same_id: bool


def pair_fingerprint(pair: Pair) -> str:
    """Return a hash that is equal for pairs equal up to one turn or mirroring and one recolouring.

    Of the eight turned pairs, colours numbered in the order they appear, the first in byte order
    is hashed, shapes included.
    """
    return hashlib.blake2b(_canonical(pair), digest_size=16).hexdigest()


def fingerprint(puzzle: Puzzle) -> str:
    """Return a hash of all pairs of a puzzle, whatever their order and whichever is the test."""
    parts = sorted(pair_fingerprint(pair) for pair in puzzle.pairs)
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def find_leaks(train: Iterable[Puzzle], heldout: Iterable[Puzzle]) -> tuple[Leak, ...]:
    """Return every held-out puzzle with each training puzzle that shares its id or a solved pair.

    Pairs are compared in canonical form where a cheap invariant (shapes and counts of colours)
    already agrees.
    """
    by_id: dict[str, Puzzle] = {}
    by_shape: dict[bytes, list[tuple[Pair, Puzzle]]] = {}
    for puzzle in train:
        by_id[puzzle.id] = puzzle
        for pair in _solved(puzzle):
            by_shape.setdefault(_invariant(pair), []).append((pair, puzzle))
    leaks = []
    for puzzle in heldout:
        found = {other.id: other for other in _sharing(puzzle, by_shape)}
        if puzzle.id in by_id:
            found[puzzle.id] = by_id[puzzle.id]
        leaks += [
            Leak(heldout=puzzle, train=found[id], same_id=id == puzzle.id) for id in sorted(found)
        ]
    return tuple(leaks)


def refuse_contamination(train: Iterable[Puzzle], heldout: Iterable[Puzzle]) -> None:
    """Refuse a split whose training puzzles contain a held-out one.

    Raises:
        DataError: names the tasks and the sources they came from.
    """
    refuse_leaks(find_leaks(train, heldout))


def refuse_leaks(leaks: Sequence[Leak]) -> None:
    """Refuse, naming the leaks, unless there are none.

    Raises:
        DataError: names the tasks and the sources they came from.
    """
    if not leaks:
        return
    shown = "; ".join(_described(leak) for leak in leaks[:_SHOWN])
    more = f"; and {len(leaks) - _SHOWN} more" if len(leaks) > _SHOWN else ""
    raise DataError(
        f"the split leaks {len(leaks)} times from held-out tasks into training: {shown}{more}. "
        "Train and evaluate on one ARC generation, or remove these tasks from training"
    )


def _described(leak: Leak) -> str:
    held, seen = leak.heldout, leak.train
    how = "the same id" if leak.same_id else "a pair equal up to turning and recolouring"
    return (
        f"task {held.id} of {held.source or 'the held-out set'} and task {seen.id} of "
        f"{seen.source or 'the training set'} ({how})"
    )


def _sharing(puzzle: Puzzle, by_shape: dict[bytes, list[tuple[Pair, Puzzle]]]) -> Iterator[Puzzle]:
    for pair in _solved(puzzle):
        candidates = by_shape.get(_invariant(pair), [])
        wanted = _canonical(pair) if candidates else b""
        yield from (owner for other, owner in candidates if _canonical(other) == wanted)


def _solved(puzzle: Puzzle) -> list[Pair]:
    return [pair for pair in puzzle.pairs if pair.solved]


def _grids(pair: Pair) -> list[Grid]:
    return [pair.input] if pair.output is None else [pair.input, pair.output]


def _invariant(pair: Pair) -> bytes:
    parts = []
    for grid in _grids(pair):
        counts = np.sort(np.bincount(grid.ravel(), minlength=COLOURS))
        parts.append(np.array([*sorted(grid.shape), *counts]).tobytes())
    return b"".join(parts)


def _canonical(pair: Pair) -> bytes:
    grids = _grids(pair)
    return min(_relabelled([turn(grid, d) for grid in grids]) for d in range(DIHEDRALS))


def _relabelled(grids: list[Grid]) -> bytes:
    """Return shapes and cells, colours numbered in the order of their first appearance."""
    cells: NDArray[np.uint8] = np.concatenate([grid.ravel() for grid in grids])
    colours, first = np.unique(cells, return_index=True)
    table = np.zeros(COLOURS, dtype=np.uint8)
    table[colours[np.argsort(first)]] = np.arange(len(colours), dtype=np.uint8)
    shapes = bytes(side for grid in grids for side in grid.shape)
    return shapes + table[cells].tobytes()
