"""`cupel teach figures` and `tables`: what is missing is said, and decides the exit code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of which only phase 1B is there."""
    folder = tmp_path / "results" / "phase1b_micro"
    folder.mkdir(parents=True)
    points = [{"cpt": i / 10, "elp": i % 3 / 10, "quadrant": "Q1_highU_highL"} for i in range(8)]
    (folder / "cpt_correlation.json").write_text(json.dumps({"data_points": points}))
    return folder.parent


@pytest.mark.parametrize("word", ["figures", "tables"])
def test_what_there_is_is_made_and_the_rest_is_named(
    cupel: Invoke, results: Path, tmp_path: Path, word: str
) -> None:
    done = cupel("teach", word, "--results-dir", results, "--output-dir", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "H2_patch_validation" in done.stdout
    assert "H1 not made: labeled_snapshots.jsonl: not in" in done.stderr
    assert {path.stem for path in (tmp_path / "out").iterdir()} == {"H2_patch_validation"}


@pytest.mark.parametrize("word", ["figures", "tables"])
def test_asked_for_and_missing_is_exit_code_1(
    cupel: Invoke, results: Path, tmp_path: Path, word: str
) -> None:
    words = ("teach", word, "--results-dir", results, "--output-dir", tmp_path / "out", "--json")
    done = cupel(*words, "--only", "H2,H5")
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert list(told["missing"]) == ["H5"]
    assert len(told["written"]) == 2


def test_nothing_to_draw_is_exit_code_1(cupel: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cupel("teach", "figures", "--results-dir", "empty", "--output-dir", "out")
    assert done.exit_code == 1


def test_a_damaged_file_is_one_line_and_exit_code_2(cupel: Invoke, results: Path) -> None:
    (results / "phase1b_micro/cpt_correlation.json").write_text("{")
    done = cupel("teach", "figures", "--results-dir", results, "--output-dir", "out")
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "not strict JSON" in done.stderr


@pytest.mark.parametrize("word", ["figures", "tables"])
def test_help_has_examples(cupel: Invoke, word: str) -> None:
    done = cupel("teach", word, "--help")
    assert done.exit_code == 0
    assert f"cupel teach {word} --results-dir results" in done.stdout
