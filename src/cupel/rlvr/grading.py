"""Verdicts on answers: correct, incorrect, or ungradable, and why.

Pure text work. Knows how to find an answer in a completion and how to compare two answers.
Refuses to guess: what cannot be read is ungradable, counted apart from what is wrong, and a
reference that is empty is an error in the data, never a free point.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from cupel.config import did_you_mean
from cupel.errors import ConfigError, DataError

GradingKind = Literal["boxed", "numeric", "string"]
Outcome = Literal["correct", "incorrect", "ungradable"]

KINDS: tuple[GradingKind, ...] = ("boxed", "numeric", "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The verdict on one completion.

    Attributes:
        outcome: `ungradable` when no answer could be read; it earns no reward and is counted apart.
        answer_found: the answer as read from the completion, None where there was none.
        reason: one clause saying why the outcome is not `correct`; empty when it is.
    """

    outcome: Outcome
    answer_found: str | None
    reason: str = ""

    @property
    def reward(self) -> float:
        """1 for a correct answer, else 0."""
        return 1.0 if self.outcome == "correct" else 0.0

    @property
    def correct(self) -> bool | None:
        """True or False, or None where the completion was ungradable."""
        return None if self.outcome == "ungradable" else self.outcome == "correct"


def grade(completion: str, answer: str, kind: GradingKind) -> Grade:
    r"""Grade one completion against the reference answer.

    `boxed` reads the last `\boxed{...}` with balanced braces, `numeric` the last number in the
    text, `string` the whole text. Answers are equal as numbers when both are numbers (1/2 = 0.5,
    1,000 = 1000.0, 50% = 0.5), else as text after whitespace and LaTeX spacing are removed.

    >>> grade(r"so the answer is \boxed{\frac{1}{2}}", "0.5", "boxed").outcome
    'correct'

    Raises:
        DataError: the reference answer is empty.
        ConfigError: the kind is unknown.
    """
    if not answer.strip():
        raise DataError("grade: the reference answer is empty; mend or drop the problem")
    match kind:
        case "boxed":
            found, reason = find_boxed(completion)
        case "numeric":
            found, reason = _last_number(completion)
        case "string":
            found, reason = _whole_text(completion)
        case _:
            raise ConfigError(f"grading kind '{kind}' is unknown; {did_you_mean(kind, KINDS)}")
    if found is None:
        return Grade(outcome="ungradable", answer_found=None, reason=reason)
    if same_answer(found, answer):
        return Grade(outcome="correct", answer_found=found)
    return Grade(outcome="incorrect", answer_found=found, reason=f"{found!r} is not {answer!r}")


def grade_batch(
    completions: Sequence[str], answers: Sequence[str], kind: GradingKind
) -> list[Grade]:
    """Grade completions against answers, one to one.

    Raises:
        DataError: the two differ in length, or a reference answer is empty (names the row).
    """
    if len(completions) != len(answers):
        raise DataError(
            f"grade_batch: {len(completions)} completions but {len(answers)} answers; "
            "give one answer a completion"
        )
    for row, answer in enumerate(answers):
        if not answer.strip():
            raise DataError(f"grade_batch: the answer of row {row} is empty; mend the problem")
    return [
        grade(completion, answer, kind)
        for completion, answer in zip(completions, answers, strict=True)
    ]


def find_boxed(text: str) -> tuple[str | None, str]:
    r"""Return the content of the last `\boxed{...}`, or None and the reason why there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None, "no \\boxed{...} in the completion"
    begin = start + len("\\boxed{")
    depth = 1
    position = begin
    while position < len(text):
        match text[position]:
            case "\\":
                position += 1  # an escaped brace is text, not structure
            case "{":
                depth += 1
            case "}":
                depth -= 1
                if depth == 0:
                    content = text[begin:position].strip()
                    return (content, "") if content else (None, "the last \\boxed{} is empty")
        position += 1
    return None, "the last \\boxed{ is never closed"


def same_answer(found: str, answer: str) -> bool:
    """Say whether two answers are equal as numbers, or else as normalised text."""
    left, right = _normalised(found), _normalised(answer)
    if left == right:
        return True
    left_number, right_number = _number(left), _number(right)
    return left_number is not None and left_number == right_number


def gold_text(answer: str, kind: GradingKind) -> str:
    """Return a completion that states the answer as the grading kind wants it."""
    return f"\\boxed{{{answer}}}" if kind == "boxed" else answer


def perturbed(answer: str) -> str:
    """Return an answer that differs from the given one: the number plus one, or other text."""
    number = _number(_normalised(answer))
    return f"{answer} x" if number is None else str(number + 1)


_LONGEST_NUMBER = 400  # a longer run of digits is babble, and costly to convert
_SPACING = re.compile(
    r"\\[!,;: ]|\s+|\\left(?![a-z])|\\right(?![a-z])|\\(?:text|mathrm)(?=\{)|\$|~"
)
_FRACTION = re.compile(r"([+-]?)\\frac\{?([0-9]+)\}?\{?([0-9]+)\}?")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:/[0-9]+)?")
_THOUSANDS = re.compile(r"[+-]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]*)?%?")
_NUMBER_IN_TEXT = re.compile(
    r"(?<![0-9.])[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?(?:/[0-9]+)?%?"
)


def _last_number(text: str) -> tuple[str | None, str]:
    numbers = _NUMBER_IN_TEXT.findall(text)
    return (numbers[-1], "") if numbers else (None, "no number in the completion")


def _whole_text(text: str) -> tuple[str | None, str]:
    stripped = text.strip()
    return (stripped, "") if stripped else (None, "the completion is empty")


def _normalised(answer: str) -> str:
    """Drop what never changes an answer's meaning: spacing, sizing, dollar signs, a final stop."""
    text = answer.replace("\\$", "").replace("\\%", "%").replace("\\dfrac", "\\frac")
    text = text.replace("\\tfrac", "\\frac")
    text = _SPACING.sub("", text).replace("^{\\circ}", "").replace("^\\circ", "")
    text = text.rstrip(".") if not text.endswith("..") else text
    return text.replace(",", "") if _THOUSANDS.fullmatch(text) else text


def _number(text: str) -> Fraction | None:
    """Read a normalised answer as an exact number, or None where it is not one."""
    if len(text) > _LONGEST_NUMBER:
        return None
    scale = Fraction(1)
    if text.endswith("%"):
        text, scale = text[:-1], Fraction(1, 100)
    fraction = _FRACTION.fullmatch(text)
    if fraction is not None:
        sign, over, under = fraction.groups()
        return scale * Fraction(int(sign + over), int(under)) if int(under) else None
    if not _PLAIN.fullmatch(text):
        return None
    over, _, under = text.partition("/")
    if under and not int(under):
        return None
    return scale * Fraction(over) / (int(under) if under else 1)
