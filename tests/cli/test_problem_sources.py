"""Bad problems are one line on the screen and exit code 2, before anything runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Invoke, says_one_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--subjects", "geometri"], "did you mean 'geometry'"),
        (["--subjects", "geometry"], "has algebra"),
        (["--problems.prompt-field", "text"], "no column 'text'"),
        (["--problems.path", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--problems.path", "empty.jsonl"], "finds no answer in column 'solution'"),
        (["--problems.prompt-template", "boxxed"], "did you mean 'boxed'"),
    ],
)
def test_bad_problems_are_one_line(cupel: Invoke, words: list[str], said: str) -> None:
    row = {"problem": "a", "solution": r"\boxed{1}", "type": "Algebra", "level": "Level 1"}
    Path("m.jsonl").write_text(json.dumps(row) + "\n")
    Path("empty.jsonl").write_text(json.dumps(row | {"solution": r"\boxed{}"}) + "\n")
    model = ["train", "--backend", "torch", "--model", "some/model", "--problems.source", "math"]
    given = [] if "--subjects" in words else ["--subjects", "algebra"]
    path = [] if "--problems.path" in words else ["--problems.path", "m.jsonl"]
    says_one_line(cupel(*model, *path, *given, *words), said)
