"""The grader a config names: text rules in this process, algebra and users' functions in others.

Knows which grading kind needs what, and how a grader is named in a run's record. Refuses to compare
answers itself. Text decides first, where text alone is certain; what is left goes to the pool. A
grader that fails on too many completions stops the run: such numbers would measure the grader.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from cupel.errors import ConfigError, GateFailure, MissingExtraError
from cupel.rlvr.grading import (
    LONGEST_ANSWER,
    RULES_VERSION,
    Grade,
    TextKind,
    certain_verdict,
    check_answers,
    find_boxed,
    grade_batch,
    unanswered,
)
from cupel.rlvr.grading_pool import Answer, WorkerPool
from cupel.rlvr.grading_worker import MATH
from cupel.rlvr.problems_config import ProblemsConfig
from cupel.stats.intervals import clopper_pearson

LIBRARIES = ("math-verify", "latex2sympy2-extended", "sympy", "antlr4-python3-runtime")
"""What a verdict of the kind `math` depends on, besides our own rules."""

FAILURE_ALPHA = 0.001
"""Chance of stopping a run whose true failure rate is the very limit."""


class Grader(Protocol):
    """Grades completions against reference answers, one to one."""

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Grade]:
        """Return one grade a completion; refuse empty references."""
        ...


def grader_of(config: ProblemsConfig) -> Grader:
    """Return the grader that a config names; worker processes are shared within this process.

    Raises:
        MissingExtraError: the kind `math` without the math-verify library.
    """
    check_grader(config)
    match config.grading_kind:
        case "math":
            return MathGrader(_pool(os.getpid(), MATH, config.grading_deadline_s))
        case "custom":
            assert config.grading_function is not None  # the config's validator saw to it
            return CustomGrader(
                _pool(os.getpid(), config.grading_function, config.grading_deadline_s)
            )
        case "boxed" | "numeric" | "string" as kind:
            return TextGrader(kind)


def check_grader(config: ProblemsConfig) -> None:
    """Refuse a grader that is not installed, before anything runs.

    Raises:
        MissingExtraError: the kind `math` without the math-verify library.
        ConfigError: the module of a custom grader is not to be found.
    """
    if config.grading_kind == "math" and importlib.util.find_spec("math_verify") is None:
        raise MissingExtraError("problems.grading = 'math'", "math")
    if config.grading_kind == "custom":
        _source_of(config)


def describe_grader(config: ProblemsConfig) -> dict[str, Any]:
    """Return what a verdict depends on: kind, rules, versions, deadline; for the run's record."""
    described: dict[str, Any] = {"grading": config.grading_kind, "rules": RULES_VERSION}
    match config.grading_kind:
        case "math":
            described["libraries"] = {name: version(name) for name in LIBRARIES}
        case "custom":
            described["function"] = config.grading_function
            described["module_sha256"] = hashlib.sha256(_source_of(config).read_bytes()).hexdigest()
        case _:
            return described
    return described | {"deadline_s": config.grading_deadline_s}


def check_failures(grades: Sequence[Grade], limit: float) -> None:
    """Stop a run whose grader fails on more completions than a limit allows.

    A batch is a sample: what is compared is the lower end of the exact 99.9 % interval of the
    failure rate, so that two time-outs in a small batch stop nothing.

    Raises:
        GateFailure: time-outs and errors of the grader are too many.
    """
    failed = [grade for grade in grades if grade.grader_failed]
    if not failed or clopper_pearson(len(failed), len(grades), alpha=FAILURE_ALPHA).low <= limit:
        return
    raise GateFailure(
        f"grading: the grader failed on {len(failed)} of {len(grades)} completions, more than "
        f"problems.max_grader_failure_rate = {limit:g} allows; the first: {failed[0].reason} on "
        f"{(failed[0].answer_found or 'a completion')[:80]!r}. Raise problems.grading_deadline_s, "
        "or mend the grader: a failure is no wrong answer"
    )


class TextGrader:
    """Grades by text and exact numbers alone."""

    def __init__(self, kind: TextKind) -> None:
        self._kind: TextKind = kind

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Grade]:
        """Grade every completion; see `grading.grade`."""
        return grade_batch(completions, answers, self._kind)


class MathGrader:
    """Grades the last box: by text where that is certain, by algebra elsewhere."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Grade]:
        """Grade every completion; equal pairs are compared once.

        Raises:
            DataError: a reference answer is empty.
            InfrastructureFailure: the worker processes do not start.
        """
        check_answers(completions, answers)
        pairs = [
            (find_boxed(text), answer) for text, answer in zip(completions, answers, strict=True)
        ]
        first = [_without_algebra(box, answer) for box, answer in pairs]
        open_pairs = {
            (box[0] or "", answer): None
            for (box, answer), verdict in zip(pairs, first, strict=True)
            if verdict is None
        }
        compared = dict(zip(open_pairs, self._pool.compare(list(open_pairs)), strict=True))
        return [
            verdict or _grade(compared[box[0] or "", answer], box[0], answer)
            for (box, answer), verdict in zip(pairs, first, strict=True)
        ]


class CustomGrader:
    """Grades by a user's function of (completion, reference)."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool

    def grade(self, completions: Sequence[str], answers: Sequence[str]) -> list[Grade]:
        """Grade every completion; equal pairs are graded once.

        Raises:
            DataError: a reference answer is empty.
            ConfigError: the function cannot be loaded.
            InfrastructureFailure: the worker processes do not start.
        """
        check_answers(completions, answers)
        pairs = list(zip(completions, answers, strict=True))
        different = list(dict.fromkeys(pairs))
        compared = dict(zip(different, self._pool.compare(different), strict=True))
        return [_grade(compared[pair], None, pair[1]) for pair in pairs]


def _without_algebra(box: tuple[str | None, str], answer: str) -> Grade | None:
    """Return the grade where text alone is certain, else None."""
    found, reason = box
    if found is None:
        return unanswered(reason)
    if len(found) > LONGEST_ANSWER:
        return unanswered(f"an answer of {len(found)} characters; {LONGEST_ANSWER} are read")
    certain = certain_verdict(found, answer)
    if certain is None:
        return None
    return _grade(Answer(outcome="correct" if certain else "incorrect"), found, answer)


def _grade(verdict: Answer, found: str | None, answer: str) -> Grade:
    match verdict.outcome:
        case "correct":
            return Grade(outcome="correct", answer_found=found)
        case "incorrect":
            shown = "the answer" if found is None else repr(found[:80])
            return Grade(
                outcome="incorrect", answer_found=found, reason=f"{shown} is not {answer!r}"
            )
        case "unparsable":
            return unanswered(verdict.reason)
        case "timeout" | "error" as cause:
            return Grade(
                outcome="ungradable", answer_found=found, reason=verdict.reason, cause=cause
            )
        case other:
            raise AssertionError(f"a worker answered {other!r}")


@functools.lru_cache(maxsize=4)
def _pool(process: int, task: str, deadline_s: float) -> WorkerPool:
    """Return the pool of this process: a pool inherited through a fork is nobody's to use."""
    return WorkerPool(task, deadline_s=deadline_s)


def _source_of(config: ProblemsConfig) -> Path:
    assert config.grading_function is not None  # the config's validator saw to it
    module = config.grading_function.partition(":")[0]
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # a grader beside the study is found, however we were started
    try:
        spec = importlib.util.find_spec(module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise ConfigError(
            f"problems.grading_function = '{config.grading_function}': there is no module "
            f"'{module}'; install it, or run where it lies"
        )
    return Path(spec.origin)
