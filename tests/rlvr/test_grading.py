"""Grading: what counts as an answer, what counts as equal, and what is never a zero."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cupel.errors import ConfigError, DataError
from cupel.rlvr.grading import (
    certain_verdict,
    find_boxed,
    grade,
    grade_batch,
    reference_answer,
    same_answer,
)
from tests.rlvr.samples import sample_rows


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{61}", "61"),
        (r"first \boxed{1} then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}} .", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a\}b}", r"a\}b"),
        (r"\boxed{ 7 }", "7"),
    ],
)
def test_the_last_boxed_answer_is_found(text: str, content: str) -> None:
    assert find_boxed(text) == (content, "")


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("the answer is 61", "boxed", "no \\boxed{...} in the completion"),
        (r"\boxed{1} and \boxed{61", "boxed", "the last \\boxed{ is never closed"),
        (r"\boxed{}", "boxed", "the last \\boxed{} is empty"),
        ("", "boxed", "no \\boxed{...} in the completion"),
        ("no idea", "numeric", "no number in the completion"),
        ("  \n", "string", "the completion is empty"),
    ],
)
def test_unreadable_answers_are_ungradable_with_a_reason(text: str, kind: str, reason: str) -> None:
    result = grade(text, "61", kind)  # type: ignore[arg-type]
    assert result.outcome == "ungradable"
    assert result.reason == reason
    assert result.answer_found is None
    assert result.cause == "unparsable"
    assert not result.grader_failed
    assert result.correct is None
    assert result.reward == 0.0


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1/2", "0.5"),
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac12", "1/2"),
        ("-\\frac{9}{3}", "-3"),
        ("1,000", "1000"),
        ("1,234,567.50", "1234567.5"),
        ("50%", "0.5"),
        (r"50\%", "50%"),
        ("3.1400", "3.14"),
        ("+7", "7"),
        ("007", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        (r"\$18", "18"),
        ("x + 1", "x+1"),
        (r"\left(3, \frac{\pi}{2}\right)", r"(3,\frac{\pi}{2})"),
        (r"90^\circ", "90"),
        (r"\text{Evelyn}", "{Evelyn}"),
    ],
)
def test_equal_answers(left: str, right: str) -> None:
    assert same_answer(left, right)
    assert same_answer(right, left)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("1/2", "0.50001"),
        ("12", "1,2"),
        ("1,2", "12"),
        ("50%", "50"),
        ("1/0", "1"),
        (r"\frac{1}{0}", "1/0 "),
        ("x+1", "1+x "),
        ("61", "16"),
        ("-3", "3"),
        ("6 1 a", "61"),
        ("nan", "1"),
        ("1e5", "100000"),
    ],
)
def test_unequal_answers(left: str, right: str) -> None:
    assert not same_answer(left, right)


def test_the_last_number_of_a_text_counts() -> None:
    assert grade("3 + 4 = 7, so 8.5.", "8.5", "numeric").outcome == "correct"
    assert grade("from 10 to 3-2", "2", "numeric").outcome == "correct"
    assert grade("it is -4", "-4", "numeric").outcome == "correct"
    assert grade("it is 1,250 in all", "1250", "numeric").outcome == "correct"
    assert grade("wait 3 check 7", "3", "numeric").outcome == "incorrect"


def test_a_wrong_answer_says_what_was_found() -> None:
    result = grade(r"\boxed{60}", "61", "boxed")
    assert result.outcome == "incorrect"
    assert result.answer_found == "60"
    assert result.reason == "'60' is not '61'"
    assert result.correct is False


def test_an_empty_reference_is_never_a_free_point() -> None:
    with pytest.raises(DataError, match="reference answer is empty"):
        grade(r"\boxed{}", " ", "boxed")
    with pytest.raises(DataError, match="row 1"):
        grade_batch(["1", ""], ["1", ""], "string")


def test_a_batch_is_graded_row_by_row() -> None:
    outcomes = [
        g.outcome for g in grade_batch([r"\boxed{1}", r"\boxed{2}", "3"], ["1"] * 3, "boxed")
    ]
    assert outcomes == ["correct", "incorrect", "ungradable"]
    with pytest.raises(DataError, match="2 completions but 1 answers"):
        grade_batch(["1", "2"], ["1"], "string")


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'boxed'"):
        grade("1", "1", "boxd")  # type: ignore[arg-type]


def test_babble_of_digits_is_wrong_and_cheap() -> None:
    assert grade(f"\\boxed{{{'9' * 100_000}}}", "9", "boxed").outcome == "incorrect"


@given(st.text(), st.sampled_from(["boxed", "numeric", "string"]))
def test_no_text_can_break_the_grader(text: str, kind: str) -> None:
    assert grade(text, "1", kind).outcome in ("correct", "incorrect", "ungradable")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "answer", "certain"),
    [
        ("x + 1", "x+1", True),
        (r"\frac{2}{4}", "0.5", True),
        ("12", "13", False),
        ("-12", "12", False),
        (".0000673", ".0000672", False),
        (r"\frac{1}{3}", r"\frac{2}{3}", False),
        ("0.333333", r"\frac{1}{3}", None),
        ("50", r"50\%", None),
        (r"51\%", r"50\%", False),
        ("204_5", "204_{5}", True),
        ("204_6", "204_5", False),
        ("204", "204_5", None),
        ("Even", r"\text{even}", True),
        (r"\textbf{(C)}", r"\text{(C)}", True),
        ("C", r"\text{(C)}", True),
        ("odd", r"\text{even}", False),
        ("neve", r"\text{even}", False),
        ("1+x", "x+1", None),
        ("(1,2)", "(1,3)", None),
    ],
)
def test_text_decides_only_where_it_is_certain(
    found: str, answer: str, certain: bool | None
) -> None:
    assert certain_verdict(found, answer) is certain


@given(st.fractions(), st.fractions())
def test_a_certain_verdict_on_fractions_is_true(left: Fraction, right: Fraction) -> None:
    verdict = certain_verdict(str(left), str(right))
    assert verdict is None or verdict == (left == right)


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        (r"so $r = \boxed{3}.$", "3"),
        (r"\boxed{1} or $\boxed 5$.", "5"),
        (r"first \boxed 7$, then $\fbox{\frac{1}{2}}$", r"\frac{1}{2}"),
        (r"no box", None),
        (r"\boxed{}", None),
    ],
)
def test_a_worked_solution_ends_with_its_reference(solution: str, answer: str | None) -> None:
    assert reference_answer(solution) == answer


def test_a_box_of_one_token_is_for_references_only() -> None:
    assert find_boxed(r"so \boxed 5$")[0] is None
    assert find_boxed(r"so \boxed {5} and \fbox{6}") == ("6", "")


def test_half_without_braces_is_a_half() -> None:
    assert same_answer(r"\frac12", "0.5")
    assert not same_answer(r"\frac123", "4")
    assert same_answer(r"\frac{20}7", "20/7")


def test_gold_solutions_of_real_samples_are_graded_correct() -> None:
    for row in sample_rows("math_sample.jsonl"):
        assert grade(row["solution"], row["answer"], "boxed").outcome == "correct"
        assert reference_answer(row["solution"]) == row["answer"]
    for row in sample_rows("gsm8k_sample.jsonl"):
        answer = row["answer"].split("####")[1]
        assert grade(row["answer"], answer, "numeric").outcome == "correct"
