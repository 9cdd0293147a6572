"""Problem sources and graders by command line: a study's file to rows with subject and level."""

from __future__ import annotations

from pathlib import Path

from cupel.lab import read_run
from tests.e2e.program import call, succeed

GRADER = """
import os

def judge(completion, answer):
    digits = [piece for piece in completion.split() if piece.isdigit()]
    return digits[-1] == answer if digits else None

def die(completion, answer):
    os._exit(3)
"""

STUDY = """
name = "own-grader"
question = "Does a grader of our own judge both arms?"
seeds = [1, 2]

[config]
backend = "toy"
max_steps = 3
save_every = 1

[config.problems]
source = "toy"
grading = "custom"
grading_function = "colours:FUNCTION"
grading_deadline_s = 2.0

[config.evaluation]
problems = 8
samples = 2

[[conditions]]
label = "grpo+none"
config = { advantage_mode = "grpo", transform_mode = "none" }

[[conditions]]
label = "maxrl+none"
config = { advantage_mode = "maxrl", transform_mode = "none" }

[endpoint]
metric = "eval/accuracy"
over = "last"

[decision]
baseline = "grpo+none"
candidate = "maxrl+none"
alpha = 0.05
"""


def write_study(folder: Path, function: str) -> None:
    (folder / "colours.py").write_text(GRADER)
    (folder / "study.toml").write_text(STUDY.replace("FUNCTION", function))


def test_a_grader_beside_the_study_judges_every_run(tmp_path: Path) -> None:
    write_study(tmp_path, "judge")
    succeed(tmp_path, "run", "study.toml", "--out", "out")
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    assert len(runs) == 4
    for folder in runs:
        run = read_run(folder)
        assert run.status == "done", run.failure
        for row in run.rows("metrics.jsonl"):
            assert row["grader_failure_count"] == 0
            total = row["correct_count"] + row["incorrect_count"] + row["ungradable_count"]
            assert total == row["total_count"]
        described = [row["message"] for row in run.rows("events.jsonl")]
        assert any('"function":"colours:judge"' in message for message in described)
        assert any("prompt template: '{problem}'" in message for message in described)
        rows = run.rows("evaluation_problems.jsonl")
        assert {(row["subject"], row["level"]) for row in rows} == {("toy", "1")}
        found = {row["ungradable_cause"] for row in run.rows("emergence/generations.jsonl")}
        assert found <= {None, "unparsable"}


def refused(folder: Path, *words: str, code: int) -> str:
    done = call(folder, *words)
    assert done.returncode == code, done.stderr
    return done.stderr


def test_a_grader_that_dies_stops_the_run(tmp_path: Path) -> None:
    write_study(tmp_path, "die")
    words = ["train", "--backend", "toy", "--problems.grading", "custom"]
    said = refused(tmp_path, *words, "--problems.grading-function", "colours:die", code=3)
    assert "the grader failed on 128 of 128 completions" in said
    assert "exit code 3" in said
    absent = ("--problems.grading-function", "colors:die", "--log-dir", "other")
    assert "there is no module 'colors'" in refused(tmp_path, *words, *absent, code=2)
