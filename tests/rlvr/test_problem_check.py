"""Gold passes, a wrong answer of the same form fails: on real problems; exceptions by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cupel.config import validate
from cupel.errors import UsageError
from cupel.rlvr.graders import TextGrader, grader_of
from cupel.rlvr.grading_pool import WorkerPool
from cupel.rlvr.grading_worker import MATH
from cupel.rlvr.perturbation import perturbations
from cupel.rlvr.problems import Problem, ProblemsConfig, load_problems
from cupel.rlvr.problems_config import MATH_SUBJECTS
from cupel.testing import check_problem_set, check_problems
from tests.rlvr.samples import sample, sample_rows

GOLD_EXCEPTIONS: dict[str, str] = {}
"""Reference answers of the real samples that our grader does not accept, by problem id, and why."""

PERTURBED_EXCEPTIONS: dict[tuple[str, str], str] = {}
"""Wrong answers that are not graded incorrect, by problem id and change, and why."""


@pytest.mark.parametrize(
    ("answer", "changes"),
    [
        ("12", {"first_number": "13", "sign": "-12"}),
        ("-12", {"first_number": "-13", "sign": "12"}),
        ("10,800", {"first_number": "11,800", "last_number": "10,801"}),
        (r"\frac{8}{15}", {"first_number": r"\frac{9}{15}", "last_number": r"\frac{8}{16}"}),
        ("(3,4]", {"first_number": "(4,4]", "last_number": "(3,5]", "endpoint": "[3,4]"}),
        (r"(-\infty,0]", {"first_number": r"(-\infty,1]", "endpoint": r"(-\infty,0)"}),
        (r"\{1,2\}", {"first_number": r"\{2,2\}", "member": r"\{1,2, 98765\}"}),
        ("1,2", {"last_number": "1,3", "member": "1,2, 98765"}),
        (r"\pi", {"added": r"\pi + 1"}),
        (r"864 \mbox{ inches}^2", {"first_number": r"865 \mbox{ inches}^2"}),
        (r"\text{even}", {"words": r"\text{odd}"}),
        ("x=5", {"first_number": "x=6"}),
    ],
)
def test_a_perturbation_changes_the_value_and_keeps_the_form(
    answer: str, changes: dict[str, str]
) -> None:
    found = perturbations(answer, [r"\text{Even}", "7", r"\text{odd}"])
    assert changes.items() <= found.items()
    assert answer not in found.values()


def test_words_without_others_are_negated() -> None:
    assert perturbations(r"\text{even}") == {"words": r"\text{not even}"}


@pytest.mark.parametrize("source", ["arithmetic", "toy"])
def test_embedded_problems_pass_their_own_check(source: str) -> None:
    config = validate(ProblemsConfig, {"source": source}, where="test")
    problems = load_problems(config).training(np.random.default_rng(0), 200)
    check = check_problems(problems, grader_of(config), config.grading_kind)
    assert check.ok
    assert check.checked == 200
    assert check.perturbed >= 200


def test_the_check_finds_problems_their_grading_cannot_read() -> None:
    problem = Problem(id="words", prompt="name a colour", answer="red")
    check = check_problems([problem], TextGrader("numeric"), "numeric")
    assert [one.problem_id for one in check.gold_failed] == ["words"]
    assert not check.ok


def test_the_check_finds_a_grader_that_lets_everything_pass(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"problem": "a", "answer": "7"}\n')
    settings = {"source": "jsonl", "path": str(path), "grading": "custom"}
    check = check_problem_set(settings | {"grading_function": "tests.rlvr.graders_of_users:lax"})
    assert not check.gold_failed
    assert {one.change for one in check.perturbed_passed} == {"first_number", "sign"}
    assert not check.ok


def test_an_endless_source_has_no_set_to_check() -> None:
    with pytest.raises(UsageError, match="give them to check_problems"):
        check_problem_set({"source": "arithmetic"})


def test_real_mathematics_passes_the_check() -> None:
    pytest.importorskip("math_verify")
    path = sample("math_sample.jsonl")
    config = ProblemsConfig(source="math", path=str(path), subjects=list(MATH_SUBJECTS))
    check = check_problem_set(config.model_dump())
    assert check.checked == 250
    assert check.perturbed >= 500
    assert {one.problem_id for one in check.gold_failed} <= set(GOLD_EXCEPTIONS)
    wrong = [*check.perturbed_passed, *check.ungradable]
    assert {(one.problem_id, one.change) for one in wrong} <= set(PERTURBED_EXCEPTIONS)
    rows = sample_rows("math_sample.jsonl")
    grades = grader_of(config).grade(
        [row["solution"] for row in rows], [row["answer"] for row in rows]
    )
    assert sum(one.outcome == "correct" for one in grades) / len(grades) >= 0.99
    assert len(check.perturbed_passed) / check.perturbed <= 0.005


def test_algebra_alone_accepts_the_real_references() -> None:
    pytest.importorskip("math_verify")
    answers = [row["answer"] for row in sample_rows("math_sample.jsonl")]
    pool = WorkerPool(MATH, deadline_s=5.0)
    verdicts = pool.compare([(answer, answer) for answer in answers])
    pool.close()
    assert [
        answer for answer, one in zip(answers, verdicts, strict=True) if one.outcome != "correct"
    ] == []


def test_real_school_problems_pass_the_check() -> None:
    pytest.importorskip("math_verify")
    check = check_problem_set({"source": "gsm8k", "path": str(sample("gsm8k_sample.jsonl"))})
    assert check.ok
    assert check.checked == 660
    assert check.perturbed >= 1300
