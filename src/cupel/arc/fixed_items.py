"""Items that are asked the same way every time: for judging, and for probing what was learned.

Knows which augmentations of a puzzle differ. Refuses to move grids from the corner, to shuffle
and to leave anything out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cupel.arc.augmentations import IDENTITY, Augmentation
from cupel.arc.drawing import DrawnPuzzle, Item, draw, make_item, solved_pairs
from cupel.arc.grids import Puzzle
from cupel.arc.tokens import SIDES, bucket_of
from cupel.errors import DataError
from cupel.lab.randomness import Randomness, counter_of

_TRIALS_PER_AUGMENTATION = 5


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
                yield make_item(puzzle, index, side, drawn, number, target, shown)


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
        targets = solved_pairs(puzzle)
        if len(targets) < 2:
            continue
        for number, drawn in enumerate(_distinct(puzzle, side, n_augmentations, random)):
            for target in targets:
                shown = tuple(pair for pair in targets if pair != target)
                yield make_item(puzzle, index, side, drawn, number, target, shown)


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
