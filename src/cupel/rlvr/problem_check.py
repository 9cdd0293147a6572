"""Proof that a grader fits its problems: gold passes, a wrong answer in the right form fails.

Knows problems and graders. Refuses to know how either is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cupel.rlvr.graders import Grader
from cupel.rlvr.grading import Grade, GradingKind
from cupel.rlvr.perturbation import perturbations
from cupel.rlvr.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer that was not graded as it should be.

    Attributes:
        problem_id: the problem.
        change: what was changed in the reference; empty for the reference itself.
        text: the answer that was graded.
        outcome, reason: the verdict.
    """

    problem_id: str
    change: str
    text: str
    outcome: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemCheck:
    """What `check_problems` found.

    Attributes:
        checked: how many problems were tried.
        perturbed: how many wrong answers were tried.
        gold_failed: reference answers that are not graded correct.
        perturbed_passed: wrong answers that are graded correct.
        ungradable: wrong answers that could not be graded.
    """

    checked: int
    perturbed: int
    gold_failed: tuple[Finding, ...]
    perturbed_passed: tuple[Finding, ...]
    ungradable: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """True when every reference passes and every wrong answer is graded incorrect."""
        return not self.gold_failed and not self.perturbed_passed and not self.ungradable


def check_problems(problems: Sequence[Problem], grader: Grader, kind: GradingKind) -> ProblemCheck:
    """Try a grader on each problem's reference and on wrong answers of the same form.

    Args:
        kind: says how an answer is stated in a completion: in a box (boxed, math), or bare.
    """
    answers = [problem.answer for problem in problems]
    gold = grader.grade([gold_text(answer, kind) for answer in answers], answers)
    tried = [
        (problem, change, wrong)
        for place, problem in enumerate(problems)
        for change, wrong in perturbations(
            problem.answer, answers[place + 1 :] + answers[:place]
        ).items()
    ]
    wrong_grades = grader.grade(
        [gold_text(wrong, kind) for _, _, wrong in tried],
        [problem.answer for problem, _, _ in tried],
    )
    findings = [
        _finding(problem, change, wrong, grade)
        for (problem, change, wrong), grade in zip(tried, wrong_grades, strict=True)
    ]
    return ProblemCheck(
        checked=len(problems),
        perturbed=len(tried),
        gold_failed=tuple(
            _finding(problem, "", problem.answer, grade)
            for problem, grade in zip(problems, gold, strict=True)
            if grade.outcome != "correct"
        ),
        perturbed_passed=tuple(one for one in findings if one.outcome == "correct"),
        ungradable=tuple(one for one in findings if one.outcome == "ungradable"),
    )


def gold_text(answer: str, kind: GradingKind) -> str:
    """Return a completion that states the answer as the grading kind wants it."""
    return f"\\boxed{{{answer}}}" if kind in ("boxed", "math") else answer


def _finding(problem: Problem, change: str, text: str, grade: Grade) -> Finding:
    return Finding(
        problem_id=problem.id,
        change=change,
        text=text,
        outcome=grade.outcome,
        reason=grade.reason,
    )
