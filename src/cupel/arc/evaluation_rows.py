"""The rows an evaluation leaves on disk: one a prediction, one a puzzle.

Pure. Knows how a grid becomes one short word and what a page needs to draw a puzzle. Refuses to
know models and files: whoever reads the rows back gets what voted, nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cupel.arc.augmentations import parse_name
from cupel.arc.grids import Grid, Pair, Puzzle
from cupel.arc.voting import Ballot, Prediction, Target
from cupel.errors import DataError

PREDICTIONS = "predictions.jsonl"
PUZZLES = "puzzles.jsonl"
EVALUATIONS = "evaluations.jsonl"

SHOWN_CANDIDATES = 5
"""Answers of a test input kept in its puzzle's row; all of them stand in predictions.jsonl."""


def grid_text(grid: Grid) -> str:
    """Return a grid as one word, rows separated by `|`; the empty grid is the empty word.

    >>> grid_text(np.array([[1, 2], [3, 4]], dtype=np.uint8))
    '12|34'
    """
    return "|".join("".join(map(str, row)) for row in grid.tolist()) if grid.size else ""


def grid_of(text: Any, *, where: str) -> Grid:
    """Return the grid that a word stands for.

    Raises:
        DataError: no word, other characters than digits and `|`, or rows of unequal length.
    """
    if text == "":
        return np.zeros((0, 0), dtype=np.uint8)
    rows = text.split("|") if isinstance(text, str) else []
    plain = all(row.isascii() and row.isdigit() for row in rows)
    if not rows or not plain or len({len(row) for row in rows}) != 1:
        raise DataError(f"{where}: {text!r} is no grid; a grid reads like 12|34")
    return np.array([[int(cell) for cell in row] for row in rows], dtype=np.uint8)


def prediction_of(row: Mapping[str, Any], *, where: str) -> Prediction:
    """Return the vote that a row of predictions.jsonl casts.

    Raises:
        DataError: the row lacks a key or holds another type.
    """
    try:
        puzzle_id, _ = parse_name(row["augmentation"])
        if puzzle_id != row["puzzle"]:
            raise DataError(
                f"{where}: augmentation {row['augmentation']} is none of puzzle {row['puzzle']}; "
                "rows of two evaluations were mixed: evaluate again into another folder"
            )
        return Prediction(
            puzzle_id=str(row["puzzle"]),
            test_index=int(row["test_index"]),
            augmentation=str(row["augmentation"]),
            grid=grid_of(row["predicted"], where=where),
            q=float(row["q"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where}: {type(error).__name__} {error}; not a prediction") from None


def puzzle_row(puzzle: Puzzle, ballots: Mapping[Target, Ballot]) -> dict[str, Any]:
    """Return what a page needs of a puzzle: its grids and the best answers to each test input."""
    return {
        "puzzle": puzzle.id,
        "demos": [_pair(pair) for pair in puzzle.demos],
        "tests": [
            {**_pair(pair), **_answers(pair, ballots.get((puzzle.id, index)))}
            for index, pair in enumerate(puzzle.tests)
        ],
    }


def solved_within(row: Mapping[str, Any], k: int) -> float | None:
    """Return the share of a puzzle's test inputs solved within k answers; None without truth."""
    tests: Sequence[Mapping[str, Any]] = row["tests"]
    if any(test["output"] is None for test in tests):
        return None
    solved = [bool(test["rank"] is not None and test["rank"] <= k) for test in tests]
    return solved.count(True) / len(tests)


def _pair(pair: Pair) -> dict[str, Any]:
    output = pair.output
    return {
        "input": grid_text(pair.input),
        "output": None if output is None else grid_text(output),
    }


def _answers(pair: Pair, ballot: Ballot | None) -> dict[str, Any]:
    candidates = ballot.candidates if ballot is not None else ()
    truth = pair.output
    return {
        "rank": ballot.rank_of(truth) if ballot is not None and truth is not None else None,
        "votes": sum(each.votes for each in candidates),
        "empty": ballot.empty if ballot is not None else 0,
        "candidates": [
            {"grid": grid_text(each.grid), "votes": each.votes, "mean_q": each.mean_q}
            for each in candidates[:SHOWN_CANDIDATES]
        ],
        "answers": len(candidates),
    }
