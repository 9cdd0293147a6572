"""submission.json: every test input keeps its place, and what is read back is what was written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from cupel.arc.grids import Grid
from cupel.arc.submission import read_submission, score_submission, submission, write_submission
from cupel.arc.voting import Prediction, ballots
from cupel.errors import DataError

A = np.array([[1, 2]], dtype=np.uint8)
B = np.array([[3], [4]], dtype=np.uint8)
C = np.array([[9]], dtype=np.uint8)


def cast(index: int, *answers: Grid) -> list[Prediction]:
    return [
        Prediction(puzzle_id="p", test_index=index, augmentation=str(n), grid=answer, q=0.5)
        for n, answer in enumerate(answers)
    ]


def test_an_input_without_votes_keeps_its_place_and_is_counted() -> None:
    made = submission(ballots([*cast(0, A, A, B), *cast(2, C)]), {"p": 3, "never": 1})
    assert made.answers["p"][0] == {"attempt_1": [[1, 2]], "attempt_2": [[3], [4]]}
    assert made.answers["p"][1] == {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert made.answers["p"][2] == {"attempt_1": [[9]], "attempt_2": [[9]]}
    assert made.placeholders == (("p", 1), ("never", 0))
    assert made.repeated == (("p", 2),)


def test_written_and_read_back_it_scores_by_the_official_rule(tmp_path: Path) -> None:
    made = submission(ballots([*cast(0, A, A, B), *cast(1, C)]), {"p": 2})
    write_submission(tmp_path / "submission.json", made)
    answers = read_submission(tmp_path / "submission.json")
    assert score_submission(answers, {"p": [B, C]}).value == 1.0
    assert score_submission(answers, {"p": [B, A]}).value == 0.0


def test_a_submission_with_another_number_of_inputs_is_refused() -> None:
    with pytest.raises(DataError, match="puzzle p has 2 test inputs and 1 answers"):
        score_submission({"p": [(A, B)]}, {"p": [A, B]})
    with pytest.raises(DataError, match="no answers"):
        score_submission({}, {"p": [A, B]})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"attempt_1": [[1]]}, "attempt_1 and attempt_2"),
        ({"attempt_1": [[1], [1, 2]], "attempt_2": [[1]]}, "equally long rows"),
        ({"attempt_1": [[1]], "attempt_2": [[11]]}, "attempt_2: cells must be integers from 0"),
        ({"attempt_1": [], "attempt_2": [[1]]}, "not a grid"),
        ([[1]], "expected an object"),
    ],
)
def test_a_malformed_entry_is_named(tmp_path: Path, entry: object, message: str) -> None:
    path = tmp_path / "submission.json"
    path.write_text(json.dumps({"p": [entry]}))
    with pytest.raises(DataError, match=message) as caught:
        read_submission(path)
    assert "puzzle p, test input 0" in str(caught.value)
