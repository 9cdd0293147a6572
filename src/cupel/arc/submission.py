"""submission.json: two attempts a test input, in the form of the ARC competitions on Kaggle.

Knows ballots and how many test inputs every puzzle has. Refuses to shift an answer to another test
input: an input that nobody voted on keeps its place with a placeholder, and is counted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cupel.arc.grids import Grid
from cupel.arc.voting import Ballot, Rate, Target, rate, same
from cupel.errors import DataError
from cupel.lab.files import read_json, write_atomically

ATTEMPTS = ("attempt_1", "attempt_2")
PLACEHOLDER: list[list[int]] = [[0]]
"""What stands where there is no answer: one black cell."""

Attempts = dict[str, list[list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """Answers in the form of a submission.

    Attributes:
        answers: by puzzle id, one pair of attempts for every test input, in order.
        placeholders: test inputs without any answer.
        repeated: test inputs with one answer only, whose second attempt repeats the first.
    """

    answers: Mapping[str, Sequence[Attempts]]
    placeholders: tuple[Target, ...]
    repeated: tuple[Target, ...]


def submission(ballots: Mapping[Target, Ballot], inputs: Mapping[str, int]) -> Submission:
    """Put the two best answers of every test input into a submission.

    Args:
        inputs: number of test inputs of every puzzle to be answered.
    """
    answers: dict[str, list[Attempts]] = {}
    placeholders: list[Target] = []
    repeated: list[Target] = []
    for puzzle_id, count in inputs.items():
        answers[puzzle_id] = []
        for index in range(count):
            ballot = ballots.get((puzzle_id, index))
            grids = [each.grid.tolist() for each in ballot.candidates[:2]] if ballot else []
            if not grids:
                placeholders.append((puzzle_id, index))
                grids = [PLACEHOLDER]
            elif len(grids) == 1:
                repeated.append((puzzle_id, index))
            answers[puzzle_id].append(dict(zip(ATTEMPTS, [grids[0], grids[-1]], strict=True)))
    return Submission(answers=answers, placeholders=tuple(placeholders), repeated=tuple(repeated))


def write_submission(path: Path, made: Submission) -> None:
    """Write submission.json, whole or not at all."""
    write_atomically(path, json.dumps(made.answers, separators=(",", ":")).encode() + b"\n")


def read_submission(path: Path) -> dict[str, tuple[tuple[Grid, Grid], ...]]:
    """Read a submission; grids by puzzle and test input.

    Raises:
        DataError: the file is missing or not JSON, or an entry is not two rectangular grids.
    """
    return {
        puzzle_id: tuple(
            _attempts(entry, f"{path}: puzzle {puzzle_id}, test input {index}")
            for index, entry in enumerate(_list(entries, f"{path}: puzzle {puzzle_id}"))
        )
        for puzzle_id, entries in read_json(path).items()
    }


def score_submission(
    answers: Mapping[str, Sequence[tuple[Grid, Grid]]], truths: Mapping[str, Sequence[Grid]]
) -> Rate:
    """Return the share of puzzles whose every test input is right in one of its two attempts.

    Raises:
        DataError: a puzzle is missing, or has another number of test inputs.
    """
    solved = 0
    for puzzle_id, outputs in truths.items():
        given = answers.get(puzzle_id)
        if given is None or len(given) != len(outputs):
            found = "no answers" if given is None else f"{len(given)} answers"
            raise DataError(
                f"submission: puzzle {puzzle_id} has {len(outputs)} test inputs and {found}"
            )
        solved += all(
            any(same(attempt, output) for attempt in attempts)
            for attempts, output in zip(given, outputs, strict=True)
        )
    return rate(solved, len(truths))


def _attempts(entry: Any, where: str) -> tuple[Grid, Grid]:
    if not isinstance(entry, dict) or sorted(entry) != sorted(ATTEMPTS):
        raise DataError(f"{where}: expected an object with {' and '.join(ATTEMPTS)}")
    first, second = (_grid(entry[name], f"{where}, {name}") for name in ATTEMPTS)
    return first, second


def _grid(rows: Any, where: str) -> Grid:
    rows = _list(rows, where)
    cells = [cell for row in rows for cell in _list(row, where)]
    if not cells or len({len(row) for row in rows}) > 1:
        raise DataError(f"{where}: not a grid of equally long rows")
    if not all(isinstance(cell, int) and 0 <= cell <= 9 for cell in cells):
        raise DataError(f"{where}: cells must be integers from 0 to 9")
    return np.array(rows, dtype=np.uint8)


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"{where}: expected a list")
    return value
