"""Graders in processes of their own: what they accept, what they refuse, and that nothing hangs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cupel.errors import ConfigError, DataError, GateFailure
from cupel.rlvr.graders import (
    CustomGrader,
    MathGrader,
    check_failures,
    check_grader,
    describe_grader,
    grader_of,
)
from cupel.rlvr.grading import Grade
from cupel.rlvr.grading_pool import WorkerPool
from cupel.rlvr.grading_worker import MATH
from cupel.rlvr.problems_config import ProblemsConfig

USERS = "tests.rlvr.graders_of_users"


def boxed(*answers: str) -> list[str]:
    return [f"so it is \\boxed{{{answer}}}." for answer in answers]


def custom(name: str, **settings: float) -> ProblemsConfig:
    return ProblemsConfig(grading="custom", grading_function=f"{USERS}:{name}", **settings)  # type: ignore[arg-type]


def test_algebra_decides_what_text_cannot() -> None:
    pytest.importorskip("math_verify")
    pairs = [
        (r"(x-1)(x+1)", "x^2-1", "correct"),
        (r"1+2x", "2x+1", "correct"),
        (r"y=1+2x", "y=2x+1", "correct"),
        (r"y=1+3x", "y=2x+1", "incorrect"),
        (r"2,1", r"\{1,2\}", "correct"),
        (r"2,3", r"\{1,2\}", "incorrect"),
        (r"[2,5)", "[2, 5)", "correct"),
        (r"(2,5)", "[2,5)", "incorrect"),
        (r"[-1,1]", r"-1 \le x \le 1", "correct"),
        (r"(3,\infty) \cup (-\infty,2)", r"(-\infty, 2) \cup (3, \infty)", "correct"),
        (r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", "correct"),
        (r"18 \text{ dollars}", "18", "correct"),
        (r"50", r"50\%", "correct"),
        (r"0.333333", r"\frac{1}{3}", "correct"),
        (r"0.33", r"\frac{1}{3}", "incorrect"),
        (r"\text{Evelyn}", r"\text{Angela}", "incorrect"),
        (r"12_5", "12_3", "incorrect"),
        (r"\left(", "5", "ungradable"),
    ]
    grader = grader_of(ProblemsConfig(grading="math"))
    grades = grader.grade(boxed(*(found for found, _, _ in pairs)), [gold for _, gold, _ in pairs])
    assert [grade.outcome for grade in grades] == [outcome for _, _, outcome in pairs]
    assert grades[-1].cause == "unparsable"
    assert not grades[-1].grader_failed
    assert grader.grade(["no box"], ["5"])[0].cause == "unparsable"
    with pytest.raises(DataError, match="row 0 is empty"):
        grader.grade(boxed("1"), [" "])


HOSTILE = [
    r"9^{9^{9^{9}}}",
    r"(10^{9})!",
    "{" * 900 + "1" + "}" * 900,
    r"\binom{10^9}{5\cdot10^8}",
    r"(x+y+z)^{400}",
]


def test_hostile_answers_hang_nothing_and_the_pool_survives() -> None:
    pytest.importorskip("math_verify")
    pool = WorkerPool(MATH, deadline_s=0.5)
    grader = MathGrader(pool)
    before = time.monotonic()
    completions = boxed(*HOSTILE, "9" * 1_000_001, r"\frac{" * 5000, "1+5x", "5x")
    grades = grader.grade(completions, ["5x+1"] * len(completions))
    assert time.monotonic() - before < 120
    for grade in grades[: len(HOSTILE)]:
        assert (grade.outcome, grade.cause) == ("ungradable", "timeout")
        assert "0.5 s of processor time" in grade.reason
        assert grade.reward == 0.0
        assert grade.correct is None
    assert [grade.cause for grade in grades[len(HOSTILE) : -2]] == ["unparsable", "unparsable"]
    assert [grade.outcome for grade in grades[-2:]] == ["correct", "incorrect"]
    assert pool.started > 2
    pool.close()
    assert grader.grade(boxed("1+5x"), ["5x+1"])[0].outcome == "correct"
    pool.close()


def test_a_users_grader_judges_completions() -> None:
    grader = grader_of(custom("by_word"))
    grades = grader.grade(["it is red", "it is blue", " "], ["red"] * 3)
    assert [grade.outcome for grade in grades] == ["correct", "incorrect", "ungradable"]
    assert grades[2].cause == "unparsable"


def test_a_users_grader_that_fails_is_an_outcome() -> None:
    pool = WorkerPool(f"{USERS}:broken", deadline_s=0.3)
    ways = ["raise", "number", "die", "sleep", "spin", "red", "blue"]
    grades = CustomGrader(pool).grade(ways, ["red"] * len(ways))
    assert [grade.cause for grade in grades] == [
        "error",
        "error",
        "error",
        "timeout",
        "timeout",
        None,
        None,
    ]
    assert "ValueError: no such colour: red" in grades[0].reason
    assert "return True, False or None" in grades[1].reason
    assert "exit code 7" in grades[2].reason
    assert "by the clock" in grades[3].reason
    assert "processor time" in grades[4].reason
    assert [grade.outcome for grade in grades[5:]] == ["correct", "incorrect"]
    pool.close()


def test_graders_that_cannot_be_loaded_are_named_before_the_run() -> None:
    with pytest.raises(ConfigError, match="there is no module 'absent_module'"):
        check_grader(ProblemsConfig(grading="custom", grading_function="absent_module:f"))
    for name, message in (("absent", "has no attribute"), ("NOT_A_FUNCTION", "not a function")):
        with pytest.raises(ConfigError, match=message):
            grader_of(custom(name)).grade(["a"], ["b"])


def test_the_record_names_the_grader() -> None:
    pytest.importorskip("math_verify")
    assert describe_grader(ProblemsConfig()) == {"grading": "boxed", "rules": 2}
    described = describe_grader(ProblemsConfig(grading="math"))
    assert set(described["libraries"]) >= {"math-verify", "sympy"}
    assert described["deadline_s"] == 5.0
    own = describe_grader(custom("lax"))
    assert own["function"] == f"{USERS}:lax"
    assert len(own["module_sha256"]) == 64


def failing(failed: int, total: int) -> list[Grade]:
    bad = Grade(outcome="ungradable", answer_found="x", reason="too slow", cause="timeout")
    unread = Grade(outcome="ungradable", answer_found=None, reason="no box", cause="unparsable")
    return [bad] * failed + [unread] * (total - failed)


def test_a_grader_that_fails_often_stops_the_run() -> None:
    check_failures(failing(0, 64), 0.0)
    check_failures(failing(2, 16), 0.05)
    check_failures(failing(8, 64), 0.05)
    with pytest.raises(GateFailure, match=r"failed on 20 of 64 completions.*too slow"):
        check_failures(failing(20, 64), 0.05)
    with pytest.raises(GateFailure, match="max_grader_failure_rate = 0 allows"):
        check_failures(failing(1, 64), 0.0)


def test_no_worker_outlives_its_caller(tmp_path: Path) -> None:
    code = (
        "import os, sys; from cupel.rlvr.grading_pool import WorkerPool;"
        f"pool = WorkerPool('{USERS}:lax', deadline_s=1.0); pool.compare([('a', 'b')]);"
        "print(pool._workers[0].process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    worker = int(done.stdout)
    until = time.monotonic() + 20
    while time.monotonic() < until and Path(f"/proc/{worker}").exists():
        if Path(f"/proc/{worker}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert not Path(f"/proc/{worker}").exists()


def test_importing_graders_loads_neither_torch_nor_sympy() -> None:
    check = (
        "import sys, cupel.rlvr.graders, cupel.rlvr.problems, cupel.testing;"
        "heavy = {'torch', 'sympy', 'math_verify', 'datasets', 'pyarrow'};"
        "sys.exit(bool(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
