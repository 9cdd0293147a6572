"""`cupel evaluate`: what it takes from a run, what it prints, and what it refuses in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cupel.lab import comparable_bytes
from tests.cli.conftest import Invoke, says_one_line

TOY = ("--backend", "toy", "--max-steps", 4, "--save-every", 2, "--evaluation.samples", 4)


@pytest.fixture
def run(cupel: Invoke) -> Path:
    """A toy run with checkpoints of steps 2 and 4."""
    result = cupel("train", *TOY, "--seed", 7, "--log-dir", "runs/a", "--eval-every", 2)
    assert result.exit_code == 0, result.output
    return Path("runs/a")


def stored(run: Path, step: int) -> dict[str, float]:
    rows = [json.loads(line) for line in (run / "evaluations.jsonl").read_text().splitlines()]
    (row,) = [row for row in rows if row["step"] == step]
    return dict(row)


def test_a_run_is_evaluated_as_it_evaluated_itself(cupel: Invoke, run: Path) -> None:
    before = comparable_bytes(run)
    result = cupel("evaluate", run, "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["evaluations"]
    assert (found["step"], found["seed"]) == (4, 7)
    accuracy = found["rates"][0]
    assert (accuracy["by"], accuracy["metric"]) == ("all", "accuracy")
    assert accuracy["value"] == stored(run, 4)["accuracy"]
    assert "changed" not in result.stderr
    assert comparable_bytes(run) == before  # what is evaluated is left as it was
    rows = Path(found["folder"]) / "emergence/generations.jsonl"
    assert len(rows.read_text().splitlines()) == 8 * 4


def test_a_complete_evaluation_is_read_and_not_done_again(cupel: Invoke, run: Path) -> None:
    first = cupel("evaluate", run)
    (folder,) = (run / "evaluations").iterdir()
    written = (folder / "run.json").read_bytes()
    again = cupel("evaluate", run, "--checkpoint", "last")
    assert again.stdout == first.stdout
    assert (folder / "run.json").read_bytes() == written


def test_every_cell_has_value_interval_and_n(cupel: Invoke, run: Path) -> None:
    result = cupel(
        "evaluate", run, "--samples", 16, "--pass-at", "1,8", "--by", "level", "--checkpoint", 2
    )
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Held-out problems [95 % interval for new problems] (n = problems)"
    assert lines[1].split() == ["evaluated", "step", "accuracy", "pass@1", "pass@8", "ungradable"]
    assert lines[2].count("(n = 8)") == lines[2].count("[") == 3
    assert "of 128 completions" in lines[2]
    assert lines[4].startswith("runs/a step 2 by level")
    assert lines[6].startswith("1 ")
    said = result.stderr
    assert "changed: evaluation.samples = 16 (the run: 4)" in said
    assert "changed: evaluation.pass_at = [1, 8] (the run: [1])" in said


def test_all_kept_checkpoints_are_a_curve(cupel: Invoke, run: Path) -> None:
    result = cupel("evaluate", run, "--checkpoint", "all", "--csv")
    assert result.exit_code == 0, result.output
    head, *rows = result.stdout.splitlines()
    assert head.startswith("evaluated,step,accuracy,accuracy low95,accuracy high95,accuracy n,")
    cells = [row.split(",") for row in rows]
    assert [(cell[1], float(cell[2])) for cell in cells] == [
        (str(step), stored(run, step)["accuracy"]) for step in (2, 4)
    ]


def test_the_start_and_the_end_are_compared_on_the_same_problems(cupel: Invoke, run: Path) -> None:
    start = cupel("evaluate", run, "--checkpoint", 0, "--json")
    rate = json.loads(start.stdout)["evaluations"][0]["rates"][0]
    assert rate["value"] == stored(run, 0)["accuracy"]
    result = cupel("evaluate", "toy", run, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    first, second = (one["rates"][0]["value"] for one in facts["evaluations"])
    assert (first, second) == (rate["value"], stored(run, 4)["accuracy"])
    difference = facts["differences"][0]
    assert difference["delta"] == pytest.approx(second - first)
    assert (difference["metric"], difference["problems"]) == ("accuracy", 8)
    assert "never the methods" in facts["says"]
    assert f"toy: asked as {run} was" in result.stderr
    table = cupel("evaluate", run / "checkpoints/step_000002", run, "--greedy", "--by", "level")
    assert "B − A, problem by problem" in table.stdout
    assert "B − A by level" in table.stdout
    assert "greedy accuracy" in table.stdout
    assert "only A right" in table.stdout


def test_a_model_is_asked_as_its_backend_is(cupel: Invoke) -> None:
    result = cupel("evaluate", "toy", "--samples", 2, "--seed", 5, "--json", "--out-dir", "here")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["evaluations"]
    assert (found["step"], found["seed"]) == (0, 5)
    assert Path(found["folder"]).parent == Path("here")
    assert found["rates"][0]["completions"] == 16


def test_bad_input_is_one_line(cupel: Invoke, run: Path) -> None:
    says_one_line(cupel("evaluate", run, "--pass-at", "1,8"), "pass@8 needs at least 8 samples")
    says_one_line(cupel("evaluate", run, "--pass-at", "1,x"), "--pass-at: 'x' is no k")
    says_one_line(cupel("evaluate", run, "--checkpoint", 3), "no checkpoint of step 3", "2, 4")
    says_one_line(cupel("evaluate", run, "--checkpoint", "best"), "give a step, last or all")
    says_one_line(cupel("evaluate", "toy", "--checkpoint", 2), "no training run; leave it out")
    says_one_line(cupel("evaluate", run, run, "--checkpoint", "all"), "choose one checkpoint")
    says_one_line(cupel("evaluate", run, run, run), "3 names; give one, or two")
    says_one_line(cupel("evaluate", "runs/b"), "no such run, checkpoint or model folder")
    says_one_line(cupel("evaluate", "runs"), "neither a run folder, nor a checkpoint, nor a model")
    says_one_line(cupel("evaluate", run, "--problems", 9), "toy' has 8 problems, 9 were asked")
    says_one_line(cupel("evaluate", run, "--set", "checkpoint=x"), "name the checkpoint")
    says_one_line(cupel("evaluate", run, "--set", "backend=tiny"), "a checkpoint of backend 'toy'")
    says_one_line(cupel("evaluate", run, "--json", "--csv"), "choose one format")
    assert not (run / "evaluations").exists()


def test_a_run_that_kept_nothing_says_so(cupel: Invoke) -> None:
    cupel("train", "--backend", "toy", "--max-steps", 2, "--save-every", 0)
    says_one_line(cupel("evaluate", "logs/train"), "kept no checkpoint", "save_every = 0")
    assert cupel("evaluate", "logs/train", "--checkpoint", 0).exit_code == 0


def test_other_problems_are_not_compared(cupel: Invoke, run: Path) -> None:
    cupel("train", *TOY, "--eval-problems", 5, "--log-dir", "runs/b")
    result = cupel("evaluate", run, "runs/b")
    says_one_line(result, "the problems differ: 8 against 5, 5 in both", "--problems N")
    assert not (run / "evaluations").exists()
    together = cupel("evaluate", run, "runs/b", "--problems", 5)
    assert together.exit_code == 0, together.output
    assert "(n = 5)" in together.stdout


def test_a_study_of_checkpoints_speaks_of_checkpoints(cupel: Invoke, run: Path) -> None:
    Path("middle_or_end.toml").write_text(
        f"""
name = "middle_or_end"
question = "Is the end better than the middle?"
recipe = "rlvr.evaluate"
seeds = [1, 2, 3, 4, 5, 6]
endpoint = {{ metric = "eval/pass@4", over = "last" }}
config = {{ evaluation = {{ samples = 8, pass_at = [1, 4] }} }}

[[conditions]]
label = "middle"
config = {{ checkpoint = "{run}/checkpoints/step_000002" }}

[[conditions]]
label = "end"
config = {{ checkpoint = "{run}" }}
"""
    )
    plan = cupel("plan", "middle_or_end.toml")
    assert "the seeds of an evaluation draw samples, not trainings" in plan.stdout
    result = cupel("run", "middle_or_end.toml", "--executor", "inline", "--no-figures")
    assert result.exit_code == 0, result.output
    assert "Over 6 sampling seeds, end minus middle = " in result.stdout
    assert " pp in eval/pass@4" in result.stdout
    assert "holds for these checkpoints, never for the methods" in result.stdout
