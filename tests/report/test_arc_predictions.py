"""predictions.html and the PNG strips: complete, self-contained, and the same bytes twice."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cupel.arc.evaluation_rows import puzzle_row
from cupel.arc.grids import Grid, Puzzle, make_puzzle
from cupel.arc.voting import Prediction, ballots
from cupel.errors import DataError
from cupel.report.arc.figures import write_pictures
from cupel.report.arc.predictions import standing, write_predictions

RIGHT, WRONG = [[2, 1]], [[1, 1], [1, 1]]


def puzzle(name: str) -> Puzzle:
    pair = {"input": [[1, 2]], "output": RIGHT}
    return make_puzzle(name, [pair], [pair])


def cast(name: str, *answers: list[list[int]]) -> list[Prediction]:
    return [
        Prediction(puzzle_id=name, test_index=0, augmentation=str(n), grid=as_grid(answer), q=0.5)
        for n, answer in enumerate(answers)
    ]


def as_grid(rows: list[list[int]]) -> Grid:
    return np.array(rows, dtype=np.uint8)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An evaluation of three puzzles: solved, found at place 3, never voted for."""
    others = [[[n]] for n in range(2)]
    votes = {
        "aaa": cast("aaa", RIGHT, WRONG),
        "bbb": cast("bbb", others[0], others[0], others[1], others[1], RIGHT),
        "ccc": cast("ccc", WRONG),
    }
    rows = [puzzle_row(puzzle(name), ballots(given)) for name, given in votes.items()]
    summary = {"view": "heldout", "puzzles": 3, "ARC/pass@1": 1 / 3, "ARC/pass@1_lo": 0.06,
               "ARC/pass@1_hi": 0.79, "ARC/pass@1_n": 3}  # fmt: skip
    folder = tmp_path / "run<1>"
    folder.mkdir()
    (folder / "puzzles.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "evaluations.jsonl").write_text(json.dumps(summary) + "\n")
    return folder


class Parsed(HTMLParser):
    """Counts tags and notes every address."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.classes: list[str] = []
        self.addresses: list[str] = []
        self.scripts = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "article":
            self.classes.append(given.get("class") or "")
        self.scripts += tag == "script"
        self.addresses += [given[k] or "" for k in ("src", "href") if given.get(k)]


def test_every_puzzle_stands_on_the_page_with_its_standing(run: Path) -> None:
    text = write_predictions(run).read_text()
    page = Parsed(text)
    assert page.classes == ["puzzle solved", "puzzle found", "puzzle missed"]
    assert "the right answer got votes: place 3" in text
    assert "33.3 %" in text
    assert "6.0 to 79.0 % (95 %), n = 3 puzzles" in text
    assert "run&lt;1&gt;" in text
    assert "another size" in text


def test_the_page_asks_the_network_for_nothing_and_is_the_same_twice(run: Path) -> None:
    first = write_predictions(run).read_bytes()
    page = Parsed(first.decode())
    assert page.addresses == ["data:,"]
    assert page.scripts == 0
    assert write_predictions(run).read_bytes() == first


def test_an_unfinished_evaluation_is_refused(run: Path) -> None:
    (run / "evaluations.jsonl").write_text("")
    with pytest.raises(DataError, match=r"not finished \(3 puzzles so far\)"):
        write_predictions(run)


def test_a_puzzle_without_solution_is_neither_solved_nor_missed() -> None:
    unknown = make_puzzle("ddd", [{"input": [[1]], "output": [[2]]}], [{"input": [[1]]}])
    assert standing(puzzle_row(unknown, ballots(cast("ddd", RIGHT))))[0] == "unknown"


def test_pictures_of_named_puzzles(run: Path) -> None:
    pytest.importorskip("matplotlib")
    (path,) = write_pictures(run, ["bbb"])
    assert path.name == "bbb_0.png"
    first = path.read_bytes()
    assert first.startswith(b"\x89PNG")
    write_pictures(run, ["bbb"])
    assert path.read_bytes() == first
    with pytest.raises(DataError, match=r"no puzzle 'bb'.*did you mean 'bbb'"):
        write_pictures(run, ["bb"])
